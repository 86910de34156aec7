"""The loop between Faust and the core: takes messages in handfuls, waits for the inventory, writes, settles offsets."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from tierflow.schemas.clock import NS_PER_S
from tierflow.schemas.wire import interval_end_of
from tierflow.streams import metrics as m
from tierflow.streams.core.messages import Message, Outcome
from tierflow.streams.unknowns import Unknowns

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tierflow.inventory.snapshot import Snapshot
    from tierflow.schemas.clock import Clock
    from tierflow.schemas.metrics import Metrics
    from tierflow.streams.core.endpoints import DirectionKey
    from tierflow.streams.core.stage import Stage
    from tierflow.streams.output import Output

log = logging.getLogger(__name__)

BROKER_ANSWER_S: Final = 5.0
CLOCKS_APART_MS: Final = 5000
"""How far this machine's clock may be ahead of the broker's."""

RULE_SILENCE_S: Final = 60
"""A policy rule's metric series ends this long after it last moved."""


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """How the worker reads.

    Attributes:
        batch_bytes: raw bytes worked on at once.
        buffer_bytes: raw bytes held before reading is stopped; bounds memory.
        inventory_wait_s: how long a batch waits for the inventory to catch up with it.
        tick_s: how often silent nodes are looked for.
    """

    batch_bytes: int = 4 * 1024 * 1024
    buffer_bytes: int = 32 * 1024 * 1024
    inventory_wait_s: float = 5.0
    tick_s: float = 0.5


class Worker:
    """One worker's loop; Faust hands it events, and it acknowledges them when all they fed is written."""

    def __init__(
        self,
        settings: WorkerSettings,
        stage: Stage,
        output: Output,
        snapshot: Callable[[], Snapshot],
        live: Metrics,
        clock: Clock,
        bootstrap: str,
        topic: str,
        client: Mapping[str, Any] | None = None,
    ) -> None:
        self._settings, self._stage, self._output = settings, stage, output
        self._snapshot, self._metrics, self._clock = snapshot, live, clock
        self._bootstrap, self._topic, self._client = bootstrap, topic, dict(client or {})
        self._queue: deque[tuple[Any, float]] = deque()
        self._queued_bytes = 0
        self._arrived = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._unsettled: dict[tuple[int, int], Any] = {}
        self._rules: dict[tuple[str, ...], float] = {}
        self._turned_s = clock.monotonic_s()
        self._governed: set[DirectionKey] = set()
        self._unknowns = Unknowns(live)
        self.consumer: Any = None

    @property
    def silent_s(self) -> float:
        """How long the loop has not come round: it writes, and the broker takes nothing, or it recalls."""
        return self._clock.monotonic_s() - self._turned_s

    async def take(self, event: Any) -> None:
        """Queue one Faust event; waits while too much is queued."""
        self._queue.append((event, self._clock.monotonic_s()))
        self._queued_bytes += len(event.message.value or b"")
        self._arrived.set()
        if self._queued_bytes > self._settings.buffer_bytes:
            self._room.clear()
            self._metrics.set(m.WAITING, self._queued_bytes)
            since = self._clock.monotonic_s()
            await self._room.wait()
            self._metrics.add(m.PAUSED, self._clock.monotonic_s() - since)

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            self._turned_s = self._clock.monotonic_s()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._arrived.wait(), self._settings.tick_s)
            events = self._handful()
            self._drop_foreign()
            if events:
                await self._work(events)
            await self._tick()

    def _handful(self) -> list[tuple[Any, float]]:
        events, size = [], 0
        while self._queue and size < self._settings.batch_bytes:
            item = self._queue.popleft()
            events.append(item)
            size += len(item[0].message.value or b"")
        self._queued_bytes -= size
        self._metrics.set(m.WAITING, self._queued_bytes)
        if not self._queue:
            self._arrived.clear()
        self._room.set()
        return events

    async def _work(self, events: list[tuple[Any, float]]) -> None:
        messages: list[Message] = []
        arrived = 0.0
        mine = self._assigned()
        for event, at in events:
            raw = event.message
            if mine is not None and raw.partition not in mine:
                continue
            message = Message(raw.partition, raw.offset, round((raw.timestamp or 0) * 1000), raw.key, raw.value or b"")
            raw.value = None  # The acknowledgement needs the offset only; the bytes may go when they are used.
            partition = self._stage.partitions.get(raw.partition)
            if partition is not None and partition.position is not None and raw.offset == partition.position - 1:
                continue
            if partition is None or (partition.position is not None and raw.offset != partition.position):
                if messages:
                    await self._process(messages, arrived)
                    messages = []
                await self._take_up(raw.partition, message)
            partition = self._stage.partitions[raw.partition]
            partition.position = raw.offset + 1
            self._unsettled[raw.partition, raw.offset] = raw
            messages.append(message)
            arrived = at
        if messages:
            await self._process(messages, arrived)

    async def _process(self, messages: list[Message], arrived: float) -> None:
        await self._wait_for_inventory(messages, arrived)
        self._use_newest()
        for outcome in self._stage.outcomes(messages):
            await self._write(outcome)

    async def _write(self, outcome: Outcome) -> None:
        delay_s = 0.1
        while True:
            try:
                await self._output.write(outcome)
                break
            except KafkaError as error:
                # Written twice is written once: the ids are the same.
                log.warning("can't write, trying again: %s", error, extra={"delay_s": delay_s})
                await asyncio.sleep(delay_s)
                delay_s = min(delay_s * 2, 5.0)
        for number, offsets in self._stage.written(outcome).items():
            for offset in offsets:
                raw = self._unsettled.pop((number, offset), None)
                if raw is not None:
                    raw.ack(self.consumer)
        self._count(outcome)

    async def _tick(self) -> None:
        if self._show_progress() or self._queue or self.consumer is None:
            return
        # The broker's clock tells silence; this one may be ahead of it.
        now_ms = self._clock.now_ns() // 1_000_000 - CLOCKS_APART_MS
        if not await self._all_read([n for n, each in self._stage.partitions.items() if each.holds_idle(now_ms)]):
            return
        while True:
            self._use_newest()
            outcome = self._stage.close_idle(now_ms)
            if not outcome.closed:
                break
            await self._write(outcome)

    async def _all_read(self, numbers: list[int]) -> bool:
        """Whether the broker, asked now, has nothing more in some partitions: a worker that was cut off can't tell."""
        if not numbers:
            return False
        tps = {number: _faust_tp(self._topic, number) for number in numbers}
        try:
            ends = await asyncio.wait_for(self.consumer.highwaters(*tps.values()), BROKER_ANSWER_S)
        except (KafkaError, TimeoutError) as error:
            log.warning("can't ask for the end of the topic: %s", repr(error))
            return False
        return all((self._stage.partitions[each].position or 0) >= ends.get(tp, 0) for each, tp in tps.items())

    def _show_progress(self) -> int:
        """Set the gauges; returns how many messages wait in the topic."""
        behind = 0
        for number, partition in self._stage.partitions.items():
            end = self._end_of(number)
            if end is None:
                # Somebody else's by now: nothing of it may be closed here.
                behind += 1
                continue
            lag = max(0, end - (partition.position or 0))
            self._metrics.set(m.LAG, lag, partition=str(number))
            behind += lag
        self._metrics.set(m.OPEN_WINDOWS, sum(each.open_windows for each in self._stage.partitions.values()))
        self._metrics.set(m.UNSETTLED, len(self._unsettled))
        self._end_quiet_series()
        return behind

    def _end_of(self, number: int) -> int | None:
        """The partition's end as last heard; None when it has been taken away, which its own thread may do any time."""
        tp = _faust_tp(self._topic, number)
        if self.consumer is None or tp not in self.consumer.assignment():
            return None
        try:
            return self.consumer.highwater(tp) or 0
        except AssertionError:  # aiokafka's way to say that it went between these two lines
            return None

    def _end_quiet_series(self) -> None:
        now = self._clock.monotonic_s()
        for key in [key for key, at in self._rules.items() if now - at > RULE_SILENCE_S]:
            del self._rules[key]
            labels = dict(zip(m.RULE_BYTES.labels, key, strict=True))
            for spec in (m.RULE_CONNECTIONS, m.RULE_PACKETS, m.RULE_BYTES):
                self._metrics.forget(spec, **labels)

    async def _wait_for_inventory(self, messages: list[Message], arrived: float) -> None:
        # Records begin anywhere in their interval, and a batch is cut where an address changed hands in it.
        needed = max(interval_end_of(message.value) for message in messages)
        now = self._clock.now_ns()
        if needed > now + self._settings.inventory_wait_s * NS_PER_S:
            needed = now
        deadline = arrived + self._settings.inventory_wait_s
        while self._snapshot().watermark_ns < needed:
            left = deadline - self._clock.monotonic_s()
            if left <= 0:
                self._metrics.add(m.JOINED_EARLY, len(messages))
                return
            await asyncio.sleep(min(0.01, left))

    async def _take_up(self, number: int, first: Message) -> None:
        """Start a partition at the offset Faust starts it, after recalling what went before."""
        for key in [key for key in self._unsettled if key[0] == number]:
            del self._unsettled[key]
        self._stage.open(number)
        self._metrics.add(m.REOPENED)
        window = self._stage.settings.window
        back_ms = (2 * window.width_s + window.lateness_s + window.idle_s + 60) * 1000
        tp = TopicPartition(self._topic, number)
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self._bootstrap, group_id=None, enable_auto_commit=False,
            max_partition_fetch_bytes=4 * 1024 * 1024, **self._client,
        )  # fmt: skip
        await consumer.start()
        try:
            consumer.assign([tp])
            start = (await consumer.beginning_offsets([tp]))[tp]
            if start >= first.offset:
                return
            found = (await consumer.offsets_for_times({tp: max(0, first.timestamp_ms - back_ms)})).get(tp)
            if found is not None and found.offset is not None:
                start = max(start, min(found.offset, first.offset))
            consumer.seek(tp, start)
            position = start
            while position < first.offset:
                fetched = await consumer.getmany(tp, timeout_ms=1000)
                records = [each for each in fetched.get(tp, ()) if each.offset < first.offset]
                if not records and not fetched.get(tp):
                    if await consumer.position(tp) >= first.offset:
                        break
                    continue
                self._stage.recall(
                    Message(number, each.offset, each.timestamp, each.key, each.value or b"") for each in records
                )
                position = fetched[tp][-1].offset + 1
                self._turned_s = self._clock.monotonic_s()
        finally:
            await consumer.stop()
        log.info("partition taken up", extra={"partition": number, "offset": first.offset, "recalled_from": start})

    def _assigned(self) -> set[int] | None:
        if self.consumer is None:
            return None
        return {tp.partition for tp in self.consumer.assignment() if tp.topic == self._topic}

    def _drop_foreign(self) -> None:
        mine = self._assigned()
        if mine is None:
            return
        for number in [each for each in self._stage.partitions if each not in mine]:
            self._stage.close(number)
            self._metrics.forget(m.LAG, partition=str(number))
            for key in [key for key in self._unsettled if key[0] == number]:
                del self._unsettled[key]

    def _use_newest(self) -> None:
        snapshot = self._snapshot()
        self._stage.use(snapshot)
        self._unknowns.tell(snapshot)

    def _count(self, outcome: Outcome) -> None:
        live = self._metrics
        for spec, amount in (
            (m.BATCHES, outcome.batches), (m.RECORDS, outcome.records), (m.DUPLICATES, outcome.duplicates),
            (m.LATE, outcome.late_records), (m.UNKNOWN, outcome.unknown_addresses), (m.LOGS, len(outcome.logs)),
            (m.COUNTERS, len(outcome.counters)), (m.PARTS, outcome.parts),
            (m.WINDOWS, sum(map(len, outcome.closed.values()))),
        ):  # fmt: skip
            if amount:
                live.add(spec, amount)
        for loss in outcome.losses:
            live.add(m.LOST, reason=loss.reason)
            live.add(m.LOST_BATCHES, loss.batches or 0)
            live.add(m.LOST_RECORDS, loss.records or 0)
        for rejected in outcome.rejected:
            if rejected.records:
                live.add(m.REJECTED_RECORDS, rejected.records, reason=rejected.reason)
            else:
                live.add(m.REJECTED, reason=rejected.reason)
        now_ns, width_ns = self._clock.now_ns(), self._stage.settings.window.width_ns
        for closed in outcome.closed.values():
            for window in closed:
                live.observe(m.DELAY, (now_ns - (window.index + 1) * width_ns) / NS_PER_S)
        if outcome.endpoints is not None:
            self._show_endpoints(outcome.endpoints)
        now = self._clock.monotonic_s()
        for key, sums in outcome.rules.items():
            labels = (key[0], key[1], str(key[6]), key[7], key[8])
            self._rules[labels] = now
            named = dict(zip(m.RULE_BYTES.labels, labels, strict=True))
            live.add(m.RULE_CONNECTIONS, sums[0], **named)
            live.add(m.RULE_PACKETS, sums[2] + sums[3], **named)
            live.add(m.RULE_BYTES, sums[4] + sums[5], **named)

    def _show_endpoints(self, counts: dict[DirectionKey, int]) -> None:
        for key in self._governed - counts.keys():
            self._metrics.forget(m.POLICY_ENDPOINTS, **dict(zip(m.POLICY_ENDPOINTS.labels, key, strict=True)))
        for key, count in counts.items():
            self._metrics.set(m.POLICY_ENDPOINTS, count, **dict(zip(m.POLICY_ENDPOINTS.labels, key, strict=True)))
        self._governed = set(counts)


def _faust_tp(topic: str, partition: int) -> Any:
    from faust.types import TP

    return TP(topic, partition)
