"""A sink as a process of its own, as a user starts it."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING

from tests.guard import spawn

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from pathlib import Path


@contextlib.contextmanager
def sink_process(state: Path, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """``tierflow sink`` with a state folder, whose ``sink.log`` has what it says; killed at the end of the context."""
    # Killed, it leaves what it has in its temporary folder.
    folders = {"TIERFLOW_STATE": str(state), "TMPDIR": str(state)}
    with (state / "sink.log").open("ab") as log:
        process = spawn(
            [sys.executable, "-m", "tierflow.cli.main", "sink", *arguments],
            env=os.environ | folders, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.wait()
