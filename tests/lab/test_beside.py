"""Commands of the lab that run beside one another, or beside a program's end."""

from __future__ import annotations

import fcntl
import signal
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.lab.test_manifests import storefront

from tierflow.cli.up import lab_folder
from tierflow.lab import namespaces, pods, processes, record
from tierflow.lab.scene import Lab, LabSettings
from tierflow.schemas.clock import ManualClock

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tierflow.lab.record import Pod

ABSENT = {"served": 0, "in_flight": 0, "paused": True, "calls": {}}


@pytest.fixture
def pod() -> Pod:
    return pods.new_pod(storefront()["storefront/frontend"], "10.244.0.9", "tierflow-x-", ManualClock())


@pytest.fixture
def lab(tmp_path: Path, pod: Pod) -> Lab:
    record.save(tmp_path, replace(record.new_record(), complete=True, pods=(pod,)))
    return Lab(LabSettings(tmp_path, lab_folder()), ManualClock())


def test_programs_are_paused_and_resumed_while_no_other_command_starts_any(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def begin(_: Iterable[Pod]) -> None:
        with (tmp_path / "lock").open("a") as other:
            try:
                fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                seen.append("held")

    monkeypatch.setattr(processes, "pause", begin)
    monkeypatch.setattr(processes, "resume", begin)
    lab.pause()
    lab.resume()
    assert seen == ["held", "held"]


def test_a_program_that_ended_just_now_is_no_error_to_a_pause(pod: Pod, monkeypatch: pytest.MonkeyPatch) -> None:
    with subprocess.Popen(["sleep", "60"]) as living, subprocess.Popen(["true"]) as ended:
        ended.wait()
        monkeypatch.setattr(namespaces, "processes", lambda _: [ended.pid, living.pid])
        try:
            processes.pause([pod])
            assert living.wait(10) == -signal.SIGUSR1
        finally:
            living.kill()


def test_counts_and_record_that_go_while_they_are_looked_for_are_absent(
    lab: Lab, tmp_path: Path, pod: Pod, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "exists", lambda _: True)  # and gone when it is opened
    assert processes.counts(pod, processes.RunFolder(tmp_path / "run")) == ABSENT
    (tmp_path / "lab.json").unlink()
    assert lab.status() == []
