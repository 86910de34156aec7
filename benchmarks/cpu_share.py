"""A bounded share of a core for processes: a control group with a quota, of version 2 or 1; needs root."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.harness import check

if TYPE_CHECKING:
    from collections.abc import Iterator

PERIOD_US = 20_000
"""Shorter than the kernel's 100 ms, so that a process that has used its share up waits for 20 ms at most."""


@dataclass(frozen=True, slots=True)
class CpuShare:
    """One control group."""

    folder: Path

    def command(self, *arguments: str) -> list[str]:
        """The command that joins the group and then becomes ``arguments``, so that all its threads are in it."""
        return ["sh", "-c", 'echo $$ >"$0" && exec "$@"', str(self.folder / "cgroup.procs"), *arguments]

    def throttled(self) -> float:
        """Which part of its periods the group used up: near 0, its processes have had all that they wanted."""
        found = dict(line.split() for line in (self.folder / "cpu.stat").read_text().splitlines())
        return int(found["nr_throttled"]) / max(int(found["nr_periods"]), 1)


@contextlib.contextmanager
def cpu_share(name: str, cores: float) -> Iterator[CpuShare]:
    """A group that may use ``cores`` of the machine's; its processes must have ended by the end."""
    check(os.geteuid() == 0, "a bounded share of a core needs root: control groups")
    root, version = _controller()
    folder = root / f"tierflow-bench-{os.getpid()}-{name}"
    folder.mkdir()
    try:
        quota_us = round(cores * PERIOD_US)
        if version == 2:
            (folder / "cpu.max").write_text(f"{quota_us} {PERIOD_US}")
        else:
            (folder / "cpu.cfs_period_us").write_text(str(PERIOD_US))
            (folder / "cpu.cfs_quota_us").write_text(str(quota_us))
        yield CpuShare(folder)
    finally:
        folder.rmdir()


def _controller() -> tuple[Path, int]:
    """Where groups with the cpu controller are made, and the version of their interface."""
    for line in Path("/proc/mounts").read_text().splitlines():
        _, mount, kind, options, *_ = line.split()
        if kind == "cgroup" and "cpu" in options.split(","):
            return Path(mount), 1
    root = Path("/sys/fs/cgroup")
    controllers = root / "cgroup.controllers"
    check(controllers.exists() and "cpu" in controllers.read_text().split(), "no control groups with a cpu controller")
    (root / "cgroup.subtree_control").write_text("+cpu")
    return root, 2
