"""Streams in process: decode, find, add, join, verdict, aggregate, documents; the answer is checked first."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import orjson

from benchmarks.harness import Report, check, memory_bytes
from benchmarks.workload import Size, Workload
from tierflow.policy import compile_policies
from tierflow.schemas.clock import NS_PER_S
from tierflow.schemas.wire import decode_batch
from tierflow.streams.core.messages import Message
from tierflow.streams.core.stage import Stage, StageSettings
from tierflow.streams.core.windows import WindowSettings

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

WINDOW_S = 15
HANDFUL_BYTES = 4 << 20
CORE = ("decode", "find", "add", "join and aggregate")
"""Steps up to the columns of flow logs; the others make text of them."""


def values_of(workload: Workload, intervals: int) -> Iterator[tuple[int, bytes]]:
    """``(node, message)`` of a workload, ended by empty messages that close every window."""
    sequences: Counter[int] = Counter()
    for node, value in workload.batches(intervals):
        sequences[node] += 1
        yield node, value
    at_ns = workload.start_ns + (intervals + 4 * WINDOW_S) * NS_PER_S
    yield from workload.closing(at_ns, [sequences[node] for node in range(workload.size.nodes)])


def messages_of(workload: Workload, intervals: int) -> list[Message]:
    """The same as one partition's messages."""
    return list(_messages(workload, intervals))


def _messages(workload: Workload, intervals: int) -> Iterator[Message]:
    now_ms = workload.start_ns // 1_000_000 + (intervals + 4 * WINDOW_S) * 1000
    for offset, (node, value) in enumerate(values_of(workload, intervals)):
        yield Message(0, offset, now_ms, workload.node_name(node).encode(), value)


def handfuls(messages: Iterable[Message]) -> Iterator[list[Message]]:
    """Messages as a worker takes them."""
    part: list[Message] = []
    size = 0
    for message in messages:
        part.append(message)
        size += len(message.value)
        if size >= HANDFUL_BYTES:
            yield part
            part, size = [], 0
    if part:
        yield part


def truth(values: Iterable[bytes]) -> Counter[tuple[str, str]]:
    """Packets and bytes per reporter, straight from the records."""
    totals: Counter[tuple[str, str]] = Counter()
    for value in values:
        records = decode_batch(value).records
        for reporter, name in ((1, "src"), (2, "dst")):
            own = records[records["reporter"] == reporter]
            for thing in ("packets", "bytes"):
                totals[name, thing] += int(own[f"{thing}_fwd"].sum() + own[f"{thing}_rev"].sum())
    return totals


def totals_of(documents: Iterable[bytes]) -> Counter[tuple[str, str]]:
    """The same, from flow logs."""
    totals: Counter[tuple[str, str]] = Counter()
    for value in documents:
        log = orjson.loads(value)
        if not log["derived"]:
            for thing in ("packets", "bytes"):
                totals[log["reporter"], thing] += log[f"{thing}_in"] + log[f"{thing}_out"]
    return totals


def connections_of(values: Iterable[bytes]) -> int:
    """Distinct connections per node, reporter and window, counted naively."""
    seen = set()
    for value in values:
        batch = decode_batch(value)
        for each in batch.records[["src_lo", "dst_lo", "src_port", "dst_port", "reporter", "last_seen_ns"]].tolist():
            seen.add((batch.header.node, *each[:-1], each[-1] // (WINDOW_S * NS_PER_S)))
    return len(seen)


def _stage(workload: Workload, spent: Counter[str]) -> Stage:
    stage = Stage(StageSettings(WindowSettings(WINDOW_S, 2, 60)), compile_policies, spent, time.process_time)
    stage.open(0)
    stage.use(workload.snapshot())
    return stage


def _check_sample(size: Size) -> None:
    """Compare with a naive count, connections too."""
    workload = Workload(size)
    messages = messages_of(workload, 2 * WINDOW_S)
    stage = _stage(workload, Counter())
    logs = [value for outcome in stage.outcomes(messages) for _, value in outcome.logs]
    values = [message.value for message in messages]
    check(totals_of(logs) == truth(values), "sample: packets or bytes differ from the truth")
    flows = sum(log["num_flows"] for log in map(orjson.loads, logs) if not log["derived"])
    check(flows == connections_of(values), f"sample: {flows} connections, not {connections_of(values)}")


def in_process(size: Size, windows: int, sample: Size) -> Report:
    """Measure one worker's core over some whole windows; the first meets everything for the first time."""
    _check_sample(sample)
    workload = Workload(size)
    spent: Counter[str] = Counter()
    stage = _stage(workload, spent)
    empty = memory_bytes()
    expected: Counter[tuple[str, str]] = Counter()
    found: Counter[tuple[str, str]] = Counter()
    records = logs = counters = 0
    cold: tuple[float, int, int] | None = None
    cold_spent: Counter[str] = Counter()
    seconds = 0.0
    most = 0
    for part in handfuls(_messages(workload, windows * WINDOW_S)):
        expected += truth(message.value for message in part)
        started = time.process_time()
        outcomes = list(stage.outcomes(part))
        for outcome in outcomes:
            stage.written(outcome)
        seconds += time.process_time() - started
        most = max(most, memory_bytes())
        for outcome in outcomes:
            check(not outcome.rejected, "a batch was rejected")
            found += totals_of(value for _, value in outcome.logs)
            records, logs = records + outcome.records, logs + len(outcome.logs)
            counters += len(outcome.counters)
        if cold is None and stage.partitions[0].nodes and _written(stage) == size.nodes:
            cold, cold_spent = (seconds, records, logs), spent.copy()
    check(found == expected, "packets or bytes differ from the truth")
    if cold is None:
        cold = (0.0, 0, 0)
    report = Report(
        "streams, in process",
        {"records": records, "connections": size.connections, "pods": size.pods, "nodes": size.nodes,
         "policies": size.policies, "windows": windows, "window_s": WINDOW_S, "flow_logs": logs,
         "policy_counters": counters},
    )  # fmt: skip
    report.checked = "packets and bytes to the byte over the whole run; connections on a sample, by a naive count"
    steady = records - cold[1]
    report.add("records per CPU-second, whole run", records / seconds, "1/s")
    report.add("records per CPU-second, after the first window", steady / (seconds - cold[0]), "1/s")
    each = {name: (spent[name] - cold_spent[name]) / steady * 1e9 for name in sorted(spent)}
    core = sum(each[name] for name in CORE)
    report.add("the same up to aggregation, without text", 1e9 / core, "1/s")
    for name, value in each.items():
        report.add(f"{name}, per record", value, "ns", "lower")
        report.add(f"{name}, per record of the first window", cold_spent[name] / max(cold[1], 1) * 1e9, "ns", "lower")
    made = logs - cold[2]
    report.add("text, per flow log", (spent["flow logs"] - cold_spent["flow logs"]) / made * 1e6, "us", "lower")
    report.add("memory grown", (most - empty) / 2**20, "MiB", "lower")
    return report


def _written(stage: Stage) -> int:
    """How many nodes have had a window written."""
    return sum(node.groups is not None for node in stage.partitions[0].nodes.values())


def run(quick: bool) -> list[Report]:
    """All benchmarks of the streams in process."""
    sample = Size(connections=2_000, pods=200, namespaces=10, services=40, nodes=5, policies=20)
    size = Size(connections=20_000, nodes=10) if quick else Size()
    return [in_process(size, 3, sample)]


if __name__ == "__main__":
    np.seterr(over="ignore")
    for each in run(quick=False):
        print(each.text())
