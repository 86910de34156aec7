"""Random traffic with known totals, sent to a broker while workers are killed; and what the topics then hold."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
import urllib.request
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from benchmarks.workload import Size, Workload

from tests.guard import spawn
from tierflow.schemas import topics
from tierflow.schemas.admin import ensure_topics
from tierflow.schemas.clock import NS_PER_S
from tierflow.schemas.errors import UnavailableError
from tierflow.schemas.inventory import Heartbeat, encode_message
from tierflow.schemas.wire import decode_batch

if TYPE_CHECKING:
    import subprocess
    from collections.abc import AsyncIterator
    from pathlib import Path

SMALL = Size(connections=600, pods=60, namespaces=5, services=20, nodes=6, policies=20)
REPORTER = {
    1: ("packets_out", "packets_in", "bytes_out", "bytes_in"),
    2: ("packets_in", "packets_out", "bytes_in", "bytes_out"),
}


def truth(values: list[bytes]) -> Counter[str]:
    """Totals of all records."""
    found: Counter[str] = Counter()
    for value in values:
        records = decode_batch(value).records
        for reporter, names in REPORTER.items():
            own = records[records["reporter"] == reporter]
            for name, column in zip(names, ("packets_fwd", "packets_rev", "bytes_fwd", "bytes_rev"), strict=True):
                found[name] += int(own[column].sum())
    return found


def totals(logs: dict[str, dict[str, Any]]) -> Counter[str]:
    """The same, from flow logs."""
    found: Counter[str] = Counter()
    for log in logs.values():
        if not log["derived"]:
            for name in REPORTER[1]:
                found[name] += log[name]
    return found


def _scrape(port: int) -> dict[str, list[float]]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        lines = [line for line in answer.read().decode().splitlines() if line and not line.startswith("#")]
    found: dict[str, list[float]] = {}
    for line in lines:
        name, value = line.rsplit(" ", 1)
        found.setdefault(name.split("{")[0], []).append(float(value))
    return found


@dataclass(slots=True)
class Rig:
    """A workload on a broker, with workers as child processes."""

    bootstrap: str
    prefix: str
    folder: Path
    partitions: int = 2
    session_timeout_s: int = 6
    window_s: int = 15
    lateness_s: int = 2
    idle_s: int = 600
    inventory_s: int = 86_400
    size: Size = SMALL
    workload: Workload = field(init=False)
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)
    values: list[bytes] = field(default_factory=list)
    logs: dict[int, Path] = field(default_factory=dict)
    started: int = 0
    producer: Any = None

    def __post_init__(self) -> None:
        start_s = int(time.time()) // 15 * 15 - 3600
        self.workload = Workload(self.size, start_ns=start_s * NS_PER_S)

    async def connect(self) -> None:
        """Topics, and a producer to them."""
        named = [each.with_prefix(self.prefix) for each in topics.ALL]
        await ensure_topics(self.bootstrap, named, self.partitions)
        self.producer = AIOKafkaProducer(bootstrap_servers=self.bootstrap, max_request_size=2_000_000)
        await self.producer.start()

    async def set_up(self) -> None:
        """Topics and the workload's inventory."""
        await self.connect()
        inventory = self.prefix + topics.INVENTORY.name
        heartbeat = Heartbeat(self.workload.start_ns + self.inventory_s * NS_PER_S, "rig", 1)
        for message in (*self.workload.messages, heartbeat):
            key, value = encode_message(message)
            await self.producer.send(inventory, value, key, partition=0)
        await self.producer.flush()

    async def send(self, node: int, value: bytes, *, count: bool = True) -> None:
        """One raw message."""
        if count:
            self.values.append(value)
        await self.producer.send(
            self.prefix + topics.FLOWS_RAW.name, value, self.workload.node_name(node).encode(),
            partition=node % self.partitions,
        )  # fmt: skip

    def start_worker(self, *more: str) -> subprocess.Popen[bytes]:
        """One more worker."""
        self.started += 1
        log = self.folder / f"worker-{self.started}.log"
        with log.open("wb") as output:
            worker = spawn(
                [sys.executable, "-m", "tierflow.cli.main", "stream", "--kafka", self.bootstrap,
                 "--window-s", str(self.window_s), "--lateness-s", str(self.lateness_s),
                 "--idle-s", str(self.idle_s), "--group", f"{self.prefix}stream",
                 "--topic-prefix", self.prefix, "--session-timeout-s", str(self.session_timeout_s),
                 "--inventory-wait-s", "0", "--data-dir", str(self.folder / "data"), *more],
                stderr=output, env=os.environ | {"PYTHONPATH": ""}, start_new_session=True,
            )  # fmt: skip
        self.workers.append(worker)
        self.logs[worker.pid] = log
        return worker

    def kill(self, worker: subprocess.Popen[bytes]) -> None:
        """End a worker as a power cut would."""
        worker.send_signal(signal.SIGKILL)
        worker.wait()
        self.workers.remove(worker)

    def revive(self) -> None:
        """Start a new worker for each that found no broker, as any supervisor does; another end is a failure."""
        for worker in [each for each in self.workers if each.poll() is not None]:
            words = self.logs[worker.pid].read_text()[-3000:]
            assert worker.returncode == UnavailableError.exit_code, f"a worker ended with {worker.returncode}: {words}"
            self.workers.remove(worker)
            self.start_worker()

    async def leave(self, worker: subprocess.Popen[bytes]) -> None:
        """Tell a worker to go, and see it go in good order."""
        self.workers.remove(worker)
        worker.send_signal(signal.SIGTERM)
        code = await asyncio.to_thread(worker.wait, 30)
        # One that has not finished starting has no handler yet, or finds the broker gone.
        assert code in (0, -signal.SIGTERM, UnavailableError.exit_code), f"a worker told to go ended with {code}"

    async def progress(self, timeout_s: float) -> bool:
        """Wait until a worker has written more flow logs than there were."""
        name = self.prefix + topics.FLOWS_LOGS.name
        tps = [TopicPartition(name, each) for each in range(self.partitions)]
        consumer = AIOKafkaConsumer(bootstrap_servers=self.bootstrap, group_id=None)
        await consumer.start()
        try:
            before = await consumer.end_offsets(tps)
            limit = time.monotonic() + timeout_s
            while time.monotonic() < limit:
                if await consumer.end_offsets(tps) != before:
                    return True
                await asyncio.sleep(0.05)
            return False
        finally:
            await consumer.stop()

    async def raw(self) -> list[list[tuple[int, bytes]]]:
        """``(timestamp, value)`` of all raw messages, by partition, in order."""
        found: list[list[tuple[int, bytes]]] = [[] for _ in range(self.partitions)]
        async for message in self.all_messages(topics.FLOWS_RAW.name):
            found[message.partition].append((message.timestamp, message.value))
        return found

    async def metrics(self, port: int) -> dict[str, list[float]]:
        """Values of all series of each metric of a worker."""
        return await asyncio.to_thread(_scrape, port)

    async def settled(self, timeout_s: float, group: str | None = None) -> bool:
        """Wait until the group, the workers' own unless another is named, has acknowledged everything."""
        tps = [TopicPartition(self.prefix + topics.FLOWS_RAW.name, each) for each in range(self.partitions)]
        consumer = AIOKafkaConsumer(bootstrap_servers=self.bootstrap, group_id=None)
        admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap)
        await consumer.start()
        await admin.start()
        try:
            end = await consumer.end_offsets(tps)
            limit = time.monotonic() + timeout_s
            while time.monotonic() < limit:
                found = {}
                with contextlib.suppress(KafkaError):  # A broker that has just come back has no coordinator yet.
                    found = await admin.list_consumer_group_offsets(group or f"{self.prefix}stream")
                if all(tp in found and found[tp].offset >= end[tp] for tp in tps):
                    return True
                await asyncio.sleep(0.2)
            return False
        finally:
            await admin.close()
            await consumer.stop()

    async def documents(self, topic: str) -> tuple[dict[str, dict[str, Any]], int, list[str]]:
        """Documents by id, how many messages, and the ids under which different contents were written."""
        found: dict[str, dict[str, Any]] = {}
        count, differing = 0, []
        async for message in self.all_messages(topic):
            document = orjson.loads(message.value)
            count += 1
            if found.setdefault(document["id"], document) != document:
                differing.append(document["id"])
        return found, count, differing

    async def all_messages(self, topic: str) -> AsyncIterator[Any]:
        """All messages of a topic as it is now."""
        consumer = AIOKafkaConsumer(bootstrap_servers=self.bootstrap, group_id=None)
        await consumer.start()
        try:
            contract = next(each for each in topics.ALL if each.name == topic)
            count = self.partitions if contract.partitions > 1 else 1
            tps = [TopicPartition(self.prefix + topic, each) for each in range(count)]
            consumer.assign(tps)
            await consumer.seek_to_beginning(*tps)
            end = await consumer.end_offsets(tps)
            while any([await consumer.position(tp) < end[tp] for tp in tps]):
                for messages in (await consumer.getmany(timeout_ms=500)).values():
                    for message in messages:
                        yield message
        finally:
            await consumer.stop()

    async def tear_down(self) -> None:
        """End everything that was started."""
        for worker in list(self.workers):
            with contextlib.suppress(ProcessLookupError):
                self.kill(worker)
        if self.producer is not None:
            await self.producer.stop()
