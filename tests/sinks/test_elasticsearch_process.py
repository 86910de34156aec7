"""The Elasticsearch sink as a process between a real Kafka and a real Elasticsearch: held up, killed, and complete."""

from __future__ import annotations

import asyncio
import random
import re
import signal
import threading
import urllib.error
import urllib.request
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import orjson
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from tests.sinks.documents import DAY_S, whole_log
from tests.sinks.elasticsearch_sink import names, stored, whole
from tests.sinks.process import sink_process
from tests.sinks.serving import PassingOn, serving
from tierflow.cli.broker import free_port
from tierflow.schemas import topics
from tierflow.schemas.admin import ensure_topics
from tierflow.sinks import metrics as counted

if TYPE_CHECKING:
    import contextlib
    import subprocess
    from collections.abc import Callable

    from tests.services.elasticsearch import Elasticsearch
    from tests.services.kafka import Kafka

# A node may take minutes to start on a busy machine, and whichever test needs one first waits for it.
pytestmark = pytest.mark.timeout(900)

BOUND_S = 120
PREFIX = "sink-process."
LOGS = PREFIX + topics.FLOWS_LOGS.name
GROUP = "sink-process"
TOTAL = 12_000
BUFFER_MIB = 2
MESSAGE_BYTES = 4_096
"""More than any document here has."""
MOST_MEMORY = 400 << 20
"""Python, Faust and the clients take some 120 MiB; the topic, and what a sink without a bound would hold, 30 more."""


class Gate(PassingOn):
    """A store so slow that a bulk isn't answered before the gate is opened."""

    opened: ClassVar[threading.Event]

    def handle_request(self) -> None:
        if "_bulk" in self.path:
            self.opened.wait(BOUND_S)
        self.pass_on()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(BOUND_S):
        while not await asyncio.to_thread(condition):  # noqa: ASYNC110 - a condition, with a bound
            await asyncio.sleep(0.1)


async def produce(bootstrap: str) -> None:
    await ensure_topics(bootstrap, [each.with_prefix(PREFIX) for each in topics.ALL], partitions=3)
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, linger_ms=5)
    await producer.start()
    plain = whole_log(start_time=DAY_S)
    for number in range(TOTAL):
        value = orjson.dumps(plain | {"id": f"{number:032x}", "bytes_in": number})
        assert len(value) < MESSAGE_BYTES
        await producer.send(LOGS, value, partition=number % 3)
    await producer.stop()


async def committed(bootstrap: str) -> int:
    """Documents before the group's committed positions."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, group_id=GROUP, enable_auto_commit=False)
    await consumer.start()
    found = [await consumer.committed(TopicPartition(LOGS, partition)) for partition in range(3)]
    await consumer.stop()
    return sum(each or 0 for each in found)


def started(
    bootstrap: str, url: str, metrics_port: int, state: Path
) -> contextlib.AbstractContextManager[subprocess.Popen[bytes]]:
    arguments = {
        "--kafka": bootstrap, "--elasticsearch": url, "--elasticsearch-index": names("process").pattern,
        "--group": GROUP, "--topic-prefix": PREFIX, "--session-timeout-s": "6", "--replicas": "0",
        "--buffer-mib": str(BUFFER_MIB), "--bulk-mib": "1", "--retention-days": "3650",
        "--metrics-port": str(metrics_port),
    }  # fmt: skip
    return sink_process(state, "elasticsearch", *(part for pair in arguments.items() for part in pair))


def metric(port: int, name: str) -> float:
    """A gauge of the running sink, summed over its labels; 0 while it doesn't answer."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as response:
            text = response.read().decode()
    except OSError:
        return 0.0
    return sum(float(value) for value in re.findall(rf"^{name}(?:{{[^}}]*}})? (\S+)$", text, re.MULTILINE))


def peak_bytes(pid: int) -> int:
    found = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) << 10


async def test_held_up_and_killed_it_holds_little_and_in_the_end_has_every_document_once(
    kafka: Kafka, elasticsearch: Elasticsearch, tmp_path: Path
) -> None:
    await produce(kafka.bootstrap)
    gate: Any = type("Gate", (Gate,), {"target": elasticsearch.url, "opened": threading.Event()})
    log, port, moments = tmp_path / "sink.log", free_port(), random.Random(3)
    bound = (BUFFER_MIB << 20) + MESSAGE_BYTES

    def there() -> int:
        try:
            return stored(elasticsearch, names("process"))[0]
        except urllib.error.HTTPError as error:
            # An index that is being made at this moment has no shard that could be asked.
            if error.code != HTTPStatus.SERVICE_UNAVAILABLE:
                raise
            error.close()
            return 0

    with serving(gate) as gate_port:
        url = f"http://127.0.0.1:{gate_port}"
        try:
            with started(kafka.bootstrap, url, port, tmp_path) as process:
                await until(lambda: metric(port, counted.PENDING_BYTES.name) >= BUFFER_MIB << 20)
                assert metric(port, counted.PENDING_BYTES.name) <= bound
                assert peak_bytes(process.pid) < MOST_MEMORY
                await until(lambda: metric(port, counted.LAG.name) > TOTAL // 2)
                process.send_signal(signal.SIGTERM)
                assert process.wait(20) == 0, log.read_text()
                assert await committed(kafka.bootstrap) == 0
            gate.opened.set()
            for _ in range(2):
                # A quick one may have stored more by the last kill than was waited for; or everything.
                least = moments.randint(min(there() + 1, TOTAL - 1_000), TOTAL - 1_000)
                with started(kafka.bootstrap, url, port, tmp_path) as process:
                    await until(lambda least=least: there() >= least)  # type: ignore[misc]  # bound as a default
                    assert process.poll() is None, log.read_text()
                    assert peak_bytes(process.pid) < MOST_MEMORY
                assert await committed(kafka.bootstrap) <= there()
            with started(kafka.bootstrap, url, port, tmp_path) as process:
                await until(lambda: there() == TOTAL)
                await until(lambda: metric(port, counted.LAG.name) == 0)
                process.send_signal(signal.SIGTERM)
                assert process.wait(30) == 0, log.read_text()
        finally:
            gate.opened.set()
    assert stored(elasticsearch, names("process")) == whole(TOTAL)
    assert await committed(kafka.bootstrap) <= TOTAL
