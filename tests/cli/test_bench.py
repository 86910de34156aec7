"""`tierflow bench` refuses what it can't do before it measures for minutes."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest

from tests.cli.commands import tierflow

if TYPE_CHECKING:
    from pathlib import Path


def test_one_wrong_name_among_right_ones_is_refused_with_those_there_are() -> None:
    done = tierflow("bench", "policy", "no_such")
    assert done.returncode == 2
    assert "no benchmark no_such; accepted: " in done.stderr
    assert "policy" in done.stderr.partition("accepted: ")[2]


def test_a_file_that_cannot_be_written_is_refused_first(tmp_path: Path) -> None:
    path = tmp_path / "none" / "figures.json"
    done = tierflow("bench", "policy", "--json", str(path))
    assert (done.returncode, done.stderr) == (2, f"tierflow: --json {path}: No such file or directory\n")


@pytest.mark.parametrize("content", ["", "[", "[1]", "\0"])
def test_files_to_compare_are_those_that_it_wrote(tmp_path: Path, content: str) -> None:
    for name in ("old", "new"):
        (tmp_path / name).write_text(content)
    done = tierflow("bench", "--compare", str(tmp_path / "old"), str(tmp_path / "new"))
    assert (done.returncode, done.stderr) == (
        2, "tierflow: --compare: accepted are two files that --json has written\n",
    )  # fmt: skip


@pytest.mark.skipif(sys.platform != "linux", reason="network namespaces are Linux'")
def test_what_needs_root_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    from click.testing import CliRunner

    from tierflow.cli.bench import command

    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    done = CliRunner().invoke(command, ["collector"])
    assert str(done.exception) == "bench collector: needs root for network namespaces and eBPF"
