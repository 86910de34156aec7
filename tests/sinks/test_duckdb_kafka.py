"""The embedded store's sink on a real Kafka: it finds topics that are there before it, and those that come later."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import orjson
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from tests.services.kafka import kafka as kafka
from tests.sinks.documents import whole_counter, whole_log
from tierflow.schemas import topics
from tierflow.schemas.admin import ensure_topics
from tierflow.schemas.clock import SystemClock
from tierflow.schemas.metrics import Metrics
from tierflow.sinks import metrics as counted
from tierflow.sinks.consume import DuckDBSink
from tierflow.sinks.duckdb.database import Database
from tierflow.sinks.duckdb.writer import Writer

if TYPE_CHECKING:
    from pathlib import Path

    from tests.services.kafka import Kafka


@pytest.mark.timeout(180)
def test_documents_of_topics_before_and_after_its_start_are_stored(kafka: Kafka, tmp_path: Path) -> None:
    async def moved() -> tuple[float, float]:
        await ensure_topics(kafka.bootstrap, [topics.FLOWS_LOGS])
        producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap)
        consumer = AIOKafkaConsumer(
            bootstrap_servers=kafka.bootstrap, enable_auto_commit=False, auto_offset_reset="earliest"
        )
        letters = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap)
        database, live = Database(tmp_path / "flows.duckdb", 256), Metrics()
        sink, stop = DuckDBSink(consumer, letters, Writer(database), SystemClock(), live), asyncio.Event()

        def stored(topic: str) -> float:
            return live.value(counted.DOCUMENTS, topic=topic, result="stored")

        async def until(topic: str) -> None:
            while not stored(topic):
                assert not running.done(), running.result()
                await asyncio.sleep(0.05)

        await producer.start()
        await sink.start()
        running = asyncio.create_task(sink.run(stop))
        try:
            async with asyncio.timeout(90):
                await producer.send_and_wait(topics.FLOWS_LOGS.name, orjson.dumps(whole_log(id="1")), key=b"n1")
                await until(topics.FLOWS_LOGS.name)
                await ensure_topics(kafka.bootstrap, [topics.POLICY_COUNTERS])
                await producer.send_and_wait(topics.POLICY_COUNTERS.name, orjson.dumps(whole_counter()), key=b"n1")
                await until(topics.POLICY_COUNTERS.name)
        finally:
            stop.set()
            await running
            await sink.stop()
            await producer.stop()
            database.close()
        return stored(topics.FLOWS_LOGS.name), stored(topics.POLICY_COUNTERS.name)

    assert asyncio.run(moved()) == (1, 1)
