"""What all benchmarks share: the machine's line, processor time, figures as JSON, and the comparison of two runs."""

from __future__ import annotations

import json
import os
import platform
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Callable


class WrongAnswerError(AssertionError):
    """A benchmark's answer is wrong: no time is reported."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured number; ``better`` is ``higher`` or ``lower``."""

    name: str
    value: float
    unit: str
    better: str = "higher"


@dataclass(slots=True)
class Report:
    """One benchmark's figures with what they were measured on."""

    name: str
    workload: dict[str, Any]
    figures: list[Figure] = field(default_factory=list)
    checked: str = ""
    machine: str = field(default_factory=lambda: machine_line())
    time: str = field(default_factory=lambda: time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))

    def add(self, name: str, value: float, unit: str, better: str = "higher") -> None:
        """Note one figure."""
        self.figures.append(Figure(name, value, unit, better))

    def value(self, name: str) -> float:
        """A figure noted before."""
        return next(each.value for each in self.figures if each.name == name)

    def text(self) -> str:
        """For people."""
        lines = [f"{self.name}: {self.machine}", f"  input: {self.workload}", f"  answer checked: {self.checked}"]
        lines += [
            f"  {each.name:<60} {each.value:>16,.{1 if abs(each.value) >= 100 else 2}f} {each.unit}"
            for each in self.figures
        ]
        return "\n".join(lines)


def machine_line() -> str:
    """Processor, cores, memory, kernel and Python in one line, with the load at the start."""
    model = platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 30
    return (
        f"{model}, {os.cpu_count()} cores, {memory} GiB, Linux {platform.release()}, "
        f"Python {platform.python_version()}, load {os.getloadavg()[0]:.1f}"
    )


@dataclass(slots=True)
class CpuTimer:
    """Processor seconds of this process, all threads."""

    seconds: float = 0.0
    _start: float = 0.0

    def __enter__(self) -> Self:
        self._start = time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds += time.process_time() - self._start


def best_of(repeats: int, once: Callable[[], float]) -> float:
    """The smallest of some times: the one that other work on the machine disturbed least."""
    return min(once() for _ in range(repeats))


def check(condition: bool, what: str) -> None:
    """Stop with a wrong answer."""
    if not condition:
        raise WrongAnswerError(what)


def process_cpu_seconds(pid: int) -> float:
    """Processor seconds that a process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_bytes() -> int:
    """Memory that this process holds now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def process_memory_bytes(pid: int) -> int:
    """The most memory that a process has held at once."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) << 10
    return 0


def save(reports: list[Report], path: Path) -> None:
    """Write reports as JSON."""
    path.write_text(json.dumps([asdict(report) for report in reports], indent=1) + "\n")


def compare(before: Path, after: Path) -> str:
    """Figures of two saved runs side by side."""
    old = {(r["name"], f["name"]): f for r in json.loads(before.read_text()) for f in r["figures"]}
    lines = []
    for report in json.loads(after.read_text()):
        for figure in report["figures"]:
            known = old.get((report["name"], figure["name"]))
            if known is None or not known["value"]:
                lines.append(f"{report['name']:<20} {figure['name']:<44} {figure['value']:>16,.1f} new")
                continue
            change = figure["value"] / known["value"] - 1
            good = (change >= 0) == (figure["better"] == "higher")
            lines.append(
                f"{report['name']:<20} {figure['name']:<44} {known['value']:>16,.1f} -> {figure['value']:>16,.1f} "
                f"{change:+.1%} {'better' if good else 'worse'}"
            )
    return "\n".join(lines)
