"""Prometheus' own parser of rules and engine of queries, as a test binary built from its Go modules."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import absent
from tests.services.helm import cache_folder

VERSION = "v0.308.1"
MODULES = ("model/rulefmt", "promql/promqltest")
SOURCE = Path(__file__).parent / "promql" / "rules_test.go"


def binary() -> Path:
    """The built test binary."""
    return cache_folder() / f"prometheus-{VERSION}" / "promql.test"


def install() -> str:
    """Build it into the cache, unless it is there; a minute the first time."""
    folder = binary().parent
    if not binary().exists():
        if shutil.which("go") is None:
            raise FileNotFoundError("no Go toolchain to build Prometheus' parser with: install Go 1.24 or newer")
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(SOURCE, folder)
        (folder / "go.mod").write_text("module scratch\n\ngo 1.24\n")
        environment = os.environ | {"CGO_ENABLED": "0", "GOFLAGS": "-mod=mod"}
        packages = [f"github.com/prometheus/prometheus/{module}@{VERSION}" for module in MODULES]
        for argv in (["go", "get", *packages], ["nice", "go", "test", "-c", "-ldflags", "-s -w", "-o", ".new", "."]):
            subprocess.run(argv, cwd=folder, env=environment, check=True, capture_output=True)
        (folder / ".new").rename(binary())
    return f"rules and queries of Prometheus {VERSION}"


@dataclass(frozen=True, slots=True)
class Prometheus:
    """Judges rules and scripts by Prometheus' own code."""

    folder: Path

    def complaints(self, rules: str, script: str) -> str:
        """What is wrong with a file of rules, or differs from what a script of promqltest's language expects."""
        (self.folder / "rules.yaml").write_text(rules)
        (self.folder / "script.test").write_text(script)
        paths = {"RULES": str(self.folder / "rules.yaml"), "SCRIPT": str(self.folder / "script.test")}
        done = subprocess.run(
            [binary(), "-test.v"], env=os.environ | paths, cwd=self.folder, capture_output=True, text=True, check=False
        )
        ran = "--- PASS: TestRules" in done.stdout and "--- PASS: TestScript" in done.stdout
        return "" if done.returncode == 0 and ran else done.stdout + done.stderr


@pytest.fixture
def prometheus(tmp_path: Path) -> Prometheus:
    """Prometheus' parser and engine."""
    if not binary().exists():
        absent("Prometheus' parser is absent: `make services` builds it")
    return Prometheus(tmp_path)
