"""Inventory: as-of look-ups a second, memory of a large cluster, cost of snapshots, delay from publisher to snapshot.

Each part runs in a process of its own, so that the memory of one is not the memory of another.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.harness import Report, check
from tierflow.cli.broker import broker_argv, free_port, wait_for_broker
from tierflow.inventory.history import History
from tierflow.inventory.topic import Publisher, Reader
from tierflow.inventory.versions import Versions
from tierflow.schemas.clock import NS_PER_S
from tierflow.schemas.inventory import ENDPOINT, Heartbeat, ObjectVersion, decode_message, encode_message
from tierflow.schemas.metrics import Metrics
from tierflow.schemas.record import V4_MAPPED

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tierflow.schemas.inventory import Message

START_NS = 1_700_000_000 * NS_PER_S
VERSIONS = 10
SECONDS = 10
Figures = dict[str, float]


def pod(number: int, labels: dict[str, str]) -> dict[str, Any]:
    """One pod with the address 10.0.0.0 + number."""
    return {
        "type": "wep",
        "namespace": f"namespace-{number % 100}",
        "name": f"app-{number % 1000}-6d996fbd97-{number:05x}",
        "labels": labels,
        "service_account": f"account-{number % 1000}",
        "named_ports": [["http", 6, 8080]],
        "addresses": [f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"],
        "node": f"node-{number % 500}",
        "name_aggr": f"app-{number % 1000}-6d996fbd97-*",
        "policed": True,
    }


def pod_key(number: int) -> str:
    """The pod's identity."""
    return f"Pod/namespace-{number % 100}/{number}"


def versions_of(number: int, start_ns: int = START_NS) -> Iterator[ObjectVersion]:
    """Ten versions of a pod, a minute each, the last open; every third ends ten seconds early."""
    for version in range(VERSIONS):
        begin = start_ns + version * 60 * NS_PER_S + number * 1000
        end = None if version == VERSIONS - 1 else begin + (50 if version % 3 == 0 else 60) * NS_PER_S
        yield ObjectVersion(
            ENDPOINT, pod_key(number), begin, end, pod(number, {"app": f"a{number % 1000}", "v": str(version)})
        )


def filled(pods: int, start_ns: int = START_NS) -> History:
    """A history of ``pods`` pods with ten versions each."""
    history = History()
    for number in range(pods):
        for version in versions_of(number, start_ns):
            history.apply(version)
    return history


def lookup(pods: int) -> Figures:
    """Random addresses, one in ten unknown, at random times; the answer is arithmetic on the rule of the versions."""
    snapshot, count = filled(pods).snapshot(), pods * 1000
    random = np.random.default_rng(1)
    number = random.integers(0, pods * 10 // 9, count)
    times = START_NS + random.integers(-5 * NS_PER_S, (VERSIONS * 60 + 30) * NS_PER_S, count)
    lo = (number + (V4_MAPPED | 10 << 24)).astype(np.uint64)
    hi = np.zeros(count, np.uint64)
    best = float("inf")
    for _ in range(5):
        begin = time.process_time()
        found = snapshot.lookup(hi, lo, times)
        best = min(best, time.process_time() - begin)
    since = times - START_NS - number * 1000
    version = np.minimum(since // (60 * NS_PER_S), VERSIONS - 1)
    early = (version % 3 == 0) & (version < VERSIONS - 1) & (since - version * 60 * NS_PER_S >= 50 * NS_PER_S)
    expected = np.where((number < pods) & (since >= 0) & ~early, number * VERSIONS + version, -1)
    check(np.array_equal(found, expected), "a look-up gave the wrong version")
    for sample in np.flatnonzero(found >= 0)[:100]:
        held = snapshot.endpoints[found[sample]]
        check(
            held.endpoint.addresses == tuple(pod(int(number[sample]), {})["addresses"]), "a version's address is wrong"
        )
        check(held.valid_from_ns <= times[sample] < (held.valid_to_ns or 2**63), "a version did not hold at the time")
    return {"look-ups a processor second": count / best}


def memory(pods: int) -> Figures:
    """Pods with 20 labels each, one of them the pod's own, read from the topic's own bytes."""
    history = History()
    for number in range(pods * 10):
        labels = {f"example.com/label-{i}": f"value-{(number * 7 + i) % 1000}" for i in range(19)}
        labels["statefulset.kubernetes.io/pod-name"] = f"app-{number}"
        message = ObjectVersion(ENDPOINT, f"Pod/namespace-{number % 100}/{number}", START_NS, None, pod(number, labels))
        history.apply(decode_message(*encode_message(message)))
    snapshot = history.snapshot()
    check(len(snapshot.endpoints) == pods * 10, "pods are missing")
    check(len(snapshot.endpoints[-1].labels_list) == 20, "labels are missing")
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
    return {f"resident with {pods * 10} pods x 20 labels": resident / 1e6}


def changes(pods: int) -> Figures:
    """1,000 pod changes a second for ten seconds, from a publisher's process through a broker into a worker's snapshot.

    Every change ends a pod's version and begins another, as a relabelled or recreated pod does: two messages.
    """
    return asyncio.run(_changes(pods))


async def _changes(pods: int) -> Figures:
    port = free_port()
    broker = await asyncio.create_subprocess_exec(*broker_argv(port), stdout=subprocess.DEVNULL)
    try:
        await wait_for_broker(f"127.0.0.1:{port}", 20)
        return await _measure(f"127.0.0.1:{port}", pods)
    finally:
        broker.terminate()
        await broker.wait()


async def write(kafka: str, pods: int, start_ns: int) -> None:
    """Publish the changes, twenty every fiftieth of a second; a change's time is that of its version's begin."""
    publisher, versions = Publisher(kafka, Metrics()), Versions()
    for number in range(pods):
        for version in versions_of(number, start_ns):
            versions.load(version)
    await publisher.start()
    begin = time.perf_counter()
    for step in range(SECONDS * 50):
        messages: list[Message] = []
        for change in range(step * 20, step * 20 + 20):
            number, now = change * 7919 % pods, time.time_ns()
            content = pod(number, {"app": "changed", "n": str(change)})
            messages += versions.put(ENDPOINT, pod_key(number), content, began_ns=None, now_ns=now)
        await publisher.publish([*messages, Heartbeat(time.time_ns(), "bench", 1)])
        await asyncio.sleep(max(0.0, begin + (step + 1) / 50 - time.perf_counter()))
    await publisher.stop()


async def _measure(kafka: str, pods: int) -> Figures:
    # All ten versions lie in the retained past, and none leaves it meanwhile.
    start_ns = time.time_ns() - VERSIONS * 60 * NS_PER_S
    history, reader = filled(pods, start_ns), Reader(kafka, Metrics())
    history.apply(Heartbeat(time.time_ns(), "bench", 0))
    history.snapshot()
    await reader.start()
    # As a worker does once it has caught up.
    gc.collect()
    gc.freeze()
    writer = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.inventory", "write", str(pods), kafka, str(start_ns)
    )
    delays, snapshots, seen = [], [], 0
    spent = time.process_time()
    async for batch in reader.batches():
        for message in batch:
            history.apply(message)
        begin = time.perf_counter()
        snapshot = history.snapshot()
        now = time.time_ns()
        snapshots.append(time.perf_counter() - begin)
        fresh = [each for each in batch if isinstance(each, ObjectVersion) and each.valid_to_ns is None]
        delays += [(now - each.valid_from_ns) / 1e6 for each in fresh]
        seen += len(fresh)
        for each in fresh[-1:]:
            low = np.array([int(each.object["labels"]["n"]) * 7919 % pods + (V4_MAPPED | 10 << 24)], np.uint64)
            found = snapshot.lookup(np.zeros(1, np.uint64), low, np.array([now], np.int64))[0]
            check(snapshot.endpoints[found].endpoint.labels == each.object["labels"], "a change is not there")
        if seen == SECONDS * 1000:
            break
    spent = time.process_time() - spent
    check(await writer.wait() == 0, "the publisher failed")
    await reader.stop()
    return {
        "change to snapshot, median": float(np.median(delays)),
        "change to snapshot, 99th percentile": float(np.percentile(delays, 99)),
        "change to snapshot, worst": max(delays),
        "snapshot, median": float(np.median(snapshots)) * 1e3,
        "snapshot, worst": max(snapshots) * 1e3,
        "reader's processor time a second": spent / SECONDS * 1e3,
    }


PARTS = {"lookup": lookup, "memory": memory, "changes": changes}


def run(quick: bool) -> list[Report]:
    """Measure all parts."""
    pods = 1_000 if quick else 10_000
    report = Report("inventory", {"pods": pods, "versions": VERSIONS, "changes a second": 1_000})
    for part, unit, better in (("lookup", "1/s", "higher"), ("memory", "MB", "lower"), ("changes", "ms", "lower")):
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.inventory", part, str(pods)], check=True, capture_output=True, text=True
        )
        for name, value in json.loads(done.stdout.splitlines()[-1]).items():
            report.add(name, value, unit, better)
    report.checked = "versions by arithmetic, pods and labels counted, every batch's last change looked up"
    return [report]


if __name__ == "__main__":
    if sys.argv[1] == "write":
        asyncio.run(write(sys.argv[3], int(sys.argv[2]), int(sys.argv[4])))
    else:
        print(json.dumps(PARTS[sys.argv[1]](int(sys.argv[2]))))
