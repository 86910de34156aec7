"""Streams through a real Kafka: one Faust worker, its processor time and memory, and what the broker took."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from tests.services.kafka import Kafka, install, make

from benchmarks.harness import Report, check, process_cpu_seconds, process_memory_bytes
from benchmarks.streams import WINDOW_S, messages_of, totals_of, truth
from benchmarks.workload import Size, Workload
from tierflow.cli.broker import free_port
from tierflow.schemas import topics
from tierflow.schemas.admin import ensure_topics
from tierflow.schemas.clock import NS_PER_S
from tierflow.schemas.inventory import Heartbeat, encode_message

LIMIT_S = 600


def run(quick: bool) -> list[Report]:
    """One worker on one partition."""
    install()
    size = Size(connections=20_000, nodes=10) if quick else Size()
    with tempfile.TemporaryDirectory(prefix="tierflow-bench-") as folder:
        broker = make(Path(folder) / "kafka")
        broker.start()
        try:
            return [asyncio.run(_measure(broker, Path(folder), size, 16))]
        finally:
            broker.stop()


async def _measure(broker: Kafka, folder: Path, size: Size, intervals: int) -> Report:
    start_s = int(time.time()) // WINDOW_S * WINDOW_S - 3600
    workload = Workload(size, start_ns=start_s * NS_PER_S)
    messages = messages_of(workload, intervals)
    expected = truth(messages)
    records = sum((len(message.value) - 96) // 104 for message in messages)
    await ensure_topics(broker.bootstrap, topics.ALL, 1)
    await _fill(broker.bootstrap, workload, [message.value for message in messages])
    batches = len(messages)
    del messages

    port = free_port()
    broker_before, wall = broker.cpu_seconds(), time.monotonic()
    worker = _start(broker.bootstrap, folder, port)
    try:
        started = await _until(port, worker, lambda page: _value(page, "tierflow_stream_read_batches_total") > 0)
        # A batch is counted when everything that it closed is in the topics; the last ones close all windows.
        done = await _until(port, worker, lambda page: _value(page, "tierflow_stream_read_batches_total") >= batches)
        cpu, memory = process_cpu_seconds(worker.pid), process_memory_bytes(worker.pid)
    finally:
        worker.terminate()
        worker.wait(10)
    logs = await _read(broker.bootstrap, topics.FLOWS_LOGS.name)
    check(totals_of(logs) == expected, "packets or bytes differ from the truth")
    report = Report(
        "streams, Kafka",
        {"records": records, "connections": size.connections, "nodes": size.nodes, "flow_logs": len(logs)},
    )
    report.checked = "packets and bytes to the byte, from the topic"
    report.add("records per worker CPU-second, start included", records / cpu, "1/s")
    report.add("worker CPU", cpu, "s", "lower")
    report.add("broker CPU meanwhile", broker.cpu_seconds() - broker_before, "s", "lower")
    report.add("records per second of wall time", records / max(done - started, 1e-3), "1/s")
    report.add("start to first batch", started - wall, "s", "lower")
    report.add("worker memory, most", memory / 2**20, "MiB", "lower")
    return report


def _start(bootstrap: str, folder: Path, port: int) -> subprocess.Popen[bytes]:
    with (folder / "worker.log").open("wb") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "tierflow.cli.main", "stream", "--kafka", bootstrap,
             "--window-s", str(WINDOW_S), "--lateness-s", "2", "--idle-s", "600", "--inventory-wait-s", "0",
             "--metrics-port", str(port), "--data-dir", str(folder / "data")],
            stderr=output, env=dict(os.environ),
        )  # fmt: skip


async def _fill(bootstrap: str, workload: Workload, values: list[bytes]) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, max_request_size=2_000_000)
    await producer.start()
    for message in (*workload.messages, Heartbeat(workload.start_ns + 86_400 * NS_PER_S, "bench", 1)):
        key, value = encode_message(message)
        await producer.send(topics.INVENTORY.name, value, key, partition=0)
    for value in values:
        await producer.send(topics.FLOWS_RAW.name, value, b"node", partition=0)
    await producer.stop()


async def _until(port: int, worker: subprocess.Popen[bytes], condition) -> float:  # type: ignore[no-untyped-def]
    limit = time.monotonic() + LIMIT_S
    while time.monotonic() < limit:
        check(worker.poll() is None, "the worker ended")
        page = await asyncio.to_thread(_page, port)
        if page and condition(page):
            return time.monotonic()
        await asyncio.sleep(0.2)
    check(False, f"not finished in {LIMIT_S} s")
    return 0.0


def _page(port: int) -> str:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
            return answer.read().decode()
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return ""


def _value(page: str, name: str) -> float:
    return sum(float(line.split()[1]) for line in page.splitlines() if line.startswith(f"{name} "))


async def _read(bootstrap: str, topic: str) -> list[bytes]:
    tp = TopicPartition(topic, 0)
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, group_id=None, max_partition_fetch_bytes=8 << 20)
    await consumer.start()
    found: dict[str, bytes] = {}
    try:
        consumer.assign([tp])
        await consumer.seek_to_beginning(tp)
        end = (await consumer.end_offsets([tp]))[tp]
        while await consumer.position(tp) < end:
            for messages in (await consumer.getmany(timeout_ms=500)).values():
                found.update((orjson.loads(each.value)["id"], each.value) for each in messages)
    finally:
        await consumer.stop()
    return list(found.values())
