"""The Compose Specification's reference loader, which Docker Compose itself uses, built from its Go module."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

from tests.conftest import absent
from tests.services.helm import cache_folder

VERSION = "v2.9.1"
COMMAND = f"github.com/compose-spec/compose-go/v2/cmd@{VERSION}"


def install() -> str:
    """Build the loader into the cache, unless it is there."""
    target = cache_folder() / f"compose-{VERSION}"
    if not (target / "compose-spec").exists():
        if shutil.which("go") is None:
            raise FileNotFoundError("no Go toolchain to build the Compose loader with: install Go 1.24 or newer")
        target.mkdir(parents=True, exist_ok=True)
        environment = os.environ | {"GOBIN": str(target), "CGO_ENABLED": "0"}
        subprocess.run(["go", "install", COMMAND], env=environment, check=True, capture_output=True)
        (target / "cmd").rename(target / "compose-spec")
    return f"compose-spec {VERSION}"


@pytest.fixture(scope="session")
def compose_spec() -> str:
    """Path of the loader: ``compose-spec --format json FILE`` prints the project, or says what is wrong."""
    path = cache_folder() / f"compose-{VERSION}" / "compose-spec"
    if not path.exists():
        absent("compose-spec is absent: `make services` builds it")
    return str(path)
