"""The collector's image has the packages of the group `collector` only: with these it works, and the rest says so."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
WITHOUT = """
import sys
absent = set(sys.argv.pop(1).split(","))
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in absent:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
"""
EVERY_MODULE = """
import importlib, pkgutil, tierflow.collector
for module in pkgutil.iter_modules(tierflow.collector.__path__, "tierflow.collector."):
    importlib.import_module(module.name)
"""
MAIN = "from tierflow.cli.main import main; main()"


@pytest.fixture(scope="module")
def absent() -> str:
    """Names of the modules that this environment has and the collector's image lacks."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = {"tierflow"}
    pending = [canonicalize_name(Requirement(each).name) for each in project["dependency-groups"]["collector"]]
    while pending:
        name = pending.pop()
        if name in wanted:
            continue
        wanted.add(name)
        for text in importlib.metadata.requires(name) or ():
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                pending.append(canonicalize_name(requirement.name))
    lacking = {
        module
        for module, owners in importlib.metadata.packages_distributions().items()
        if not {canonicalize_name(owner) for owner in owners} & wanted and not module.startswith("_")
    }
    assert {"kubernetes", "faust", "duckdb", "elasticsearch", "uvicorn", "yaml"} <= lacking
    return ",".join(sorted(lacking))


def run(absent: str, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", WITHOUT + program, absent, *arguments],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


def test_every_module_of_the_collector_can_be_imported(absent: str) -> None:
    done = run(absent, EVERY_MODULE)
    assert done.returncode == 0, done.stderr


def test_collect_starts_and_looks_for_its_broker(absent: str, tmp_path: Path) -> None:
    settings = tmp_path / "tierflow.toml"
    settings.write_text('kafka = "127.0.0.1:1"\ndatabase = "a setting of another stage"\n')
    done = run(absent, MAIN, "--config", str(settings), "collect", "--source", "synthetic")
    assert "no Kafka broker answers" in done.stderr
    assert done.returncode == 3


@pytest.mark.parametrize("command", ["sink duckdb", "stream --kafka 127.0.0.1:1", "inventory", "console"])
def test_another_command_names_the_package_that_it_misses(absent: str, command: str) -> None:
    done = run(absent, MAIN, *command.split())
    assert done.stderr.startswith("tierflow: this command needs the Python package ")
    assert done.stderr.count("\n") == 1
    assert done.returncode == 3
