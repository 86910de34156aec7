"""Streams in process: decode, reduce, window, join, verdict, aggregate, documents; the answer is checked first."""

from __future__ import annotations

import resource
import time
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import orjson

from benchmarks.harness import Report, check
from benchmarks.workload import Size, Workload
from tierflow.policy import compile_policies
from tierflow.schemas.clock import NS_PER_S
from tierflow.schemas.wire import decode_batch
from tierflow.streams.core import stage as core
from tierflow.streams.core.windows import WindowSettings

if TYPE_CHECKING:
    from collections.abc import Iterable

WINDOW_S = 15
HANDFUL_BYTES = 4 << 20


def messages_of(workload: Workload, intervals: int) -> list[core.Message]:
    """All raw messages of a workload, ended by empty ones that close every window."""
    sequences: Counter[int] = Counter()
    found = []
    for node, value in workload.batches(intervals):
        sequences[node] += 1
        found.append((node, value))
    at_ns = workload.start_ns + (intervals + 4 * WINDOW_S) * NS_PER_S
    found += workload.closing(at_ns, [sequences[node] for node in range(workload.size.nodes)])
    now_ms = at_ns // 1_000_000
    return [
        core.Message(0, offset, now_ms, workload.node_name(node).encode(), value)
        for offset, (node, value) in enumerate(found)
    ]


def handfuls(messages: list[core.Message]) -> Iterable[list[core.Message]]:
    """Messages as a worker takes them."""
    part: list[core.Message] = []
    size = 0
    for message in messages:
        part.append(message)
        size += len(message.value)
        if size >= HANDFUL_BYTES:
            yield part
            part, size = [], 0
    if part:
        yield part


def truth(messages: Iterable[core.Message]) -> Counter[tuple[str, str]]:
    """Packets and bytes per reporter, straight from the records."""
    totals: Counter[tuple[str, str]] = Counter()
    for message in messages:
        records = decode_batch(message.value).records
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


def connections_of(messages: Iterable[core.Message]) -> int:
    """Distinct connections per node, reporter and window, counted naively."""
    seen = set()
    for message in messages:
        batch = decode_batch(message.value)
        for each in batch.records[["src_lo", "dst_lo", "src_port", "dst_port", "reporter", "last_seen_ns"]].tolist():
            seen.add((batch.header.node, *each[:-1], each[-1] // (WINDOW_S * NS_PER_S)))
    return len(seen)


def in_process(size: Size, intervals: int, sample: Size) -> Report:
    """Measure one worker's core."""
    small = Workload(sample)
    few = messages_of(small, 4)
    outcome_logs, _, _ = _run(small, few)
    check(totals_of(outcome_logs) == truth(few), "sample: packets or bytes differ from the truth")
    flows = sum(log["num_flows"] for log in map(orjson.loads, outcome_logs) if not log["derived"])
    check(flows == connections_of(few), f"sample: {flows} connections, not {connections_of(few)}")

    workload = Workload(size)
    messages = messages_of(workload, intervals)
    records = sum(len(decode_batch(message.value).records) for message in messages)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    logs, spent, seconds = _run(workload, messages)
    check(totals_of(logs) == truth(messages), "packets or bytes differ from the truth")
    report = Report(
        "streams, in process",
        {"records": records, "batches": len(messages), "connections": size.connections, "pods": size.pods,
         "nodes": size.nodes, "policies": size.policies, "window_s": WINDOW_S, "flow_logs": len(logs)},
    )  # fmt: skip
    report.checked = "packets and bytes to the byte over the whole run; connections on a sample, by a naive count"
    report.add("records per CPU-second", records / seconds, "1/s")
    for name, each in sorted(spent.items()):
        report.add(f"{name}, per record", each / records * 1e9, "ns", "lower")
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    report.add("memory grown", grown / 1024, "MiB", "lower")
    return report


def _run(workload: Workload, messages: list[core.Message]) -> tuple[list[bytes], dict[str, float], float]:
    spent: Counter[str] = Counter()
    stage = core.Stage(core.StageSettings(WindowSettings(WINDOW_S, 2, 60)), compile_policies, spent, time.process_time)
    stage.open(0)
    stage.use(workload.snapshot())
    # The first window compiles policies and meets every class; a worker does that once, not per record.
    logs: list[bytes] = []
    started = time.process_time()
    for part in handfuls(messages):
        outcome = stage.process(part)
        logs += [value for _, value in outcome.logs]
        stage.written(outcome)
        check(not outcome.rejected, "a batch was rejected")
    return logs, dict(spent), time.process_time() - started


def run(quick: bool) -> list[Report]:
    """All benchmarks of the streams in process."""
    sample = Size(connections=2_000, pods=200, namespaces=10, services=40, nodes=5, policies=20)
    size = Size(connections=20_000, nodes=10) if quick else Size()
    return [in_process(size, 16, sample)]


if __name__ == "__main__":
    np.seterr(over="ignore")
    for each in run(quick=False):
        print(each.text())
