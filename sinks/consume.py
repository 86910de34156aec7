"""Reads the documents' topics into the embedded store; positions are kept in the store, with the documents."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from tierflow.schemas import topics
from tierflow.schemas.ending import let_go
from tierflow.schemas.errors import RejectedRecord, RejectReason, TransientError
from tierflow.sinks import metrics as counted
from tierflow.sinks.broker import broker_faults
from tierflow.sinks.dead_letter import DeadLetters, Rejected, Tolerance
from tierflow.sinks.documents import flatten
from tierflow.sinks.duckdb.tables import FLOW_LOGS, LOSSES, POLICY_COUNTERS, TYPES
from tierflow.sinks.duckdb.writer import Load
from tierflow.sinks.retry import Retry, Stopped, unless_stopped

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from aiokafka.structs import ConsumerRecord

    from tierflow.schemas.clock import Clock
    from tierflow.schemas.metrics import Metrics
    from tierflow.sinks.duckdb.writer import Writer

    _Polled = Mapping[TopicPartition, Sequence[ConsumerRecord[bytes, bytes]]]

_LOG = logging.getLogger(__name__)

TABLE_OF: Final = {
    topics.FLOWS_LOGS.name: FLOW_LOGS,
    topics.POLICY_COUNTERS.name: POLICY_COUNTERS,
    topics.FLOWS_LOSS.name: LOSSES,
}
"""The table that each topic fills; its prefix stands before the name."""

MAX_DOCUMENTS: Final = 5_000
"""The most documents of one transaction; bounds the sink's memory."""
POLL_MS: Final = 500
CHECK_S: Final = 2.0
"""How often new partitions, and a broker that has forgotten everything, are looked for."""
TOLERANCE: Final = Tolerance()


class DuckDBSink:
    """Moves documents from the topics into the store.

    Args:
        consumer: not started, without a group: one process owns the store's file, and its positions are in the store.
        dead_letters: not started.
        writer: of the store.
        clock: for the time of a dead letter.
        metrics: where things are counted.
        retry: how a store that can't be written to, or a broker that is away, is tried again.
        topic_prefix: put before each topic's name.
    """

    def __init__(
        self,
        consumer: AIOKafkaConsumer,
        dead_letters: AIOKafkaProducer,
        writer: Writer,
        clock: Clock,
        metrics: Metrics,
        retry: Retry | None = None,
        topic_prefix: str = "",
    ) -> None:
        self._consumer = consumer
        self._dead_letters = dead_letters
        self._writer = writer
        self._metrics = metrics
        self._retry = retry or Retry()
        self._table_of = {topic_prefix + name: table for name, table in TABLE_OF.items()}
        self._dead_letter = topics.DEAD_LETTER.with_prefix(topic_prefix).name
        self._letters = DeadLetters(self._send, clock, metrics, self._retry, random.random)
        self._ends: dict[TopicPartition, int] = {}
        self._checked_s = 0.0

    async def start(self) -> None:
        """Connect, and take up where the store's documents end."""
        await self._consumer.start()
        await self._dead_letters.start()
        await self._learn_partitions()
        await self._assign(self._writer.offsets())
        self._checked_s = asyncio.get_running_loop().time()

    async def stop(self) -> None:
        """Disconnect."""
        await let_go(self._consumer.stop(), self._dead_letters.stop())

    async def run(self, stop: asyncio.Event) -> None:
        """Move documents until ``stop`` is set, waiting while the store can't be written to or the broker is away.

        Raises:
            UnavailableError: most of what arrives is refused.
            KafkaError: the broker refuses for good.
        """
        # What is in hand when it is stopped isn't in the store, nor is its position.
        with contextlib.suppress(Stopped):
            while not stop.is_set():
                await unless_stopped(stop, self._look())
                polled = await self._until_polled(stop)
                if polled:
                    await self._move(polled, stop)

    async def _look(self) -> None:
        """Now and then, see what there is to read."""
        now_s = asyncio.get_running_loop().time()
        if now_s - self._checked_s < CHECK_S:
            return
        self._checked_s = now_s
        try:
            await self._check()
        except KafkaError as error:
            _LOG.warning("broker: %s; trying again", type(error).__name__)

    async def _until_polled(self, stop: asyncio.Event) -> _Polled:
        async def poll() -> _Polled:
            if not self._consumer.assignment():
                await asyncio.sleep(POLL_MS / 1000)
                return {}
            with broker_faults("broker"):
                polled: _Polled = await self._consumer.getmany(timeout_ms=POLL_MS, max_records=MAX_DOCUMENTS)
            return polled

        return await self._retry.until_done(
            lambda: unless_stopped(stop, poll()), TransientError, lambda: self._retried("broker"), stop
        )

    async def _learn_partitions(self) -> bool:
        """Have the client know the partitions of the topics that there are; False when there is none of them."""
        known = await self._consumer.topics() & self._table_of.keys()
        for topic in known:
            if self._consumer.partitions_for_topic(topic) is None:
                # A consumer that subscribes to nothing is told of no topic until it asks about one.
                await self._consumer.end_offsets([TopicPartition(topic, 0)])
        return bool(known)

    async def _assign(self, offsets: Mapping[tuple[str, int], int]) -> None:
        """Read every partition that there is; one that is new here from its offset, or from its start without one."""
        wanted = [
            TopicPartition(topic, partition)
            for topic in self._table_of
            for partition in sorted(self._consumer.partitions_for_topic(topic) or ())
        ]
        new = set(wanted) - set(self._consumer.assignment())
        if not new:
            return
        positions = {each: await self._consumer.position(each) for each in self._consumer.assignment()}
        # Asked before the assignment: afterwards each question waits behind the fetch that is under way.
        begins = await self._consumer.beginning_offsets(list(new))
        ends = await self._consumer.end_offsets(list(new))
        self._consumer.assign(wanted)
        for each in wanted:
            at = positions.get(each, offsets.get((each.topic, each.partition)))
            self._consumer.seek(each, begins[each] if at is None or at > ends.get(each, at) else at)

    async def _check(self) -> None:
        """Take new partitions; where a partition now ends before our position, its broker lost it: begin again."""
        if await self._learn_partitions():
            # Not the store's positions: of a topic that wasn't there at the start, they are its former life's.
            await self._assign({})
        assigned = list(self._consumer.assignment())
        if not assigned:
            return
        lag = dict.fromkeys(self._table_of, 0)
        for each, end in (await self._consumer.end_offsets(assigned)).items():
            position = await self._consumer.position(each)
            # Compared with the end before, not with our position: a broker may report an end behind what it gave.
            if end < self._ends.get(each, 0):
                _LOG.warning(
                    "%s/%d ends at %d, before its earlier %d: reading it anew",
                    each.topic, each.partition, end, self._ends[each],
                )  # fmt: skip
                await self._consumer.seek_to_beginning(each)
            self._ends[each] = end
            lag[each.topic] += max(0, end - position)
        for topic, messages in lag.items():
            self._metrics.set(counted.LAG, messages, topic=topic)

    async def _move(self, polled: _Polled, stop: asyncio.Event) -> None:
        load, rejected, read = Load(), list[Rejected](), dict[str, int]()
        size = 0
        for partition, messages in polled.items():
            table = self._table_of[partition.topic]
            read[partition.topic] = read.get(partition.topic, 0) + len(messages)
            for message in messages:
                size += len(message.value or b"")
                try:
                    load.rows.setdefault(table, []).append(_parse(message.value, table))
                except RejectedRecord as error:
                    rejected.append(Rejected(message, error.reason, error.detail))
            load.offsets[partition.topic, partition.partition] = messages[-1].offset + 1
        TOLERANCE.check(rejected, sum(read.values()))
        # Dead letters first: after a crash in between they come twice, never not at all.
        await self._letters.send(rejected, stop)
        self._metrics.set(counted.PENDING_BYTES, size)
        added = await self._until_written(load, stop)
        self._metrics.set(counted.PENDING_BYTES, 0)
        self._count(read, rejected, added)

    async def _send(self, key: bytes, value: bytes) -> None:
        await self._dead_letters.send_and_wait(self._dead_letter, value, key=key)

    async def _until_written(self, load: Load, stop: asyncio.Event) -> int:
        """The number of rows added; when stopped first, nothing of the load is in, and its positions aren't."""
        added = await self._retry.until_done(
            lambda: asyncio.to_thread(self._writer.write, load), TransientError, self._unwritable, stop
        )
        self._metrics.set(counted.STORE_UP, 1)
        return added

    def _unwritable(self) -> None:
        self._metrics.set(counted.STORE_UP, 0)
        self._metrics.add(counted.FAILURES)
        self._retried("unwritable")

    def _retried(self, cause: str) -> None:
        self._metrics.add(counted.RETRIES, cause=cause)

    def _count(self, read: Mapping[str, int], rejected: Sequence[Rejected], added: int) -> None:
        refused = Counter(each.message.topic for each in rejected)
        for topic, count in read.items():
            if count > refused[topic]:
                self._metrics.add(counted.DOCUMENTS, count - refused[topic], topic=topic, result="stored")
            if refused[topic]:
                self._metrics.add(counted.DOCUMENTS, refused[topic], topic=topic, result="rejected")
        repeated = sum(read.values()) - len(rejected) - added
        if repeated:
            self._metrics.add(counted.REPEATED, repeated)


def _parse(value: bytes | None, table: str) -> dict[str, Any]:
    try:
        document = orjson.loads(value or b"")
    except orjson.JSONDecodeError as error:
        raise RejectedRecord(RejectReason.BAD_JSON, str(error)) from error
    return flatten(document, TYPES[table])
