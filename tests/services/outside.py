"""What the one-node Kubernetes of cluster.py changes outside of its namespaces, and how that is put back.

Control groups, kernel settings and a folder: a cluster puts them back itself; where it was killed, the next one does.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from pathlib import Path
from typing import Final

CONTROL_GROUPS: Final = Path("/sys/fs/cgroup")
CPU_SHARES: Final = 8 * 1024
KERNEL_SETTINGS: Final = ("vm/overcommit_memory", "kernel/panic", "kernel/panic_on_oops")
PREFIX: Final = "tierflow-cluster-"
SAVED: Final = "kernel-settings.json"
END_TIMEOUT_S: Final = 180
"""Killed processes have ended, and let go of their mounts: seen to take two minutes on a disk that others keep busy."""


def make_folder() -> Path:
    """A new cluster's folder, whose name its control groups have too; in it are the kernel's settings as they are."""
    folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    settings = {name: (Path("/proc/sys") / name).read_text() for name in KERNEL_SETTINGS}
    (folder / SAVED).write_text(json.dumps(settings))
    return folder


def put_back(folder: Path) -> None:
    """Take away the control groups of a cluster whose processes have been killed, its settings, and its folder.

    Raises:
        RuntimeError: a process in its control groups doesn't end.
    """
    give_up = time.monotonic() + END_TIMEOUT_S
    while left := _remove_control_groups(folder.name):
        if time.monotonic() > give_up:
            pids = [pid for group in left for pid in (group / "cgroup.procs").read_text().split()]
            raise RuntimeError(f"{folder.name}: processes {', '.join(sorted(set(pids)))} did not end")
        time.sleep(0.2)
    saved = folder / SAVED
    for name, value in (json.loads(saved.read_text()) if saved.exists() else {}).items():
        path = Path("/proc/sys") / name
        if path.read_text() != value:
            path.write_text(value)
    shutil.rmtree(folder)


def sweep() -> None:
    """Put back what clusters left that were killed; the caller holds the lock, so that none of them is running."""
    folders = sorted(Path(tempfile.gettempdir()).glob(f"{PREFIX}*"), key=lambda each: each.stat().st_mtime)
    for folder in reversed(folders):  # the oldest has the settings as they were before all of them
        put_back(folder)


def make_control_groups(name: str) -> None:
    """One group in each hierarchy, with a processor share of its own."""
    for hierarchy in _hierarchies():
        (hierarchy / name).mkdir(exist_ok=True)
        weight = hierarchy / name / "cpu.shares"
        if weight.exists():
            # All pods together are one of this machine's tasks otherwise, whatever else runs beside them.
            weight.write_text(str(CPU_SHARES))
        if (hierarchy / "cpuset.cpus").exists():
            for setting in ("cpuset.cpus", "cpuset.mems"):
                (hierarchy / name / setting).write_text((hierarchy / setting).read_text())


def _hierarchies() -> list[Path]:
    """The one of version 2, or those of version 1."""
    if (CONTROL_GROUPS / "cgroup.procs").exists():
        return [CONTROL_GROUPS]
    return [path for path in CONTROL_GROUPS.iterdir() if path.is_dir() and (path / "cgroup.procs").exists()]


def _remove_control_groups(name: str) -> list[Path]:
    """Remove what is empty of a cluster's groups; those that aren't."""
    left = []
    for hierarchy in _hierarchies():
        top = hierarchy / name
        for folder in sorted([top, *top.rglob("*/")], key=lambda each: len(each.parts), reverse=True):
            if folder.is_dir():
                try:
                    folder.rmdir()
                except OSError:
                    left.append(folder)
    return left
