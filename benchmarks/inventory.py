"""Inventory: as-of look-ups a second, memory of a large cluster, delay and cost of snapshots under change.

``python -m benchmarks.inventory [lookup|memory|changes]``; each checks its answer before it reports a figure.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tierflow.inventory.history import History
from tierflow.schemas.clock import NS_PER_S
from tierflow.schemas.inventory import ENDPOINT, Heartbeat, ObjectVersion, decode_message, encode_message
from tierflow.schemas.record import V4_MAPPED

if TYPE_CHECKING:
    from collections.abc import Iterator

START_NS = 1_700_000_000 * NS_PER_S
PODS, VERSIONS, LOOK_UPS = 10_000, 10, 10_000_000


def pod(number: int, labels: dict[str, str]) -> dict[str, Any]:
    """One pod with the address 10.0.0.0 + number."""
    low = number & 0xFF_FFFF
    return {
        "type": "wep",
        "namespace": f"namespace-{number % 100}",
        "name": f"app-{number % 1000}-6d996fbd97-{number:05x}",
        "labels": labels,
        "service_account": f"account-{number % 1000}",
        "named_ports": [["http", 6, 8080]],
        "addresses": [f"10.{low >> 16}.{low >> 8 & 255}.{low & 255}"],
        "node": f"node-{number % 500}",
        "name_aggr": f"app-{number % 1000}-6d996fbd97-*",
        "policed": True,
    }


def versions_of(number: int) -> Iterator[ObjectVersion]:
    """Ten versions of a pod, a minute long each, the last open; every third is followed by a gap of 10 s."""
    key = f"Pod/namespace-{number % 100}/{number}"
    for version in range(VERSIONS):
        begin = START_NS + version * 60 * NS_PER_S + number * 1000
        last = version == VERSIONS - 1
        end = None if last else begin + (50 if version % 3 == 0 else 60) * NS_PER_S
        yield ObjectVersion(ENDPOINT, key, begin, end, pod(number, {"app": f"a{number % 1000}", "v": str(version)}))


def lookup() -> None:
    """Random addresses (one in ten unknown) at random times, against arithmetic on the same rule."""
    history = History()
    for number in range(PODS):
        for version in versions_of(number):
            history.apply(version)
    snapshot = history.snapshot()
    random = np.random.default_rng(1)
    number = random.integers(0, PODS * 10 // 9, LOOK_UPS)
    times = START_NS + random.integers(-5 * NS_PER_S, (VERSIONS * 60 + 30) * NS_PER_S, LOOK_UPS)
    lo = (number + (V4_MAPPED | 10 << 24)).astype(np.uint64)
    hi = np.zeros(LOOK_UPS, np.uint64)
    best = float("inf")
    for _ in range(5):
        begin = time.process_time()
        found = snapshot.lookup(hi, lo, times)
        best = min(best, time.process_time() - begin)
    since = times - START_NS - number * 1000
    version = np.minimum(since // (60 * NS_PER_S), VERSIONS - 1)
    in_gap = (version % 3 == 0) & (version < VERSIONS - 1) & (since - version * 60 * NS_PER_S >= 50 * NS_PER_S)
    expected = np.where((number < PODS) & (since >= 0) & ~in_gap, number * VERSIONS + version, -1)
    assert np.array_equal(found, expected), "a look-up is wrong"
    for sample in random.integers(0, LOOK_UPS, 100):
        if found[sample] >= 0:
            held = snapshot.endpoints[found[sample]]
            assert held.endpoint.addresses == tuple(pod(int(number[sample]), {})["addresses"])
            assert held.valid_from_ns <= times[sample] < (held.valid_to_ns or 2**63)
    rate = LOOK_UPS / best / 1e6
    print(f"lookup: {rate:.1f} million a second on one core; {PODS} pods x {VERSIONS} versions, {LOOK_UPS} look-ups")


def memory() -> None:
    """Resident memory of a process that holds 100,000 pods with 20 labels each, read from the topic's own bytes."""
    history = History()
    for number in range(100_000):
        labels = {f"example.com/label-{i}": f"value-{(number * 7 + i) % 1000}" for i in range(19)}
        labels["statefulset.kubernetes.io/pod-name"] = f"app-{number}"
        message = ObjectVersion(ENDPOINT, f"Pod/namespace-{number % 100}/{number}", START_NS, None, pod(number, labels))
        history.apply(decode_message(*encode_message(message)))
    snapshot = history.snapshot()
    assert len(snapshot.endpoints) == 100_000
    assert len(snapshot.endpoints[99_999].labels_list) == 20
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / 1e6
    print(f"memory: {resident:.0f} MB resident; 100,000 pods x 20 labels, one of them the pod's own")


def changes() -> None:
    """1,000 pod changes a second for five seconds in a cluster of 10,000 pods, a snapshot every 20 changes."""
    history = History()
    for number in range(PODS):
        for version in versions_of(number):
            history.apply(version)
    history.snapshot()
    at = START_NS + VERSIONS * 60 * NS_PER_S
    delays, busy = [], time.process_time()
    for change in range(5_000):
        number = change * 7919 % PODS
        now = at + change * NS_PER_S // 1000
        *_, last = versions_of(number)
        history.apply(ObjectVersion(last.kind, last.key, last.valid_from_ns, now, last.object))
        history.apply(ObjectVersion(last.kind, last.key, now, None, pod(number, {"app": "changed", "n": str(change)})))
        if change % 20 == 19:
            history.apply(Heartbeat(now, "bench", 1))
            begin = time.perf_counter()
            snapshot = history.snapshot()
            delays.append(time.perf_counter() - begin)
            lo = np.array([number + (V4_MAPPED | 10 << 24)], np.uint64)
            found = snapshot.lookup(np.zeros(1, np.uint64), lo, np.array([now], np.int64))[0]
            assert snapshot.endpoints[found].endpoint.labels["n"] == str(change), "a change is not in the snapshot"
    busy = time.process_time() - busy
    print(
        f"changes: snapshot in {np.median(delays) * 1000:.1f} ms median, {max(delays) * 1000:.1f} ms worst; "
        f"{busy / 5 * 100:.0f} % of a core at 1,000 changes a second and 50 snapshots a second, {PODS} pods"
    )


PARTS = {"lookup": lookup, "memory": memory, "changes": changes}


def main(arguments: list[str]) -> None:
    """Run the parts named, each in a process of its own; all without arguments."""
    print(
        f"machine: {platform.machine()}, {os.cpu_count()} cores, "
        f"Python {platform.python_version()}, numpy {np.__version__}"
    )
    for name in arguments or list(PARTS):
        if arguments and len(arguments) == 1:
            PARTS[name]()
        else:
            subprocess.run([sys.executable, "-m", "benchmarks.inventory", name], check=True)


if __name__ == "__main__":
    main(sys.argv[1:])
