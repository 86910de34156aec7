"""From a pod's change in a real API server to a worker's snapshot: kube-apiserver, etcd, publisher, Kafka, reader.

Pods are relabelled with the number of the change, at some rates and as fast as the server takes it. The reader notes
when a snapshot shows each number. Everything runs on this machine, and so by one clock.
"""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import orjson
from tests.services import kafka, kubernetes

from benchmarks.api_client import ApiClient, Request
from benchmarks.harness import Report, check, process_cpu_seconds
from tierflow.inventory.history import History
from tierflow.inventory.topic import Reader
from tierflow.schemas.errors import UnavailableError
from tierflow.schemas.inventory import ENDPOINT, ObjectVersion
from tierflow.schemas.metrics import Metrics
from tierflow.schemas.record import address_halves

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.services.kafka import Kafka
    from tests.services.kubernetes import Cluster

    from benchmarks.api_client import Answered
    from tierflow.inventory.snapshot import Snapshot

CONNECTIONS: Final = 16
LIMIT_S: Final = 120
RATES: Final = (100, 250, 500, 1_000)
AT_ONCE: Final = 0
"""The rate of a turn that has none: as fast as the server answers."""
NAMESPACE: Final = "bench"
PODS: Final = f"/api/v1/namespaces/{NAMESPACE}/pods"
NUMBER: Final = "change"
"""The label that carries the number of a pod's last change."""
# Server, etcd and all that is measured share this machine: what the server need not do is left out.
IDLE_ADMISSION: Final = (
    "MutatingAdmissionWebhook,ValidatingAdmissionWebhook,MutatingAdmissionPolicy,ValidatingAdmissionPolicy,"
    "ResourceQuota,LimitRanger,PodSecurity,Priority,RuntimeClass,DefaultTolerationSeconds,TaintNodesByCondition"
)
FLAGS: Final = (
    "--enable-priority-and-fairness=false", "--profiling=false", f"--disable-admission-plugins={IDLE_ADMISSION}",
)  # fmt: skip
ENVIRONMENT: Final = {"GOGC": "800"}


@dataclass(frozen=True, slots=True)
class Turn:
    """Some changes, ``rate`` a second, or as fast as the server answers."""

    rate: int
    count: int


@dataclass(frozen=True, slots=True)
class Done:
    """A turn's changes: when each was sent, answered, seen by the publisher's watch, shown by a snapshot.

    Unix times in ns, shape (n,); ``cpu_s`` is each process's processor time.
    """

    turn: Turn
    sent: np.ndarray
    answered: np.ndarray
    watched: np.ndarray
    shown: np.ndarray
    cpu_s: dict[str, float]


def run(quick: bool) -> list[Report]:
    """Measure all rates, then as many as the server takes."""
    if reason := kubernetes.missing() or kafka.missing():
        raise UnavailableError(f"inventory_kubernetes: {reason}")
    pods, seconds = (200, 2) if quick else (5_000, 10)
    turns = [*(Turn(rate, rate * seconds) for rate in RATES), Turn(AT_ONCE, 500 * seconds)]
    with (
        tempfile.TemporaryDirectory(prefix="tierflow-bench-") as folder,
        kubernetes.running(Path(folder), FLAGS, ENVIRONMENT) as cluster,
    ):
        broker = kafka.make(Path(folder) / "kafka")
        broker.start()
        try:
            return [asyncio.run(_measure(cluster, broker, Path(folder), pods, turns))]
        finally:
            broker.stop()


async def _measure(cluster: Cluster, broker: Kafka, folder: Path, pods: int, turns: Sequence[Turn]) -> Report:
    report = Report(
        "inventory_kubernetes",
        {"pods": pods, "connections": CONNECTIONS, "server": "without fairness, profiling and idle admission plugins"},
    )
    seen_path, bootstrap = folder / "seen", broker.bootstrap
    reading = ("-m", "benchmarks.inventory_kubernetes", bootstrap, str(pods), str(sum(each.count for each in turns)))
    publishing = ("-m", "tierflow.cli.main", "inventory", "--kafka", bootstrap, "--kubernetes", "--kubeconfig",
                  str(cluster.kubeconfig("bench", kubernetes.ADMIN_TOKEN)))  # fmt: skip
    async with ApiClient(cluster.port, kubernetes.ADMIN_TOKEN, CONNECTIONS) as client:
        await _create_pods(client, pods)
        with (
            _process(folder / "publisher", sys.executable, *publishing) as publisher,
            _process(seen_path, sys.executable, *reading) as reader,
        ):
            await _until(lambda: seen_path.read_bytes().startswith(b"ready"), "the reader knows all pods")
            pids = cluster.processes | {"publisher": publisher, "broker": broker.pid, "reader": reader}
            sent = [await _turn(client, turns, number, pods, pids) for number in range(len(turns))]
            await _until(lambda: seen_path.read_bytes().endswith(b"]\n"), "the reader saw every change")
    for done in _joined(turns, sent, orjson.loads(seen_path.read_bytes().splitlines()[-1])):
        _add(report, done)
    report.checked = (
        f"each of {sum(each.count for each in turns)} changes was shown once, with its number, by a snapshot"
    )
    return report


async def _create_pods(client: ApiClient, pods: int) -> None:
    """Running pods, each with an address of its own."""
    await client.send_all([Request("POST", "/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})])
    spec = {"nodeName": "node-1", "containers": [{"name": "main", "image": "none"}]}
    everyone = range(pods)
    await client.send_all(
        [Request("POST", PODS, {"metadata": {"name": _name(each)}, "spec": spec}) for each in everyone]
    )
    statuses = [{"phase": "Running", "podIPs": [{"ip": _address(each)}]} for each in everyone]
    await client.send_all([_patch(f"{PODS}/{_name(each)}/status", {"status": statuses[each]}) for each in everyone])
    # Kubernetes' documented way to have it stop tracking who set which field, a third of its work with a change.
    await client.send_all([_patch(f"{PODS}/{_name(each)}", {"metadata": {"managedFields": [{}]}}) for each in everyone])


async def _turn(
    client: ApiClient, turns: Sequence[Turn], number: int, pods: int, pids: dict[str, int]
) -> tuple[list[Answered], dict[str, float]]:
    turn, first = turns[number], sum(each.count for each in turns[:number])
    requests = [
        _patch(f"{PODS}/{_name(_changed(change, pods))}", {"metadata": {"labels": {NUMBER: str(change)}}})
        for change in range(first, first + turn.count)
    ]
    # What came before is over.
    await asyncio.sleep(1)
    before = _cpu_s(pids)
    answers = await client.send_all(requests, lambda each: each / turn.rate if turn.rate else 0.0)
    after = _cpu_s(pids)
    return answers, {name: after[name] - before[name] for name in after}


def _joined(
    turns: Sequence[Turn], sent: Sequence[tuple[list[Answered], dict[str, float]]], seen: list[list[int]]
) -> Iterator[Done]:
    numbers, watched, shown = np.array(seen, np.int64).T
    order = np.argsort(numbers)
    check(np.array_equal(numbers[order], np.arange(len(numbers))), "a change was shown twice or never")
    watched, shown, first = watched[order], shown[order], 0
    for turn, (answers, cpu_s) in zip(turns, sent, strict=True):
        own = slice(first, first + turn.count)
        first += turn.count
        yield Done(
            turn,
            np.array([each.sent_ns for each in answers]),
            np.array([each.answered_ns for each in answers]),
            watched[own], shown[own], cpu_s,
        )  # fmt: skip


def _add(report: Report, done: Done) -> None:
    """The figures of one turn."""
    wall_s = (done.answered.max() - done.sent.min()) / 1e9
    name = f"{done.turn.rate}/s" if done.turn.rate else "at once"
    report.add(f"{name}: changes the server answered", len(done.sent) / wall_s, "1/s")
    for what, since, until in (
        ("answer to snapshot", done.answered, done.shown),
        ("request to snapshot", done.sent, done.shown),
        ("watch to snapshot", done.watched, done.shown),
    ):
        delays = (until - since) / 1e6
        for figure, value in (
            ("median", np.median(delays)), ("99th percentile", np.percentile(delays, 99)), ("worst", delays.max()),
        ):  # fmt: skip
            report.add(f"{name}: {what}, {figure}", float(value), "ms", "lower")
    for process, seconds in done.cpu_s.items():
        report.add(f"{name}: {process}, of a core", seconds / wall_s * 100, "%", "lower")


def _cpu_s(pids: dict[str, int]) -> dict[str, float]:
    return {name: process_cpu_seconds(pid) for name, pid in pids.items()} | {"client": time.process_time()}


def _changed(change: int, pods: int) -> int:
    """Which pod a change is of: all in turn, neighbours apart."""
    return change * 7919 % pods


def _name(pod: int) -> str:
    return f"pod-{pod}"


def _address(pod: int) -> str:
    return f"10.{pod >> 16}.{pod >> 8 & 255}.{pod & 255}"


def _patch(path: str, body: object) -> Request:
    return Request("PATCH", path, body, "application/merge-patch+json")


@contextmanager
def _process(output: Path, *argv: str) -> Iterator[int]:
    """A process's id; what it says is in a file, and it ends with the block."""
    with output.open("wb") as written:
        process = subprocess.Popen(argv, stdout=written, stderr=written)
    try:
        yield process.pid
        check(process.poll() in (None, 0), f"{argv[2]} ended: {output.read_text()[-500:]}")
    finally:
        process.terminate()
        process.wait(20)


async def _until(condition: Callable[[], bool], what: str) -> None:
    give_up = time.monotonic() + LIMIT_S
    while not condition():
        check(time.monotonic() < give_up, f"not within {LIMIT_S} s: {what}")
        await asyncio.sleep(0.1)


async def read(bootstrap: str, pods: int, changes: int) -> None:
    """Follow the topic as a worker does; print ``ready``, then (number, seen by the watch, shown) of each change."""
    history, reader, shown = History(), Reader(bootstrap, Metrics()), []
    await reader.start()
    said = False
    async for batch in reader.batches():
        for message in batch:
            history.apply(message)
        snapshot = history.snapshot()
        now = time.time_ns()
        fresh = [
            each
            for each in batch
            if isinstance(each, ObjectVersion) and each.kind == ENDPOINT and each.valid_to_ns is None
        ]
        if not said and len(snapshot.endpoints) == pods:
            said = True
            # As a worker does once it has caught up.
            gc.collect()
            gc.freeze()
            print("ready", flush=True)
            continue
        if said and fresh:
            _check_shown(snapshot, fresh, pods)
            shown += [(int(each.object["labels"][NUMBER]), each.valid_from_ns, now) for each in fresh]
        if len(shown) >= changes:
            break
    print(orjson.dumps(shown).decode(), flush=True)
    await reader.stop()


def _check_shown(snapshot: Snapshot, fresh: Sequence[ObjectVersion], pods: int) -> None:
    """Each change is found in the snapshot by its pod's address at its time."""
    wanted = [each.object["labels"][NUMBER] for each in fresh]
    halves = np.array([address_halves(_address(_changed(int(each), pods))) for each in wanted], np.uint64)
    times = np.array([each.valid_from_ns for each in fresh], np.int64)
    found = snapshot.lookup(halves[:, 0].copy(), halves[:, 1].copy(), times).tolist()
    numbers = [snapshot.endpoints[each].endpoint.labels.get(NUMBER) if each >= 0 else None for each in found]
    check(numbers == wanted, "a snapshot lacks a change, or has it with another number")


if __name__ == "__main__":
    asyncio.run(read(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
