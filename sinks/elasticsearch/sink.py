"""From events to bulks: bounded buffering, waiting out a store that can't take more, acknowledging what is stored."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol

import orjson

from tierflow.schemas import topics
from tierflow.schemas.errors import RejectedRecord, RejectReason, TransientError, UnavailableError
from tierflow.sinks import metrics as counted
from tierflow.sinks.dead_letter import DeadLetters, Rejected, Tolerance
from tierflow.sinks.documents import flatten, nest
from tierflow.sinks.elasticsearch.indices import FLOWS, KINDS, LOSSES, POLICY_COUNTERS, IndexNames
from tierflow.sinks.elasticsearch.writer import Document
from tierflow.sinks.retry import Retry, Stopped

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from tierflow.schemas.clock import Clock
    from tierflow.schemas.metrics import Metrics
    from tierflow.sinks.elasticsearch.writer import ElasticsearchWriter, Written

KIND_OF: Final = {
    topics.FLOWS_LOGS.name: FLOWS,
    topics.POLICY_COUNTERS.name: POLICY_COUNTERS,
    topics.FLOWS_LOSS.name: LOSSES,
}
"""What each topic's documents are, by the topic's name without a prefix."""


class Event(Protocol):
    """A Kafka message as Faust hands it over; acknowledging lets its offset be committed."""

    message: Any

    def ack(self) -> bool:
        """Acknowledge."""
        ...


@dataclass(frozen=True, slots=True)
class SinkSettings:
    """How the sink buffers and judges.

    Attributes:
        max_documents: of one load.
        max_pending_bytes: read and not yet stored; past it reading stops, so that the rest waits in Kafka.
        linger_s: how long a load waits for more.
        tolerance: past it the sink stops instead of draining the topic into dead letters.
        retry: how a store, or a broker for dead letters, is tried again.
    """

    max_documents: int = 5_000
    max_pending_bytes: int = 16 << 20
    linger_s: float = 0.5
    tolerance: Tolerance = field(default_factory=Tolerance)
    retry: Retry = field(default_factory=Retry)


class ElasticsearchSink:
    """Takes events, stores their documents, and acknowledges each event when its document is in or refused for good.

    Args:
        writer: of the store.
        names: of its indices.
        send_dead_letter: returns when the broker has the letter.
        clock: for the time of a dead letter.
        metrics: where things are counted.
        random: from 0 to 1, for jitter.
        prefix: of the topics' names.
    """

    def __init__(
        self,
        writer: ElasticsearchWriter,
        names: IndexNames,
        send_dead_letter: Callable[[bytes, bytes], Coroutine[Any, Any, object]],
        clock: Clock,
        metrics: Metrics,
        random: Callable[[], float],
        settings: SinkSettings | None = None,
        prefix: str = "",
    ) -> None:
        self._writer, self._names, self._metrics, self._random = writer, names, metrics, random
        self._settings = settings or SinkSettings()
        self._letters = DeadLetters(send_dead_letter, clock, metrics, self._settings.retry, random)
        self._prefix = prefix
        self.positions: dict[tuple[str, int], int] = {}
        """By topic and partition, the offset behind which nothing has been stored yet."""
        self._waiting: deque[Event] = deque()
        self._bytes = 0
        self._arrived = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()

    async def take(self, event: Event) -> None:
        """Hold an event until there is room for more."""
        message = event.message
        self.positions.setdefault((message.topic, message.partition), message.offset)
        self._waiting.append(event)
        self._bytes += len(message.value or b"")
        if self._bytes >= self._settings.max_pending_bytes:
            self._room.clear()
            self._metrics.set(counted.PENDING_BYTES, self._bytes)
        self._arrived.set()
        await self._room.wait()

    async def run(self, stop: asyncio.Event) -> None:
        """Store what arrives until ``stop`` is set.

        Raises:
            UnavailableError: the store refuses most of what arrives; nothing is lost by that.
            KafkaError: the broker refuses dead letters for good; nor by that.
        """
        while not stop.is_set():
            self._metrics.set(counted.PENDING_BYTES, self._bytes)
            if not self._waiting:
                self._arrived.clear()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._arrived.wait(), self._settings.linger_s)
                continue
            if len(self._waiting) < self._settings.max_documents and self._room.is_set():
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), self._settings.linger_s)
            load = [self._waiting.popleft() for _ in range(min(len(self._waiting), self._settings.max_documents))]
            try:
                await self._store(load, stop)
            except Stopped:
                # Nothing of it is acknowledged, so it comes again.
                return
            self._bytes -= sum(len(event.message.value or b"") for event in load)
            self._metrics.set(counted.PENDING_BYTES, self._bytes)
            if self._bytes < self._settings.max_pending_bytes:
                self._room.set()

    async def _store(self, load: Sequence[Event], stop: asyncio.Event) -> None:
        documents: list[Document] = []
        of_document: list[Event] = []
        rejected: list[Rejected] = []
        for event in load:
            try:
                documents.append(self._document(event))
                of_document.append(event)
            except RejectedRecord as error:
                rejected.append(Rejected(event.message, error.reason, error.detail))
        written = await self._until_taken(documents, stop)
        rejected += [
            Rejected(of_document[refusal.position].message, RejectReason.STORE, refusal.detail)
            for refusal in written.refused
        ]
        self._settings.tolerance.check(rejected, len(load))
        # Dead letters before the acknowledgement: after a crash in between they come twice, never not at all.
        await self._letters.send(rejected, stop)
        for event in load:
            event.ack()
            self.positions[event.message.topic, event.message.partition] = event.message.offset + 1
        self._count(load, rejected, written)

    async def _until_taken(self, documents: Sequence[Document], stop: asyncio.Event) -> Written:
        async def attempt() -> Written:
            return await asyncio.to_thread(self._writer.write, documents, self._retried)

        # Also what looks final is waited out: a password is rotated, a certificate renewed, and then it goes on.
        waited_out = (TransientError, UnavailableError)
        written = await self._settings.retry.until_done(attempt, waited_out, self._failed, stop, self._random)
        self._metrics.set(counted.STORE_UP, 1)
        return written

    def _failed(self) -> None:
        self._metrics.set(counted.STORE_UP, 0)
        self._metrics.add(counted.FAILURES)

    def _retried(self, cause: str) -> None:
        self._metrics.add(counted.RETRIES, cause=cause)

    def _document(self, event: Event) -> Document:
        kind = KIND_OF[event.message.topic.removeprefix(self._prefix)]
        try:
            parsed = orjson.loads(event.message.value or b"")
        except orjson.JSONDecodeError as error:
            raise RejectedRecord(RejectReason.BAD_JSON, str(error)) from error
        flat = flatten(parsed, KINDS[kind])
        index = self._names.of(kind, flat["cluster"], flat["start_time"])
        return Document(kind, index, flat["id"], orjson.dumps(nest(flat)))

    def _count(self, load: Sequence[Event], rejected: Sequence[Rejected], written: Written) -> None:
        by_topic: dict[str, int] = {}
        for event in load:
            by_topic[event.message.topic] = by_topic.get(event.message.topic, 0) + 1
        for each in rejected:
            by_topic[each.message.topic] -= 1
            self._metrics.add(counted.DOCUMENTS, topic=each.message.topic, result="rejected")
        for topic, stored in by_topic.items():
            self._metrics.add(counted.DOCUMENTS, stored, topic=topic, result="stored")
        if written.repeated:
            self._metrics.add(counted.REPEATED, written.repeated)
