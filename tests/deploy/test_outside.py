"""A cluster that was killed leaves nothing behind: the next one puts the machine back as it was."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.services import outside

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.root
PANIC = Path("/proc/sys/kernel/panic")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of a cluster of this test's own, after which all is as before whatever the test did."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = PANIC.read_text()
    made = outside.make_folder()
    try:
        yield made
    finally:
        PANIC.write_text(before)
        for group in groups(made):
            group.rmdir()


def groups(folder: Path) -> list[Path]:
    found = Path("/sys/fs/cgroup").glob(f"*/{folder.name}/**/")
    return sorted(found, key=lambda each: len(each.parts), reverse=True)


def test_folder_control_groups_and_kernel_settings_of_killed_clusters_go_at_the_next_start(folder: Path) -> None:
    before = PANIC.read_text()
    outside.make_control_groups(folder.name)
    pods = [group / "pods" for group in groups(folder)]
    assert pods
    for group in pods:
        group.mkdir()
    PANIC.write_text("10")
    outside.make_folder()  # a second one, killed before the first was swept
    outside.sweep()
    assert groups(folder) == []
    assert list(folder.parent.iterdir()) == []
    assert PANIC.read_text() == before


def test_a_process_that_does_not_end_is_named_and_its_cluster_stays_for_the_next_sweep(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outside, "END_TIMEOUT_S", 0)
    outside.make_control_groups(folder.name)
    with subprocess.Popen(["sleep", "600"]) as process:
        try:
            for group in groups(folder):
                (group / "cgroup.procs").write_text(str(process.pid))
            with pytest.raises(RuntimeError, match=f"{folder.name}: processes {process.pid} did not end"):
                outside.put_back(folder)
        finally:
            process.kill()
    assert folder.exists()
    outside.sweep()
    assert not folder.exists()
