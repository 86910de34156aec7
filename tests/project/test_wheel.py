"""What is in the folders is in the wheel."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
PACKAGES = ("schemas", "policy", "inventory", "collector", "streams", "sinks", "console", "lab")
SHIPPED = (".py", ".c", ".h")


def test_the_wheel_holds_every_module_and_every_ebpf_source(tmp_path: Path) -> None:
    # A copy, so that a build folder left in the tree neither hides a missing file nor is made.
    without = shutil.ignore_patterns(".git", ".venv", "node_modules", "__pycache__", "build", "*.egg-info")
    tree = shutil.copytree(PROJECT, tmp_path / "tree", symlinks=True, ignore=without)
    built = subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(tree)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    (wheel,) = tmp_path.glob("*.whl")
    inside = set(zipfile.ZipFile(wheel).namelist())

    expected = {
        f"tierflow/{path.relative_to(PROJECT)}"
        for package in PACKAGES
        for path in (PROJECT / package).rglob("*")
        if path.suffix in SHIPPED and "node_modules" not in path.parts
    }
    expected |= {
        f"tierflow/{path.relative_to(PROJECT / 'src/tierflow')}" for path in (PROJECT / "src").rglob("cli/*.py")
    }
    expected.add("tierflow/py.typed")
    assert expected - inside == set()


def test_every_folder_is_linked_under_the_import_name() -> None:
    for package in PACKAGES:
        link = PROJECT / "src/tierflow" / package
        assert link.is_symlink()
        assert link.resolve() == PROJECT / package
