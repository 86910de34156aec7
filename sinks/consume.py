"""Reads the documents' topics into the embedded store; positions are kept in the store, with the documents."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from typing import TYPE_CHECKING, Any, Final

import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError, KafkaTimeoutError

from tierflow.schemas import topics
from tierflow.schemas.errors import RejectedRecord, RejectReason, TransientError, UnavailableError
from tierflow.sinks import metrics as counted
from tierflow.sinks.dead_letter import letter
from tierflow.sinks.documents import flatten
from tierflow.sinks.duckdb.tables import FLOW_LOGS, LOSSES, POLICY_COUNTERS, TYPES
from tierflow.sinks.duckdb.writer import Load
from tierflow.sinks.retry import Retry

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from aiokafka.structs import ConsumerRecord

    from tierflow.schemas.clock import Clock
    from tierflow.schemas.metrics import Metrics
    from tierflow.sinks.duckdb.writer import Writer

_LOG = logging.getLogger(__name__)

TABLE_OF: Final = {
    topics.FLOWS_LOGS.name: FLOW_LOGS,
    topics.POLICY_COUNTERS.name: POLICY_COUNTERS,
    topics.FLOWS_LOSS.name: LOSSES,
}
"""The table that each topic fills."""

MAX_DOCUMENTS: Final = 5_000
"""The most documents of one transaction; bounds the sink's memory."""
POLL_MS: Final = 500
CHECK_S: Final = 2.0
"""How often new partitions, and a broker that has forgotten everything, are looked for."""
MAX_REJECTED_RATIO: Final = 0.5
"""Of at least MIN_JUDGED documents in one load; past it the topic's writer is wrong, and draining would lose all."""
MIN_JUDGED: Final = 100


class DuckDBSink:
    """Moves documents from the topics into the store.

    Args:
        consumer: not started, without a group: one process owns the store's file, and its positions are in the store.
        dead_letters: not started.
        writer: of the store.
        clock: for the time of a dead letter.
        metrics: where things are counted.
        retry: how a store that can't be written to is tried again.
    """

    def __init__(
        self,
        consumer: AIOKafkaConsumer,
        dead_letters: AIOKafkaProducer,
        writer: Writer,
        clock: Clock,
        metrics: Metrics,
        retry: Retry | None = None,
    ) -> None:
        self._consumer = consumer
        self._dead_letters = dead_letters
        self._writer = writer
        self._clock = clock
        self._metrics = metrics
        self._retry = retry or Retry()
        self._ends: dict[TopicPartition, int] = {}

    async def start(self) -> None:
        """Connect, and take up where the store's documents end."""
        await self._consumer.start()
        await self._dead_letters.start()
        await self._learn_partitions()
        await self._assign(self._writer.offsets())

    async def stop(self) -> None:
        """Disconnect."""
        await self._consumer.stop()
        await self._dead_letters.stop()

    async def run(self, stop: asyncio.Event) -> None:
        """Move documents until ``stop`` is set, waiting while the store can't be written to.

        Raises:
            UnavailableError: most of what arrives is refused.
        """
        loop = asyncio.get_running_loop()
        checked_s = loop.time()
        while not stop.is_set():
            if loop.time() - checked_s >= CHECK_S:
                checked_s = loop.time()
                try:
                    await self._check()
                except KafkaError as error:
                    _LOG.warning("broker: %s; trying again", type(error).__name__)
            if not self._consumer.assignment():
                await asyncio.sleep(POLL_MS / 1000)
                continue
            polled = await self._consumer.getmany(timeout_ms=POLL_MS, max_records=MAX_DOCUMENTS)
            if polled:
                await self._move(polled, stop)

    async def _learn_partitions(self) -> bool:
        """Have the client know the partitions of the topics that there are; False when there is none of them."""
        known = await self._consumer.topics() & TABLE_OF.keys()
        for topic in known:
            if self._consumer.partitions_for_topic(topic) is None:
                # A consumer that subscribes to nothing is told of no topic until it asks about one.
                await self._consumer.end_offsets([TopicPartition(topic, 0)])
        return bool(known)

    async def _assign(self, offsets: Mapping[tuple[str, int], int]) -> None:
        wanted = [
            TopicPartition(topic, partition)
            for topic in TABLE_OF
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
            await self._assign({})
        assigned = list(self._consumer.assignment())
        if not assigned:
            return
        lag = dict.fromkeys(TABLE_OF, 0)
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

    async def _move(
        self, polled: Mapping[TopicPartition, Sequence[ConsumerRecord[bytes, bytes]]], stop: asyncio.Event
    ) -> None:
        load, letters, read = Load(), list[tuple[str, bytes]](), dict[str, list[int]]()
        detail, size = "", 0
        for partition, messages in polled.items():
            table = TABLE_OF[partition.topic]
            tally = read.setdefault(partition.topic, [0, 0])
            for message in messages:
                size += len(message.value or b"")
                try:
                    load.rows.setdefault(table, []).append(_parse(message.value, table))
                    tally[0] += 1
                except RejectedRecord as error:
                    detail = error.detail
                    letters.append((message.topic, letter(message, error.reason, error.detail, self._clock)))
                    tally[1] += 1
            load.offsets[partition.topic, partition.partition] = messages[-1].offset + 1
        total = sum(sum(tally) for tally in read.values())
        if total >= MIN_JUDGED and len(letters) > MAX_REJECTED_RATIO * total:
            raise UnavailableError(
                f"{len(letters)} of {total} documents refused ({detail}): is another version writing?"
            )
        # Dead letters first: after a crash in between they come twice, never not at all.
        for topic, value in letters:
            if not await self._until_sent(topic, value, stop):
                return
        self._metrics.set(counted.PENDING_BYTES, size)
        added = await self._until_written(load, stop)
        if added is None:
            return
        self._metrics.set(counted.PENDING_BYTES, 0)
        self._count(read, added)

    async def _until_sent(self, topic: str, value: bytes, stop: asyncio.Event) -> bool:
        """Whether the broker has the letter; not when stopped first: the load's positions aren't in, nor its rows."""
        pauses = self._retry.pauses(random.random)
        while True:
            try:
                await self._dead_letters.send_and_wait(topics.DEAD_LETTER.name, value, key=topic.encode())
            except KafkaError as error:
                if not (error.retriable or isinstance(error, KafkaTimeoutError)):
                    raise
                pause = next(pauses)
                self._metrics.add(counted.RETRIES, cause="dead_letter")
                _LOG.warning("dead letter: %s; trying again in %.1f s", type(error).__name__, pause)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), pause)
                    return False
            else:
                return True

    async def _until_written(self, load: Load, stop: asyncio.Event) -> int | None:
        """The number of rows added; None when stopped first: nothing of the load is in, and its positions aren't."""
        pauses = self._retry.pauses(random.random)
        while True:
            try:
                added = await asyncio.to_thread(self._writer.write, load)
            except TransientError as error:
                pause = next(pauses)
                self._metrics.set(counted.STORE_UP, 0)
                self._metrics.add(counted.FAILURES)
                self._metrics.add(counted.RETRIES, cause="unwritable")
                _LOG.warning("%s; trying again in %.1f s", error, pause)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), pause)
                    return None
            else:
                self._metrics.set(counted.STORE_UP, 1)
                return added

    def _count(self, read: Mapping[str, Sequence[int]], added: int) -> None:
        repeated = -added
        for topic, (stored, rejected) in read.items():
            repeated += stored
            if stored:
                self._metrics.add(counted.DOCUMENTS, stored, topic=topic, result="stored")
            if rejected:
                self._metrics.add(counted.DOCUMENTS, rejected, topic=topic, result="rejected")
        if repeated:
            self._metrics.add(counted.REPEATED, repeated)


def _parse(value: bytes | None, table: str) -> dict[str, Any]:
    try:
        document = orjson.loads(value or b"")
    except orjson.JSONDecodeError as error:
        raise RejectedRecord(RejectReason.BAD_JSON, str(error)) from error
    return flatten(document, TYPES[table])
