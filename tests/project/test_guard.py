"""A test run that is killed leaves neither processes nor mounts nor folders behind."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.guard import spawn, temporary_folder
from tests.sinks.small_disk import small_disk

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
BOUND_S = 30
RUN = """
import contextlib, os, subprocess, sys
from tests.guard import spawn, temporary_folder
from tests.sinks.small_disk import small_disk

with contextlib.ExitStack() as stack:
    folder = stack.enter_context(temporary_folder("tierflow-guarded-"))
    if "disk" in sys.argv:
        stack.enter_context(small_disk(folder / "disk", 1))
    # What a child leaves running is told by the variables that it has from it.
    environment = os.environ | {"TMPDIR": str(folder)}
    orphan = subprocess.run(
        ["sh", "-c", "setsid sleep 600 >/dev/null & echo $!"], env=environment, stdout=subprocess.PIPE, check=True
    ).stdout.decode()
    print(spawn(["sleep", "600"], start_new_session=True).pid, int(orphan), folder, flush=True)
    sys.stdin.read()
"""


def until(condition: Callable[[], object], what: str) -> None:
    give_up = time.monotonic() + BOUND_S
    while not condition():
        assert time.monotonic() < give_up, what
        time.sleep(0.01)  # another process is waited for; it has no event to wait on


@pytest.mark.parametrize("disk", [False, pytest.param(True, marks=pytest.mark.root)])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_what_a_killed_run_started_and_made_is_gone(number: signal.Signals, disk: bool) -> None:
    run = subprocess.Popen(
        [sys.executable, "-c", RUN, *(["disk"] if disk else [])],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
    )  # fmt: skip
    with run:
        assert run.stdout is not None
        *told, name = run.stdout.readline().split()
        started, folder = [os.pidfd_open(int(each)) for each in told], Path(name)
        assert folder.is_dir()
        assert (str(folder) in Path("/proc/self/mounts").read_text()) == disk
        run.send_signal(number)
    for each in started:
        assert select.select([each], [], [], BOUND_S)[0], "a process outlives the run that started it"
        os.close(each)
    until(lambda: str(folder) not in Path("/proc/self/mounts").read_text(), "a mount is left")
    until(lambda: not folder.exists(), "a folder is left")


def test_a_process_outlives_the_thread_that_started_it() -> None:
    started: list[subprocess.Popen[bytes]] = []
    thread = threading.Thread(target=lambda: started.append(spawn(["sleep", "600"])))
    thread.start()
    thread.join()
    try:
        with pytest.raises(subprocess.TimeoutExpired):
            started[0].wait(0.2)
    finally:
        started[0].kill()
        started[0].wait()


@pytest.mark.root
def test_a_folder_of_a_run_that_ends_as_it_should_is_gone_with_its_block() -> None:
    with temporary_folder("tierflow-guarded-") as folder, small_disk(folder / "disk", 1) as disk:
        (disk / "file").touch()
    assert not folder.exists()
