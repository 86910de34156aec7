"""The programs that run in the pods."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import orjson

from tierflow.lab import namespaces
from tierflow.schemas.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tierflow.lab.record import Pod

PROGRAM_FOLDER: Final = Path(__file__).resolve().parent
READY_S: Final = 20.0
POLL_S: Final = 0.05


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Where the programs find their zone file and leave their counts and output."""

    path: Path

    @property
    def zone(self) -> Path:
        """Names and addresses that kube-dns answers with."""
        return self.path / "zone.json"

    def stats(self, pod: Pod, container: str) -> Path:
        """The counts of one container."""
        return self.path / f"{pod.namespace}.{pod.name}.{container}.json"

    def log(self, pod: Pod, container: str) -> Path:
        """The output of one container."""
        return self.path / f"{pod.namespace}.{pod.name}.{container}.log"

    def forget(self, pod: Pod) -> None:
        """Delete what the containers of a pod left."""
        for container, _, _ in pod.containers:
            self.stats(pod, container).unlink(missing_ok=True)
            self.log(pod, container).unlink(missing_ok=True)


def start(pods: Iterable[Pod], folder: RunFolder) -> None:
    """Start all containers of some pods, wait until each has said that it runs, then let them call one another.

    Raises:
        UnavailableError: one didn't start; the last line of its output is quoted.
    """
    folder.path.mkdir(parents=True, exist_ok=True)
    waiting = []
    for pod in pods:
        for container, program, arguments in pod.containers:
            folder.stats(pod, container).unlink(missing_ok=True)
            environment = {
                "PATH": os.environ.get("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
                "STOREFRONT_STATS": str(folder.stats(pod, container)),
                "STOREFRONT_ZONE": str(folder.zone),
                "STOREFRONT_PAUSED": "1",
            }
            with folder.log(pod, container).open("wb") as output:
                process = subprocess.Popen(
                    # -S and -I: only the standard library is needed, and a small process is wanted.
                    ["ip", "netns", "exec", pod.netns,
                     sys.executable, "-I", "-S", str(PROGRAM_FOLDER / program), *arguments],
                    stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                    env=environment, cwd="/", start_new_session=True,
                )  # fmt: skip
            waiting.append((pod, container, process))
    deadline = time.monotonic() + READY_S
    for pod, container, process in waiting:
        while not folder.stats(pod, container).exists():
            if process.poll() is not None or time.monotonic() > deadline:
                lines = folder.log(pod, container).read_text(errors="replace").strip().splitlines()
                raise UnavailableError(
                    f"lab: container {container} of {pod.name} did not start: {(lines or ['it said nothing'])[-1]}"
                )
            time.sleep(POLL_S)
    resume(pod for pod, _, _ in waiting)


def pause(pods: Iterable[Pod]) -> None:
    """Let no container begin another call; those under way end by themselves."""
    _signal(pods, signal.SIGUSR1)


def resume(pods: Iterable[Pod]) -> None:
    """Let the containers call again."""
    _signal(pods, signal.SIGUSR2)


def _signal(pods: Iterable[Pod], number: signal.Signals) -> None:
    for netns in {pod.netns for pod in pods}:
        for pid in namespaces.processes(netns):
            with contextlib.suppress(ProcessLookupError):  # it ended just now
                os.kill(pid, number)


def counts(pod: Pod, folder: RunFolder) -> dict[str, Any]:
    """What the containers of a pod have counted: ``served`` and ``calls`` by URL, added up; paused if all are."""
    served, in_flight, paused = 0, 0, True
    calls: dict[str, dict[str, int]] = {}
    for container, _, _ in pod.containers:
        try:
            document = orjson.loads(folder.stats(pod, container).read_bytes())
        except FileNotFoundError:  # not written yet, or its pod has just been removed
            continue
        served += document["served"]
        in_flight += document["in_flight"]
        paused = paused and document["paused"]
        for url, edge in document["calls"].items():
            total = calls.setdefault(url, {"tried": 0, "answered": 0, "failed": 0})
            for key, value in edge.items():
                total[key] += value
    return {"served": served, "in_flight": in_flight, "paused": paused, "calls": calls}
