"""What tests take for left behind is really the run's: it is seen when it stays, and what others have is not."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest
from tests.belongings import Belongings

from tierflow.lab import namespaces, record

if TYPE_CHECKING:
    from pathlib import Path


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
