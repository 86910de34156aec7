"""Streams through a real Kafka: a Faust worker, its processor time and memory, and what the broker took."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import operator
import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from tests.services.kafka import Kafka, install, make

from benchmarks.cpu_share import CpuShare, cpu_share
from benchmarks.harness import Report, check, process_cpu_seconds, process_memory_bytes
from benchmarks.streams import WINDOW_S, totals_of, truth, values_of
from benchmarks.workload import Size, Workload
from tierflow.cli.broker import free_port
from tierflow.schemas import topics
from tierflow.schemas.admin import ensure_topics
from tierflow.schemas.clock import NS_PER_S
from tierflow.schemas.inventory import Heartbeat, encode_message
from tierflow.schemas.wire import decode_batch

if TYPE_CHECKING:
    from collections.abc import Iterator

LIMIT_S = 900
WINDOWS = 3
SMALL = Size(connections=20_000, nodes=10)
GROUP_DELAY_MS = 10_000
"""How long a group that is empty waits for more members; Kafka's default of 3 s is short of a start with little CPU."""


def run(quick: bool) -> list[Report]:
    """One worker on one partition, with a core of its own."""
    return [measured(SMALL if quick else Size(), 1, None)]


def measured(size: Size, workers: int, share: float | None) -> Report:
    """So many workers on as many partitions of a broker of their own, each with a ``share`` of a core or all it can."""
    install()
    with tempfile.TemporaryDirectory(prefix="tierflow-bench-") as folder, contextlib.ExitStack() as stack:
        # A group forms once, when all workers are there, as with Kafka's own default.
        broker = make(Path(folder) / "kafka", group_delay_ms=GROUP_DELAY_MS * (workers > 1))
        broker.start()
        stack.callback(broker.stop)
        shares = [] if share is None else [stack.enter_context(cpu_share(f"{n}", share)) for n in range(workers)]
        report = asyncio.run(_measure(broker, Path(folder), size, workers, shares))
        for number, each in enumerate(shares):
            report.add(f"worker {number}: periods in which its share ran out, of all", each.throttled(), "", "lower")
        return report


STEADY = "records per worker CPU-second, after the first window"
WHOLE = "records per worker CPU-second, from the first batch"
WALL = "records per second of wall time, from the first batch"
COUNTED = tuple(f"tierflow_stream_{name}_total" for name in ("read_records", "windows", "read_batches"))


@dataclass(frozen=True, slots=True)
class Done:
    """What a worker had done and used at a time."""

    records: float
    windows: float
    batches: float
    cpu_s: float

    def __add__(self, other: Done) -> Done:
        return Done(
            self.records + other.records, self.windows + other.windows, self.batches + other.batches,
            self.cpu_s + other.cpu_s,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Moment:
    """What each worker and the broker had done at a time, in seconds since the epoch."""

    at_s: float
    workers: list[Done]
    broker_s: float

    @property
    def all(self) -> Done:
        """The workers together."""
        return functools.reduce(operator.add, self.workers)


@dataclass(slots=True)
class Crew:
    """Workers as processes."""

    broker: Kafka
    folder: Path
    shares: list[CpuShare] = field(default_factory=list)
    ports: list[int] = field(default_factory=list)
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self) -> None:
        """One more worker."""
        port = free_port()
        command = [
            sys.executable, "-m", "tierflow.cli.main", "stream", "--kafka", self.broker.bootstrap,
            "--window-s", str(WINDOW_S), "--lateness-s", "2", "--idle-s", "600", "--inventory-wait-s", "0",
            "--metrics-port", str(port), "--data-dir", str(self.folder / f"data-{port}"),
        ]  # fmt: skip
        if self.shares:
            command = self.shares[len(self.processes)].command(*command)
        with (self.folder / f"worker-{port}.log").open("wb") as output:
            process = subprocess.Popen(command, stderr=output, env=dict(os.environ))
        self.ports.append(port)
        self.processes.append(process)

    def stop(self) -> None:
        """End all."""
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.wait(20)

    async def until(self, windows_written: int) -> list[Moment]:
        """What was seen on the way until so many windows were written in all; a moment a second.

        Asked for are these counters only: the whole page lists some thousand series and costs the worker tens of
        milliseconds, which once a second was a tenth of the processor time that was to be measured (py-spy).
        """
        moments: list[Moment] = []
        limit = time.monotonic() + LIMIT_S
        while time.monotonic() < limit:
            for process in self.processes:
                check(process.poll() is None, "a worker ended")
            pages = await asyncio.gather(*(asyncio.to_thread(_page, port) for port in self.ports))
            done = [
                Done(
                    *(_value(page, name) for name in COUNTED),
                    process_cpu_seconds(process.pid),
                )
                for page, process in zip(pages, self.processes, strict=True)
            ]
            moments.append(Moment(time.time(), done, self.broker.cpu_seconds()))
            if moments[-1].all.windows >= windows_written:
                return moments
            await asyncio.sleep(1.0)
        check(False, f"not finished in {LIMIT_S} s")
        return moments


async def _measure(broker: Kafka, folder: Path, size: Size, workers: int, shares: list[CpuShare]) -> Report:
    start_s = int(time.time()) // WINDOW_S * WINDOW_S - 3600
    workload = Workload(size, start_ns=start_s * NS_PER_S)
    await ensure_topics(broker.bootstrap, topics.ALL, workers)
    filled = await _fill(broker.bootstrap, workload, workers)

    crew = Crew(broker, folder, shares)
    try:
        for _ in range(workers):
            crew.start()
        moments = await crew.until(len(filled.windows))
        memory = max(process_memory_bytes(process.pid) for process in crew.processes)
    finally:
        crew.stop()
    written = await _read(broker.bootstrap, topics.FLOWS_LOGS.name, workers)
    check(written.totals == filled.truth, "packets or bytes differ from the truth")
    begun = next(each for each in moments if each.all.batches)
    end = moments[-1].all
    warm = _warm(moments, Counter(_dealt(workload, workers).values()))
    report = Report(
        f"streams, Kafka, {workers} worker{'s' * (workers > 1)}",
        {"records": filled.records, "connections": size.connections, "nodes": size.nodes, "windows": WINDOWS,
         "partitions": workers, "flow_logs": written.logs},
    )  # fmt: skip
    report.checked = "packets and bytes to the byte, from the topic"
    report.add(STEADY, (end.records - warm.records) / (end.cpu_s - warm.cpu_s), "1/s")
    report.add(WHOLE, end.records / (end.cpu_s - begun.all.cpu_s), "1/s")
    report.add("records per worker CPU-second, start included", end.records / end.cpu_s, "1/s")
    report.add(WALL, (end.records - begun.all.records) / (written.newest_s - begun.at_s), "1/s")
    report.add("records read twice", end.records - filled.records, "", "lower")
    report.add("worker CPU until the first batch", begun.all.cpu_s, "s", "lower")
    report.add("worker CPU, all", end.cpu_s, "s", "lower")
    report.add("broker CPU meanwhile", moments[-1].broker_s - moments[0].broker_s, "s", "lower")
    report.add("worker memory, most", memory / 2**20, "MiB", "lower")
    return report


def _warm(moments: list[Moment], nodes: Counter[int]) -> Done:
    """What all had done, each worker when it had written one window of each of its partition's ``nodes``.

    Which worker has which partition is not known: the most nodes of any are taken.

    A window is counted when its documents are in the topics. A short run may have written all before it is looked at.
    """
    first = [
        next(
            (each.workers[number] for each in moments[:-1] if each.workers[number].windows >= max(nodes.values())),
            Done(0, 0, 0, 0),
        )
        for number in range(len(moments[0].workers))
    ]
    return functools.reduce(operator.add, first)


@dataclass(slots=True)
class Filled:
    """What was put into the raw topic."""

    records: int = 0
    windows: set[tuple[int, int]] = field(default_factory=set)
    truth: Counter[tuple[str, str]] = field(default_factory=Counter)


def _dealt(workload: Workload, partitions: int) -> dict[int, int]:
    """A partition for each node, so that all hold nearly as much: some nodes have sixty times the records of others.

    Where a hash of the name decides, as in production, the fullest partition says when two workers are done.
    """
    held = [0] * partitions
    chosen = {}
    for node, records in sorted(workload.interval(0).items(), key=lambda each: len(each[1]), reverse=True):
        chosen[node] = held.index(min(held))
        held[chosen[node]] += len(records)
    return chosen


async def _fill(bootstrap: str, workload: Workload, partitions: int) -> Filled:
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, max_request_size=2_000_000)
    await producer.start()
    for message in (*workload.messages, Heartbeat(workload.start_ns + 86_400 * NS_PER_S, "bench", 1)):
        key, value = encode_message(message)
        await producer.send(topics.INVENTORY.name, value, key, partition=0)
    filled = Filled()
    partition_of = _dealt(workload, partitions)
    for node, value in values_of(workload, WINDOWS * WINDOW_S):
        records = decode_batch(value).records
        filled.records += len(records)
        ends = np.unique(records["last_seen_ns"] // np.uint64(WINDOW_S * NS_PER_S))
        filled.windows.update((node, end) for end in ends.tolist())
        filled.truth += truth([value])
        key = workload.node_name(node).encode()
        await producer.send(topics.FLOWS_RAW.name, value, key, partition=partition_of[node])
    await producer.stop()
    return filled


def _page(port: int) -> str:
    try:
        asked = "&".join(f"name[]={name}" for name in COUNTED)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics?{asked}", timeout=30) as answer:
            text: str = answer.read().decode()
            return text
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return ""


def _value(page: str, name: str) -> float:
    return sum(float(line.split()[1]) for line in page.splitlines() if line.startswith(f"{name} "))


@dataclass(slots=True)
class Written:
    """Flow logs of a topic, each id once; ``newest_s`` is when the last one was made, since the epoch."""

    totals: Counter[tuple[str, str]] = field(default_factory=Counter)
    logs: int = 0
    newest_s: float = 0.0


async def _read(bootstrap: str, topic: str, partitions: int) -> Written:
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, group_id=None, max_partition_fetch_bytes=8 << 20)
    await consumer.start()
    seen: set[bytes] = set()
    written = Written()

    def fresh(values: list[bytes]) -> Iterator[bytes]:
        for value in values:
            key = orjson.loads(value)["id"].encode()
            if key not in seen:
                seen.add(key)
                yield value

    try:
        tps = [TopicPartition(topic, number) for number in range(partitions)]
        consumer.assign(tps)
        await consumer.seek_to_beginning(*tps)
        ends = await consumer.end_offsets(tps)
        while any([await consumer.position(tp) < ends[tp] for tp in tps]):
            for messages in (await consumer.getmany(timeout_ms=500)).values():
                written.totals += totals_of(fresh([each.value for each in messages]))
                written.newest_s = max(written.newest_s, *(each.timestamp / 1000 for each in messages))
    finally:
        await consumer.stop()
    written.logs = len(seen)
    return written
