"""A live run beside its own replay: a worker that starts from nothing afterwards writes the same documents again.

Compared are the messages of flow logs, policy counters and losses: the same ids, each with the same partition, key and
bytes. Nothing in a document says when it was made. A batch that is joined before the inventory has reached it would be
the one thing that may differ; it is counted by a metric, which stays 0 here.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import time
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
import pytest
import yaml
from aiokafka import AIOKafkaConsumer, TopicPartition

from tests.guard import spawn
from tests.streams.scene import record
from tests.streams.traffic import Rig
from tierflow.cli.broker import free_port
from tierflow.schemas import topics
from tierflow.schemas.clock import NS_PER_S
from tierflow.schemas.inventory import Heartbeat, decode_message
from tierflow.schemas.record import RECORD, Reporter
from tierflow.schemas.wire import BatchHeader, Source, encode_batch

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

    from numpy.typing import NDArray

    from tests.services.kafka import Kafka

API = "projectcalico.org/v3"
WINDOW_S, LATENESS_S = 1, 1
SPELLS, STEPS = 6, 8
"""A node is busy or silent for a spell, which is longer than a window."""
WRITTEN = (topics.FLOWS_LOGS, topics.POLICY_COUNTERS, topics.FLOWS_LOSS)
ADDRESSES = ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"]
OUTSIDE = ["198.51.100.7", "198.51.100.130"]
CLUSTER_IP = "10.96.0.1"


@dataclass(slots=True)
class Shop:
    """Manifests in a folder that one step after the other changes, as a cluster's operators and controllers would."""

    folder: Path
    random: random.Random
    pods: dict[str, str] = field(default_factory=dict)
    made: int = 0

    def begin(self) -> None:
        """What is there at first."""
        self.folder.mkdir()
        ports = [{"name": "http", "port": 80, "targetPort": 8080}]
        spec = {"clusterIP": CLUSTER_IP, "ports": ports, "selector": {"app": "web"}}
        self._write("tier", "Tier", "default", {"order": 1000}, api=API)
        self._write("service", "Service", "web", spec, api="v1", namespace="shop")
        self.change_policy()
        self.change_network_set()
        for address in ADDRESSES[:3]:
            self.replace_pod(address)

    def change(self) -> None:
        """One change of any kind."""
        address = self.random.choice(ADDRESSES)
        changes = (
            lambda: self.replace_pod(address), lambda: self.relabel(address), lambda: self.delete_pod(address),
            lambda: self.replace_pod(address), lambda: self.relabel(address), self.change_policy,
            self.change_network_set,
        )  # fmt: skip
        self.random.choice(changes)()

    def replace_pod(self, address: str) -> None:
        """Another pod has the address; it began a moment before anybody is told."""
        self.delete_pod(address)
        self.made += 1
        self.pods[address] = f"web-{self.made}"
        self._write_pod(address, self.random.choice(("web", "db")), self.random.choice((0.0, 0.2, 0.7)))

    def relabel(self, address: str) -> None:
        """The pod, where there is one, has other labels."""
        if address in self.pods:
            self._write_pod(address, self.random.choice(("web", "db")), None)

    def delete_pod(self, address: str) -> None:
        """Nobody has the address."""
        if name := self.pods.pop(address, None):
            (self.folder / f"{name}.yaml").unlink()

    def change_policy(self) -> None:
        """Who may reach web pods."""
        action = self.random.choice(("Allow", "Deny"))
        spec = {
            "tier": "default", "order": self.random.randint(1, 9), "selector": "app == 'web'", "types": ["Ingress"],
            "ingress": [{"action": action, "source": {"selector": "app == 'db'"}}, {"action": "Deny"}],
        }  # fmt: skip
        self._write("policy", "NetworkPolicy", "default.web", spec, api=API, namespace="shop")

    def change_network_set(self) -> None:
        """Which addresses outside have a name."""
        nets = self.random.choice((["198.51.100.0/24"], ["198.51.100.128/25"], ["198.51.100.7/32"]))
        self._write("set", "GlobalNetworkSet", "partners", {"nets": nets}, api=API)

    def _write_pod(self, address: str, app: str, began_before_s: float | None) -> None:
        name = self.pods[address]
        path = self.folder / f"{name}.yaml"
        if began_before_s is None:
            start = yaml.safe_load(path.read_text())["status"]["startTime"]
        else:
            start = datetime.fromtimestamp(time.time() - began_before_s, UTC).isoformat()
        status = {"phase": "Running", "podIP": address, "startTime": start}
        labels = {"app": app, "turn": str(self.random.randint(0, 2))}
        self._write(name, "Pod", name, {"containers": []}, api="v1", namespace="shop", labels=labels, status=status)

    def _write(
        self, file: str, kind: str, name: str, spec: dict[str, Any], *, api: str, namespace: str = "",
        labels: dict[str, str] | None = None, **more: Any,
    ) -> None:  # fmt: skip
        metadata = (
            {"name": name} | ({"namespace": namespace} if namespace else {}) | ({"labels": labels} if labels else {})
        )
        draft = self.folder / f"{file}.draft"
        draft.write_text(yaml.safe_dump({"apiVersion": api, "kind": kind, "metadata": metadata, "spec": spec} | more))
        draft.replace(self.folder / f"{file}.yaml")


@dataclass(slots=True)
class Node:
    """One node's collector: batches of what happened since the one before."""

    name: str
    random: random.Random
    sequence: int = 0
    until_ns: int = field(default_factory=time.time_ns)

    def batch(self, records: int) -> bytes:
        """A batch of random records up to now; some are late, and now and then a batch before it was lost."""
        begin, self.until_ns = self.until_ns, time.time_ns()
        made = [self._record(begin, self.until_ns) for _ in range(records)]
        self.sequence += 2 if self.random.random() < 0.1 else 1
        header = BatchHeader(
            self.name, "", self.name.encode().ljust(16, b"\0"), self.sequence, begin, self.until_ns, self.until_ns,
            source=Source.SYNTHETIC,
        )  # fmt: skip
        return encode_batch(header, np.concatenate([*made, np.zeros(0, RECORD)]))

    def _record(self, begin_ns: int, end_ns: int) -> NDArray[np.void]:
        some = self.random
        made = record(
            some.choice(ADDRESSES), some.choice([*ADDRESSES, *OUTSIDE, CLUSTER_IP]),
            ports=(40_000 + some.randint(0, 30), 80), reporter=some.choice((Reporter.SRC, Reporter.DST)),
            packets=(3, some.choice((0, 2))),
        )  # fmt: skip
        first, last = sorted(some.randint(begin_ns, end_ns) for _ in range(2))
        if some.random() < 0.02:
            first -= 6 * NS_PER_S
            last -= 6 * NS_PER_S
        made["first_seen_ns"], made["last_seen_ns"] = first, last
        return made


class Watermark:
    """How far the inventory is, as its topic says."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self._consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, group_id=None)
        self._tp, self._ns = TopicPartition(topic, 0), 0

    async def start(self) -> None:
        await self._consumer.start()
        self._consumer.assign([self._tp])
        await self._consumer.seek_to_beginning(self._tp)

    async def passes(self, time_ns: int) -> None:
        async with asyncio.timeout(60):
            while self._ns < time_ns:
                fetched = await self._consumer.getmany(self._tp, timeout_ms=200)
                for each in fetched.get(self._tp, ()):
                    message = decode_message(each.key, each.value)
                    if isinstance(message, Heartbeat):
                        self._ns = message.watermark_ns

    async def stop(self) -> None:
        await self._consumer.stop()


def publish(rig: Rig, manifests: Path) -> subprocess.Popen[bytes]:
    """``tierflow inventory`` as a process."""
    with (rig.folder / "inventory.log").open("wb") as output:
        return spawn(
            [sys.executable, "-m", "tierflow.cli.main", "inventory", "--kafka", rig.bootstrap,
             "--topic-prefix", rig.prefix, "--manifests", str(manifests)],
            stderr=output, env=os.environ | {"PYTHONPATH": ""}, start_new_session=True,
        )  # fmt: skip


Written = dict[str, dict[str, tuple[int, bytes, bytes]]]
"""By topic and id: partition, key and value of the message."""


async def written(rig: Rig, skip: dict[str, int]) -> tuple[Written, dict[str, int]]:
    """What the topics hold but for so many messages at the begin of each partition; and how many there are."""
    found: Written = {}
    counts: dict[str, int] = {}
    for topic in WRITTEN:
        into = found.setdefault(topic.name, {})
        async for message in rig.all_messages(topic.name):
            place = f"{topic.name}/{message.partition}"
            counts[place] = counts.get(place, 0) + 1
            if message.offset >= skip.get(place, 0):
                document = message.partition, message.key, message.value
                assert into.setdefault(orjson.loads(message.value)["id"], document) == document
    return found, counts


async def run_live(rig: Rig, shop: Shop, some: random.Random) -> None:
    """A worker that reads while records and inventory are being written; returns when it has written every window."""
    watermark = Watermark(rig.bootstrap, rig.prefix + topics.INVENTORY.name)
    nodes = [Node(f"node-{number}", some) for number in range(3)]
    port = free_port()
    worker = rig.start_worker("--inventory-wait-s", "60", "--metrics-port", str(port))
    await watermark.start()

    async def send(most: list[int]) -> None:
        for number, node in enumerate(nodes):
            await rig.send(number, node.batch(some.randint(0, most[number])))

    async def sent() -> None:
        await rig.producer.flush()
        await watermark.passes(time.time_ns())

    try:
        await watermark.passes(1)
        for _ in range(SPELLS):
            busy = [some.choice((0, 40)) for _ in nodes]
            for _ in range(STEPS):
                before, after = some.choice(((True, False), (False, True), (False, False)))
                if before:
                    shop.change()
                await send(busy)
                if after:
                    shop.change()
                await sent()
        while not await rig.settled(0.1):
            await send([0] * len(nodes))
            await sent()
        early = (await rig.metrics(port)).get("tierflow_stream_joined_early_batches_total", [])
        assert not sum(early)
    finally:
        await watermark.stop()
    await rig.leave(worker)


async def run_again(rig: Rig) -> None:
    """A worker that knows nothing reads the same topics from their start."""
    group = f"{rig.prefix}replay"
    worker = rig.start_worker("--group", group)
    assert await rig.settled(60, group)
    await rig.leave(worker)


@pytest.mark.service("kafka")
@pytest.mark.timeout(200)
async def test_a_replay_writes_the_documents_of_the_live_run_again_to_the_byte(kafka: Kafka, tmp_path: Path) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    some = random.Random(seed)
    rig = Rig(kafka.bootstrap, f"replay-{uuid.uuid4().hex[:6]}.", tmp_path, window_s=WINDOW_S, lateness_s=LATENESS_S)
    shop = Shop(tmp_path / "manifests", some)
    shop.begin()
    publisher = None
    try:
        await rig.connect()
        publisher = publish(rig, shop.folder)
        await run_live(rig, shop, some)
        live, counts = await written(rig, {})
        await run_again(rig)
        again, _ = await written(rig, counts)
    finally:
        if publisher is not None:
            publisher.send_signal(signal.SIGTERM)
            publisher.wait(20)
        await rig.tear_down()
    for topic, documents in live.items():
        assert documents.keys() == again[topic].keys()
        assert {
            each: (found, again[topic][each]) for each, found in documents.items() if found != again[topic][each]
        } == {}
    logs = [orjson.loads(value) for _, _, value in live[topics.FLOWS_LOGS.name].values()]
    assert {log["action"] for log in logs} == {"allow", "deny"}
    assert {log["late"] for log in logs} == {False, True}
    assert all(live.values())
