"""What tests take for left behind is really the run's: it is seen when it stays, and what others have is not."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest
from tests.belongings import Belongings
from tests.collector.network import inside

from tierflow.lab import command, namespaces, record
from tierflow.lab.scene import TABLES

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lab.conftest import Node


def test_a_process_with_the_runs_state_folder_is_its_own_and_one_with_another_is_not(tmp_path: Path) -> None:
    run = Belongings(tmp_path / "state1")
    for theirs, count in ((tmp_path / "state10", 0), (tmp_path / "state1", 1), (tmp_path / "state1" / "run", 1)):
        process = subprocess.Popen(["sleep", "60"], env=os.environ | {"TIERFLOW_STATE": str(theirs)})
        try:
            assert run.left()["processes"] == ["sleep 60 "] * count
        finally:
            process.kill()
            process.wait()
    assert run.processes() == []


@pytest.mark.root
def test_a_namespace_of_a_lab_once_recorded_is_its_own_and_another_labs_is_not(tmp_path: Path) -> None:
    run, own, other = Belongings(tmp_path), record.new_record(), record.new_record()
    record.save(tmp_path / "lab", own)
    run.note()
    (tmp_path / "lab" / "lab.json").unlink()
    for lab, found in ((other, []), (own, [f"{own.netns_prefix}left"])):
        name = f"{lab.netns_prefix}left"
        subprocess.run(["ip", "netns", "add", name], check=True)
        try:
            assert run.left()["namespaces"] == found
        finally:
            namespaces.remove_pod(name, None)
    assert not any(run.left().values())


@pytest.mark.root
def test_tables_of_a_lab_that_was_there_before_are_another_labs(node: Node, tmp_path: Path) -> None:
    record.save(tmp_path / "lab", record.new_record())

    def look() -> list[str]:
        command.run("nft", "add", "table", "ip", TABLES[0])
        run = Belongings(tmp_path)
        command.run("nft", "add", "table", "ip", TABLES[1])
        run.note()
        return run.left()["tables"]

    assert inside(node.name, look) == [TABLES[1]]
