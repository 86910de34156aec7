"""The embedded store's sink on a real Kafka: topics with a prefix, those there before it and those that come later."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import orjson
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

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
    logs, counters, dead = (
        topic.with_prefix("east.") for topic in (topics.FLOWS_LOGS, topics.POLICY_COUNTERS, topics.DEAD_LETTER)
    )

    async def moved() -> tuple[float, float, int]:
        await ensure_topics(kafka.bootstrap, [logs, dead, topics.FLOWS_LOGS])
        producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap)
        consumer = AIOKafkaConsumer(
            bootstrap_servers=kafka.bootstrap, enable_auto_commit=False, auto_offset_reset="earliest"
        )
        letters = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap)
        database, live = Database(tmp_path / "flows.duckdb", 256), Metrics()
        sink = DuckDBSink(consumer, letters, Writer(database), SystemClock(), live, topic_prefix="east.")
        stop = asyncio.Event()

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
                # Of another cluster, whose topics have no prefix.
                await producer.send_and_wait(topics.FLOWS_LOGS.name, orjson.dumps(whole_log(id="2")), key=b"n1")
                await producer.send_and_wait(logs.name, b"no document", key=b"n1")
                await producer.send_and_wait(logs.name, orjson.dumps(whole_log(id="1")), key=b"n1")
                await until(logs.name)
                await ensure_topics(kafka.bootstrap, [counters])
                await producer.send_and_wait(counters.name, orjson.dumps(whole_counter()), key=b"n1")
                await until(counters.name)
            (letter,) = (await consumer.end_offsets([TopicPartition(dead.name, 0)])).values()
        finally:
            stop.set()
            await running
            await sink.stop()
            await producer.stop()
            database.close()
        assert not stored(topics.FLOWS_LOGS.name)
        return stored(logs.name), stored(counters.name), letter

    assert asyncio.run(moved()) == (1, 1, 1)
