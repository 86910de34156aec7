"""What a test run started or made ends with it, however it ends: a process of its own waits for that and sees to it.

Run as a program it is that process. It reads what there is, a line each, and when its input ends kills the processes
that are left, unmounts, and removes the folders, in this order.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

GONE_S = 10
_LOCK = threading.Lock()
_GUARDS: list[subprocess.Popen[str]] = []


def spawn(command: Iterable[str], **options: Any) -> subprocess.Popen[bytes]:
    """Start a process that a killed test run leaves no more than one that ends; ``options`` are Popen's.

    Its own parent-death signal wouldn't do: that comes when the *thread* that started it ends, which may be one of a
    pool that lives as long as one test.
    """
    process = subprocess.Popen(list(command), **options)
    _tell("process", str(process.pid))
    return process


@contextlib.contextmanager
def temporary_folder(prefix: str) -> Iterator[Path]:
    """A folder outside of pytest's own, which only its owner may enter; gone at the end with whoever still uses it."""
    path = Path(tempfile.mkdtemp(prefix=prefix))
    _tell("folder", str(path))
    try:
        yield path
    finally:
        _clear(path)


def _clear(folder: Path) -> None:
    """Remove it once nobody is left who could write to it: a browser outlives the script that started it."""
    give_up = time.monotonic() + GONE_S
    while (users := _users(folder)) and time.monotonic() < give_up:
        for pid in users:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)
    shutil.rmtree(folder, ignore_errors=True)


def _users(folder: Path) -> list[int]:
    """Processes that were given the folder, or a path in it, by variable or argument."""
    found, told = [], re.compile(re.escape(str(folder).encode()) + rb"[\0/]")
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            given = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
            if told.search(given):
                found.append(int(process.name))
    return found


def mounted(path: Path) -> None:
    """Something is about to be mounted there."""
    _tell("mount", str(path))


def _tell(kind: str, what: str) -> None:
    with _LOCK:
        if not _GUARDS:
            # A session of its own, so that neither Ctrl-C nor the end of a terminal reaches it before its work is done.
            guard = subprocess.Popen(
                [sys.executable, "-I", "-S", __file__],
                stdin=subprocess.PIPE, text=True, start_new_session=True, cwd="/",
            )  # fmt: skip
            _GUARDS.append(guard)
            atexit.register(_end, guard)
        into = _GUARDS[0].stdin
        assert into is not None
        into.write(f"{kind} {what}\n")
        into.flush()


def _end(guard: subprocess.Popen[str]) -> None:
    assert guard.stdin is not None
    guard.stdin.close()
    guard.wait(3 * GONE_S)


def main() -> None:
    """Wait for the end of the run, then end all that is left of it."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    held: dict[str, list[str]] = {"process": [], "mount": [], "folder": []}
    processes: list[int] = []
    for line in sys.stdin:
        kind, _, what = line.rstrip("\n").partition(" ")
        held[kind].append(what)
        if kind == "process":
            # By a descriptor: a number may belong to somebody else by then.
            with contextlib.suppress(ProcessLookupError):
                processes.append(os.pidfd_open(int(what)))
    for each in processes:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(each, signal.SIGKILL)
    for each in processes:
        select.select([each], [], [], GONE_S)
    for each in reversed(held["mount"]):
        subprocess.run(["umount", "-l", each], check=False, stderr=subprocess.DEVNULL)
    for each in held["folder"]:
        _clear(Path(each))


if __name__ == "__main__":
    main()
