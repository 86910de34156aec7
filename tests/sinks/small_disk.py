"""A file system of a few MiB, to fill up and to enlarge."""

from __future__ import annotations

import contextlib
import subprocess
from typing import TYPE_CHECKING

from tests.guard import mounted

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def resize(folder: Path, mib: int) -> None:
    """Make it larger or smaller."""
    subprocess.run(["mount", "-o", f"remount,size={mib}m", str(folder)], check=True)


@contextlib.contextmanager
def small_disk(folder: Path, mib: int) -> Iterator[Path]:
    """The folder, on memory of that size; gone with what is in it at the end. Needs root."""
    folder.mkdir()
    mounted(folder)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={mib}m", "tierflow-test", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
