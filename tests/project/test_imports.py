"""Each import contract holds, and fails on a planted violation."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
PACKAGES = ("schemas", "policy", "inventory", "collector", "streams", "sinks", "console", "lab")

PLANTED = {
    "Each stage imports only what stands left of it": ("schemas", "import tierflow.policy"),
    "The console reads, it does not stream": ("console", "import tierflow.streams"),
    "Streams do not know collectors or sinks": ("streams", "import tierflow.sinks"),
    "Cores are pure": ("policy", "import asyncio"),
}


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("copy")
    (root / "src").mkdir()
    only_python = shutil.ignore_patterns("node_modules", "__pycache__", "web", "static")
    shutil.copytree(PROJECT / "src/tierflow", root / "src/tierflow", ignore=only_python)
    shutil.copy(PROJECT / "pyproject.toml", root)
    return root


def lint_imports(root: Path) -> str:
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(root / "src"), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )
    return f"exit {done.returncode}\n{done.stdout}{done.stderr}"


def test_all_contracts_are_kept(copy: Path) -> None:
    assert lint_imports(copy).startswith("exit 0"), lint_imports(copy)


@pytest.mark.parametrize("contract", sorted(PLANTED))
def test_a_planted_violation_breaks_its_contract(copy: Path, contract: str) -> None:
    package, line = PLANTED[contract]
    planted = copy / "src/tierflow" / package / "planted.py"
    planted.write_text(line + "\n")
    try:
        output = lint_imports(copy)
    finally:
        planted.unlink()
    assert output.startswith("exit 1"), output
    assert f"{contract} BROKEN" in output, output
