"""Streams through a real Kafka: Faust workers, their processor time and memory, and what the broker took."""

from __future__ import annotations

import asyncio
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


def run(quick: bool) -> list[Report]:
    """One worker on one partition, then two workers on two."""
    install()
    size = Size(connections=20_000, nodes=10) if quick else Size()
    reports = []
    for workers in (1, 2):
        with tempfile.TemporaryDirectory(prefix="tierflow-bench-") as folder:
            broker = make(Path(folder) / "kafka")
            broker.start()
            try:
                reports.append(asyncio.run(_measure(broker, Path(folder), size, workers)))
            finally:
                broker.stop()
    _add_scaling(*reports)
    return reports


def _add_scaling(one: Report, two: Report) -> None:
    for name, unit in (("records per second of wall time", "wall time"), (STEADY, "CPU-second of all workers")):
        ratio = two.value(name) / one.value(name)
        two.add(f"two workers against one, by {unit}", ratio, "times")


STEADY = "records per worker CPU-second, after the first window"


@dataclass(frozen=True, slots=True)
class Moment:
    """What workers had done and used at a time."""

    at_s: float
    records: float
    windows: float
    batches: float
    cpu_s: float
    broker_s: float


@dataclass(slots=True)
class Crew:
    """Workers as processes."""

    broker: Kafka
    folder: Path
    ports: list[int] = field(default_factory=list)
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self) -> None:
        """One more worker."""
        port = free_port()
        with (self.folder / f"worker-{port}.log").open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "tierflow.cli.main", "stream", "--kafka", self.broker.bootstrap,
                 "--window-s", str(WINDOW_S), "--lateness-s", "2", "--idle-s", "600", "--inventory-wait-s", "0",
                 "--metrics-port", str(port), "--data-dir", str(self.folder / f"data-{port}")],
                stderr=output, env=dict(os.environ),
            )  # fmt: skip
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

        A page lists some thousand series and costs the worker tens of milliseconds: asked five times a second, it took
        a fifth of the processor time that was to be measured (py-spy).
        """
        moments: list[Moment] = []
        limit = time.monotonic() + LIMIT_S
        while time.monotonic() < limit:
            for process in self.processes:
                check(process.poll() is None, "a worker ended")
            pages = await asyncio.gather(*(asyncio.to_thread(_page, port) for port in self.ports))
            records, windows, read = (
                sum(_value(page, f"tierflow_stream_{name}_total") for page in pages)
                for name in ("read_records", "windows", "read_batches")
            )
            cpu_s = sum(process_cpu_seconds(process.pid) for process in self.processes)
            moments.append(Moment(time.monotonic(), records, windows, read, cpu_s, self.broker.cpu_seconds()))
            if windows >= windows_written:
                return moments
            await asyncio.sleep(1.0)
        check(False, f"not finished in {LIMIT_S} s")
        return moments


async def _measure(broker: Kafka, folder: Path, size: Size, workers: int) -> Report:
    start_s = int(time.time()) // WINDOW_S * WINDOW_S - 3600
    workload = Workload(size, start_ns=start_s * NS_PER_S)
    await ensure_topics(broker.bootstrap, topics.ALL, workers)
    filled = await _fill(broker.bootstrap, workload, workers)

    crew = Crew(broker, folder)
    try:
        for _ in range(workers):
            crew.start()
        moments = await crew.until(len(filled.windows))
        memory = max(process_memory_bytes(process.pid) for process in crew.processes)
    finally:
        crew.stop()
    found, logs = await _read(broker.bootstrap, topics.FLOWS_LOGS.name, workers)
    check(found == filled.truth, "packets or bytes differ from the truth")
    begun = next(each for each in moments if each.batches)
    # A window is counted when its documents are in the topics.
    warm = next(each for each in moments if each.windows >= size.nodes)
    end = moments[-1]
    report = Report(
        f"streams, Kafka, {workers} worker{'s' * (workers > 1)}",
        {"records": filled.records, "connections": size.connections, "nodes": size.nodes, "windows": WINDOWS,
         "partitions": workers, "flow_logs": logs},
    )  # fmt: skip
    report.checked = "packets and bytes to the byte, from the topic"
    report.add(STEADY, (end.records - warm.records) / (end.cpu_s - warm.cpu_s), "1/s")
    report.add("records per worker CPU-second, from the first batch", end.records / (end.cpu_s - begun.cpu_s), "1/s")
    report.add("records per worker CPU-second, start included", end.records / end.cpu_s, "1/s")
    report.add("records per second of wall time", (end.records - begun.records) / (end.at_s - begun.at_s), "1/s")
    report.add("worker CPU until the first batch", begun.cpu_s, "s", "lower")
    report.add("worker CPU, all", end.cpu_s, "s", "lower")
    report.add("broker CPU meanwhile", end.broker_s - moments[0].broker_s, "s", "lower")
    report.add("worker memory, most", memory / 2**20, "MiB", "lower")
    return report


@dataclass(slots=True)
class Filled:
    """What was put into the raw topic."""

    records: int = 0
    windows: set[tuple[int, int]] = field(default_factory=set)
    truth: Counter[tuple[str, str]] = field(default_factory=Counter)


async def _fill(bootstrap: str, workload: Workload, partitions: int) -> Filled:
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, max_request_size=2_000_000)
    await producer.start()
    for message in (*workload.messages, Heartbeat(workload.start_ns + 86_400 * NS_PER_S, "bench", 1)):
        key, value = encode_message(message)
        await producer.send(topics.INVENTORY.name, value, key, partition=0)
    filled = Filled()
    for node, value in values_of(workload, WINDOWS * WINDOW_S):
        records = decode_batch(value).records
        filled.records += len(records)
        ends = np.unique(records["last_seen_ns"] // np.uint64(WINDOW_S * NS_PER_S))
        filled.windows.update((node, end) for end in ends.tolist())
        filled.truth += truth([value])
        key = workload.node_name(node).encode()
        await producer.send(topics.FLOWS_RAW.name, value, key, partition=node % partitions)
    await producer.stop()
    return filled


def _page(port: int) -> str:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
            text: str = answer.read().decode()
            return text
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return ""


def _value(page: str, name: str) -> float:
    return sum(float(line.split()[1]) for line in page.splitlines() if line.startswith(f"{name} "))


async def _read(bootstrap: str, topic: str, partitions: int) -> tuple[Counter[tuple[str, str]], int]:
    """Totals of the documents in a topic, each id once, and how many there are."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, group_id=None, max_partition_fetch_bytes=8 << 20)
    await consumer.start()
    seen: set[bytes] = set()
    totals: Counter[tuple[str, str]] = Counter()

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
                totals += totals_of(fresh([each.value for each in messages]))
    finally:
        await consumer.stop()
    return totals, len(seen)
