"""The page is built with the machine's Node where that is new enough; only else another is installed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "deploy" / "setup" / "page.sh"


def _tool(path: Path, body: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


@pytest.mark.parametrize(
    ("node", "installs"),
    [("echo v20.20.2", False), ("echo v22.1.0", False), ("echo v18.19.1", True), ("exit 127", True)],
)
def test_another_node_is_installed_only_where_the_machine_has_none_that_is_new_enough(
    tmp_path: Path, node: str, installs: bool
) -> None:
    script = tmp_path / "deploy" / "setup" / "page.sh"
    script.parent.mkdir(parents=True)
    shutil.copy(SCRIPT, script)
    done = tmp_path / "done"
    for tool in ("npm", "pip"):
        _tool(tmp_path / (".venv/bin" if tool == "pip" else "bin") / tool, f'echo "{tool} $*" >>{done}')
    _tool(tmp_path / "bin" / "node", node)

    subprocess.run([script], check=True, env={"PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin"}, capture_output=True)

    commands = done.read_text().splitlines()
    assert any(line.startswith("pip install") for line in commands) is installs
    assert [line.split()[3] for line in commands if line.startswith("npm")] == ["ci", "run"]
