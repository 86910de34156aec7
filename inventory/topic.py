"""The inventory topic over Kafka: one publisher writes it, every worker reads it from the start."""

from __future__ import annotations

import asyncio
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import TopicAlreadyExistsError, for_code

from tierflow.schemas import metrics
from tierflow.schemas.errors import RejectedRecord
from tierflow.schemas.inventory import Message, decode_message, encode_message
from tierflow.schemas.topics import INVENTORY, Topic

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Mapping

PUBLISHED: Final = metrics.counter(
    "tierflow_inventory_published_messages_total", "messages", "Messages written to the inventory topic."
)
REJECTED: Final = metrics.counter(
    "tierflow_inventory_rejected_messages_total", "messages", "Messages of the inventory topic that can't be used.",
    "reason",
)  # fmt: skip
_BATCH: Final = 500


async def create_topic(bootstrap: str, topic: Topic, security: Mapping[str, Any]) -> None:
    """Make the topic as its contract says, unless it is there."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, **security)
    await admin.start()
    try:
        answer = await admin.create_topics(
            [
                NewTopic(
                    topic.name, topic.partitions, 1,
                    topic_configs={"cleanup.policy": topic.cleanup, "retention.ms": str(topic.retention_ms)},
                )
            ]
        )  # fmt: skip
    finally:
        await admin.close()
    for _, code, *_ in answer.topic_errors:
        error = for_code(code)
        if code and error is not TopicAlreadyExistsError:
            raise error


class Publisher:
    """Writes messages in order, acknowledged by the broker before ``publish`` returns."""

    __slots__ = ("_bootstrap", "_metrics", "_producer", "_security", "_topic")

    def __init__(
        self,
        bootstrap: str,
        live: metrics.Metrics,
        topic: Topic = INVENTORY,
        security: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        """``security``: further arguments of aiokafka's clients."""
        self._security = security
        self._bootstrap, self._topic, self._metrics = bootstrap, topic, live
        self._producer: Any = None

    async def start(self) -> None:
        """Create the topic if need be, and connect."""
        await create_topic(self._bootstrap, self._topic, self._security)
        self._producer = AIOKafkaProducer(bootstrap_servers=self._bootstrap, acks="all", linger_ms=2, **self._security)
        await self._producer.start()

    async def stop(self) -> None:
        """Send what waits, and disconnect."""
        if self._producer is not None:
            await self._producer.stop()

    async def publish(self, messages: Iterable[Message]) -> None:
        """Write messages in order; returns when the broker has them all."""
        waiting = []
        for message in messages:
            key, value = encode_message(message)
            waiting.append(await self._producer.send(self._topic.name, value=value, key=key, partition=0))
            if len(waiting) == _BATCH:
                await self._acknowledged(waiting)
                waiting = []
        await self._acknowledged(waiting)

    async def _acknowledged(self, waiting: list[asyncio.Future[Any]]) -> None:
        if waiting:
            await asyncio.gather(*waiting)
            self._metrics.add(PUBLISHED, len(waiting))


class Reader:
    """Reads the topic from its start."""

    __slots__ = ("_bootstrap", "_consumer", "_metrics", "_partition", "_security", "_topic")

    def __init__(
        self,
        bootstrap: str,
        live: metrics.Metrics,
        topic: Topic = INVENTORY,
        security: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        """``security``: further arguments of aiokafka's clients."""
        self._security, self._topic = security, topic
        self._bootstrap, self._metrics = bootstrap, live
        self._partition = TopicPartition(topic.name, 0)
        self._consumer: Any = None

    async def start(self) -> None:
        """Create the topic if need be, connect, and stand at its start."""
        await create_topic(self._bootstrap, self._topic, self._security)
        self._consumer = AIOKafkaConsumer(
            bootstrap_servers=self._bootstrap,
            group_id=None,
            enable_auto_commit=False,
            fetch_max_wait_ms=100,
            **self._security,
        )
        await self._consumer.start()
        self._consumer.assign([self._partition])
        await self._consumer.seek_to_beginning(self._partition)

    async def stop(self) -> None:
        """Disconnect."""
        if self._consumer is not None:
            await self._consumer.stop()

    async def catch_up(self, take: Callable[[Message], None]) -> None:
        """Hand over all that the topic holds at this moment, then return."""
        end = (await self._consumer.end_offsets([self._partition]))[self._partition]
        while await self._consumer.position(self._partition) < end:
            for message in await self._batch():
                take(message)

    async def batches(self) -> AsyncIterator[list[Message]]:
        """Messages as they come, in order, for ever."""
        while True:
            batch = await self._batch()
            if batch:
                yield batch

    async def _batch(self) -> list[Message]:
        fetched = await self._consumer.getmany(self._partition, timeout_ms=200, max_records=5_000)
        messages = []
        for record in fetched.get(self._partition, ()):
            try:
                messages.append(decode_message(record.key, record.value))
            except RejectedRecord as rejected:
                self._metrics.add(REJECTED, reason=rejected.reason)
        return messages
