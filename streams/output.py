"""Write an outcome to its topics in whole batches, and return only when the broker has it all."""

from __future__ import annotations

import asyncio
import base64
from typing import TYPE_CHECKING, Any, Final

import orjson
from aiokafka import AIOKafkaProducer
from aiokafka.partitioner import DefaultPartitioner

from tierflow.schemas import topics
from tierflow.streams.core.losses import encode_loss

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tierflow.schemas.clock import Clock
    from tierflow.streams.core.messages import Outcome, Rejected

BATCH_BYTES: Final = 768 * 1024
DEAD_LETTER_BYTES: Final = 64 * 1024
CLIENT_ID: Final = "tierflow-stream-output"
"""By which the broker's metrics and quotas name the producer."""


class Output:
    """A producer for flow logs, counters, losses and dead letters."""

    def __init__(self, bootstrap: str, clock: Clock, prefix: str = "", client: Mapping[str, Any] | None = None) -> None:
        self._bootstrap, self._clock, self._client = bootstrap, clock, dict(client or {})
        self._logs, self._counters, self._losses, self._dead = (
            each.with_prefix(prefix).name
            for each in (topics.FLOWS_LOGS, topics.POLICY_COUNTERS, topics.FLOWS_LOSS, topics.DEAD_LETTER)
        )
        self._raw = topics.FLOWS_RAW.with_prefix(prefix).name
        self._producer: Any = None
        self._partitioner = DefaultPartitioner()

    async def start(self) -> None:
        """Connect."""
        self._producer = AIOKafkaProducer(
            bootstrap_servers=self._bootstrap, client_id=CLIENT_ID, acks="all", max_batch_size=BATCH_BYTES, linger_ms=0,
            max_request_size=2 * topics.FLOWS_LOGS.max_message_bytes, **self._client,
        )  # fmt: skip
        await self._producer.start()

    async def stop(self) -> None:
        """Disconnect."""
        if self._producer is not None:
            await self._producer.stop()

    async def write(self, outcome: Outcome) -> None:
        """Write everything of ``outcome``; raises a KafkaError when the broker didn't take it."""
        waiting: list[Any] = []
        await self._send(self._logs, outcome.logs, waiting)
        await self._send(self._counters, outcome.counters, waiting)
        await self._send(
            self._losses, [(loss.node, orjson.dumps(encode_loss(loss))) for loss in outcome.losses], waiting
        )
        await self._send(self._dead, [(self._raw, self._dead_letter(each)) for each in outcome.rejected], waiting)
        if waiting:
            await asyncio.gather(*waiting)

    async def _send(self, topic: str, documents: Iterable[tuple[str, bytes]], waiting: list[Any]) -> None:
        builders: dict[int, Any] = {}
        placed: dict[str, tuple[bytes, int]] = {}
        partitions = None
        for key, value in documents:
            if partitions is None:
                partitions = sorted(await self._producer.partitions_for(topic))
            if key not in placed:
                raw = key.encode()
                placed[key] = raw, self._partitioner(raw, partitions, partitions)
            raw, partition = placed[key]
            builder = builders.get(partition)
            if builder is None:
                builder = builders[partition] = self._producer.create_batch()
            if builder.append(key=raw, value=value, timestamp=None) is None:
                waiting.append(await self._producer.send_batch(builder, topic, partition=partition))
                builder = builders[partition] = self._producer.create_batch()
                builder.append(key=raw, value=value, timestamp=None)
        for partition, builder in builders.items():
            waiting.append(await self._producer.send_batch(builder, topic, partition=partition))

    def _dead_letter(self, rejected: Rejected) -> bytes:
        message = rejected.message
        return orjson.dumps({
            "time_ms": self._clock.now_ns() // 1_000_000,
            "stage": "stream",
            "topic": self._raw,
            "partition": message.partition,
            "offset": message.offset,
            "key": None if message.key is None else message.key.decode(errors="replace"),
            "reason": rejected.reason,
            "detail": rejected.detail,
            "value_base64": base64.b64encode(rejected.value[:DEAD_LETTER_BYTES]).decode(),
            "value_bytes": len(rejected.value),
        })  # fmt: skip
