"""The whole core of one worker: batches in; documents, losses and settled offsets out. No clock, no I/O."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from tierflow.schemas.clock import NS_PER_S
from tierflow.schemas.errors import RejectedRecord, RejectReason
from tierflow.schemas.record import RECORD
from tierflow.schemas.wire import decode_batch
from tierflow.streams.core.aggregate import Levels, aggregate
from tierflow.streams.core.counters import RuleKey, count_rules, encode_counters
from tierflow.streams.core.documents import Slot, document_id, encode_logs
from tierflow.streams.core.endpoints import DirectionKey, EndpointCounts
from tierflow.streams.core.entities import Ends, Traces
from tierflow.streams.core.join import Judges, epoch_starts, join
from tierflow.streams.core.reduce import EARLIEST_NS, Reduced, join_slots, merge, reduce_records, unusable
from tierflow.streams.core.windows import Partition, WindowSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, MutableMapping, Sequence

    from numpy.typing import NDArray

    from tierflow.inventory.snapshot import Snapshot
    from tierflow.schemas.wire import Batch
    from tierflow.streams.core.join import Compiler
    from tierflow.streams.core.windows import Closed, Loss

FUTURE_NS = 3600 * NS_PER_S
"""How far a node's clock may be ahead of the time at which its message was written."""


@dataclass(frozen=True, slots=True)
class StageSettings:
    """Everything that changes what the stage writes."""

    window: WindowSettings = field(default_factory=WindowSettings)
    levels: Levels = field(default_factory=Levels)
    sample: int = 10


@dataclass(frozen=True, slots=True)
class Message:
    """One message of the raw topic; ``timestamp_ms`` is Kafka's."""

    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes


@dataclass(frozen=True, slots=True)
class Rejected:
    """A message, or records of one, that can't be used."""

    message: Message
    reason: str
    detail: str
    value: bytes
    records: int


@dataclass(slots=True)
class Outcome:
    """What one call made; the counts are of this call.

    Attributes:
        logs: (node, JSON) for the flow-log topic.
        counters: (node, JSON) for the policy-counter topic.
        losses: what is known to be missing.
        rejected: for the dead-letter topic.
        closed: windows whose documents are in here, by partition.
        rules: totals by rule, for metrics.
        endpoints: how many endpoints each policy applies to by the newest window; None: no window told.
    """

    logs: list[tuple[str, bytes]] = field(default_factory=list)
    counters: list[tuple[str, bytes]] = field(default_factory=list)
    losses: list[Loss] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    closed: dict[int, list[Closed]] = field(default_factory=dict)
    rules: dict[RuleKey, list[int]] = field(default_factory=dict)
    endpoints: dict[DirectionKey, int] | None = None
    batches: int = 0
    duplicates: int = 0
    records: int = 0
    late_records: int = 0
    unknown_addresses: int = 0


def _no_time() -> float:
    return 0.0


class Stage:
    """Joins, judges and aggregates; partitions come and go with :meth:`open` and :meth:`close`."""

    def __init__(
        self,
        settings: StageSettings,
        compiler: Compiler,
        spent: MutableMapping[str, float] | None = None,
        now: Callable[[], float] = _no_time,
    ) -> None:
        """``spent`` gets the seconds of ``now`` that each step takes, for benchmarks."""
        self.settings = settings
        self._spent: MutableMapping[str, float] = {} if spent is None else spent
        self._now = now
        self.partitions: dict[int, Partition] = {}
        self._judges = Judges(compiler)
        self._ends = Ends()
        self._traces = Traces()
        self._endpoints = EndpointCounts()
        self._snapshot: Snapshot | None = None
        self._boundaries: NDArray[np.uint64] = np.zeros(0, np.uint64)
        self._source_ports = False

    def open(self, partition: int) -> Partition:
        """Start a partition afresh."""
        made = self.partitions[partition] = Partition(self.settings.window)
        return made

    def close(self, partition: int) -> None:
        """Forget a partition: another worker reads it now."""
        self.partitions.pop(partition, None)

    def use(self, snapshot: Snapshot) -> None:
        """Take over what is known of the cluster."""
        if snapshot is self._snapshot:
            return
        previous = self._snapshot
        self._snapshot = snapshot
        self._boundaries = snapshot.boundaries_ns
        if previous is None or not _same(previous.policy_versions, snapshot.policy_versions):
            self._judges.keep(snapshot.policy_versions)
            self._traces.keep(snapshot.policy_versions)
            self._source_ports = any(
                rule.source.ports or rule.source.not_ports
                for resources in snapshot.policy_versions
                for policy in resources.policies
                for rule in (*policy.ingress, *policy.egress)
            )

    def recall(self, messages: Iterable[Message]) -> None:
        """Learn from batches acknowledged long ago which windows are written and what has been seen of each node."""
        for message in messages:
            partition = self.partitions[message.partition]
            try:
                batch = _decode(message)
            except RejectedRecord:
                partition.position = message.offset + 1
                continue
            open_from = partition.admit(batch.header, message.offset, message.timestamp_ms)
            if open_from is None or not len(batch.records):
                continue
            indexes = np.unique(batch.records["last_seen_ns"] // np.uint64(self.settings.window.width_ns))
            for index in indexes.tolist():
                if index >= open_from:
                    partition.window(batch.header.node, index).written = True
        for partition in self.partitions.values():
            partition.take_losses()

    def process(self, messages: Sequence[Message]) -> Outcome:
        """Take messages, in order within each partition; what they close is in the outcome."""
        started = self._now()
        outcome = Outcome()
        slots: list[tuple[Partition, str, int]] = []
        numbers: dict[tuple[int, str, int], int] = {}
        chunks: list[NDArray[np.void]] = []
        slot_of: list[NDArray[np.int32]] = []
        late: list[tuple[Batch, NDArray[np.void], NDArray[np.uint64]]] = []
        width = np.uint64(self.settings.window.width_ns)
        for message in messages:
            partition = self.partitions[message.partition]
            outcome.batches += 1
            try:
                batch = _decode(message)
            except RejectedRecord as error:
                outcome.rejected.append(Rejected(message, error.reason, error.detail, message.value, 0))
                partition.position = message.offset + 1
                partition.hold(message.offset, "", [])
                continue
            node = batch.header.node
            open_from = partition.admit(batch.header, message.offset, message.timestamp_ms)
            if open_from is None:
                outcome.duplicates += 1
                partition.hold(message.offset, node, [])
                continue
            records = _usable(batch, message, outcome)
            outcome.records += len(records)
            if not len(records):
                partition.hold(message.offset, node, [])
                continue
            indexes = records["last_seen_ns"] // width
            lowest, highest = int(indexes.min()), int(indexes.max())
            if lowest < open_from:
                on_time = indexes >= np.uint64(open_from)
                late.append((batch, records[~on_time], indexes[~on_time]))
                records, indexes = records[on_time], indexes[on_time]
                if not len(records):
                    partition.hold(message.offset, node, [])
                    continue
                lowest = int(indexes.min())
            fed = [lowest] if lowest == highest else np.unique(indexes).tolist()
            partition.hold(message.offset, node, fed)
            for index in fed:
                if (message.partition, node, index) not in numbers:
                    numbers[message.partition, node, index] = len(slots)
                    slots.append((partition, node, index))
            chunks.append(records)
            if len(fed) == 1:
                slot_of.append(np.full(len(records), numbers[message.partition, node, fed[0]], np.int32))
            else:
                table = np.array([numbers[message.partition, node, each] for each in fed], np.int32)
                slot_of.append(table[np.searchsorted(np.array(fed, np.uint64), indexes)])
        self._mark("decode", started)
        started = self._now()
        if chunks:
            self._reduce(chunks, slot_of, slots)
        self._mark("reduce", started)
        for batch, records, indexes in late:
            self._late(batch, records, indexes, outcome)
        self._flush(outcome)
        return outcome

    def close_idle(self, timestamp_ms: int) -> Outcome:
        """Close windows of nodes that have gone silent at ``timestamp_ms``, with nothing new to read."""
        outcome = Outcome()
        for partition in self.partitions.values():
            partition.close_idle(timestamp_ms)
        self._flush(outcome)
        return outcome

    def written(self, outcome: Outcome) -> dict[int, list[int]]:
        """Say that all of an outcome is safely in its topics; returns the offsets settled, by partition."""
        for number, closed in outcome.closed.items():
            if number in self.partitions:
                self.partitions[number].written(closed)
        return {number: found for number, each in self.partitions.items() if (found := each.settled())}

    @property
    def _keep_source_ports(self) -> bool:
        return self._source_ports or 0 in (self.settings.levels.allowed, self.settings.levels.denied)

    def _reduce(
        self,
        chunks: list[NDArray[np.void]],
        slot_of: list[NDArray[np.int32]],
        slots: list[tuple[Partition, str, int]],
    ) -> None:
        records = np.concatenate(chunks) if len(chunks) > 1 else np.ascontiguousarray(chunks[0])
        numbers = np.concatenate(slot_of) if len(slot_of) > 1 else slot_of[0]
        epochs = epoch_starts(self._boundaries, records["first_seen_ns"])
        reduced = reduce_records(records, numbers, epochs, keep_source_ports=self._keep_source_ports)
        for (partition, node, index), part in zip(slots, split(reduced, len(slots)), strict=True):
            if part is not None:
                partition.window(node, index).add(part, self.settings.window.compact_rows)

    def _late(self, batch: Batch, records: NDArray[np.void], indexes: NDArray[np.uint64], outcome: Outcome) -> None:
        outcome.late_records += len(records)
        header = batch.header
        found, slot_of = np.unique(indexes, return_inverse=True)
        width_s = self.settings.window.width_s
        slots = [
            Slot(header.cluster, header.node, index * width_s, (index + 1) * width_s,
                 f"{header.boot_id.hex()}/{header.sequence}")
            for index in found.tolist()
        ]  # fmt: skip
        records = np.ascontiguousarray(records)
        epochs = epoch_starts(self._boundaries, records["first_seen_ns"])
        reduced = reduce_records(records, slot_of.astype(np.int32), epochs, keep_source_ports=self._keep_source_ports)
        self._write(merge([reduced]), slots, outcome)

    def _flush(self, outcome: Outcome) -> None:
        width_s = self.settings.window.width_s
        started = self._now()
        parts: list[Reduced] = []
        slots: list[Slot] = []
        for number, partition in self.partitions.items():
            outcome.losses += partition.take_losses()
            closed = partition.take_closed()
            if not closed:
                continue
            outcome.closed[number] = closed
            for window in closed:
                if window.written or not window.parts:
                    continue
                for part in window.parts:
                    part.rows["slot"] = len(slots)
                parts.append(merge(window.parts))
                slots.append(Slot(window.cluster, window.node, window.index * width_s, (window.index + 1) * width_s))
        if parts:
            merged = join_slots(parts)
            self._mark("merge", started)
            self._write(merged, slots, outcome)
            self._count_endpoints(slots, outcome)

    def _count_endpoints(self, slots: list[Slot], outcome: Outcome) -> None:
        snapshot = self._snapshot
        if snapshot is None:
            return
        documents = list(self._endpoints.encode(slots, snapshot, self._judges))
        if documents:
            outcome.counters += documents
            outcome.endpoints = self._endpoints.latest

    def _write(self, reduced: Reduced, slots: list[Slot], outcome: Outcome) -> None:
        snapshot = self._snapshot
        if snapshot is None:
            raise RuntimeError("no inventory snapshot has been given")
        started = self._now()
        joined = join(reduced.rows, snapshot, self._judges)
        self._mark("join and judge", started)
        started = self._now()
        outcome.unknown_addresses += int(np.count_nonzero((joined.src < 0) & (joined.src_set < 0) & joined.src_private))
        outcome.unknown_addresses += int(np.count_nonzero((joined.dst < 0) & (joined.dst_set < 0) & joined.dst_private))
        logs = aggregate(
            reduced, joined, snapshot, self._judges, self._ends, self._traces, self.settings.levels,
            self.settings.sample,
        )  # fmt: skip
        self._mark("aggregate", started)
        started = self._now()
        outcome.logs += encode_logs(logs, slots, reduced.rows, joined, snapshot, self._ends, self._traces)
        rules = count_rules(logs, self._traces)
        outcome.counters += encode_counters(rules, slots)
        for key, sums in rules.items():
            known = outcome.rules.get((0, *key[1:]))
            outcome.rules[0, *key[1:]] = sums if known is None else [a + b for a, b in zip(known, sums, strict=True)]
        self._mark("documents", started)

    def _mark(self, step: str, started: float) -> None:
        self._spent[step] = self._spent.get(step, 0.0) + self._now() - started


def split(reduced: Reduced, count: int) -> list[Reduced | None]:
    """Rows and tuples by slot, 0 to ``count`` - 1; None where there is nothing."""
    if count == 1:
        return [reduced]
    slots = reduced.rows["slot"]
    order = np.argsort(slots, kind="stable")
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    rows = reduced.rows[order]
    bounds = np.searchsorted(rows["slot"], np.arange(count + 1))
    tuple_rows = place[reduced.tuples["row"]]
    tuple_order = np.argsort(tuple_rows, kind="stable")
    tuples = reduced.tuples[tuple_order]
    tuples["row"] = tuple_rows[tuple_order]
    tuple_bounds = np.searchsorted(tuples["row"], bounds)
    parts: list[Reduced | None] = []
    for number in range(count):
        low, high = bounds[number], bounds[number + 1]
        if low == high:
            parts.append(None)
            continue
        own = tuples[tuple_bounds[number] : tuple_bounds[number + 1]].copy()
        own["row"] -= low
        parts.append(Reduced(rows[low:high].copy(), own))
    return parts


def encode_loss(loss: Loss) -> dict[str, Any]:
    """The document of a loss."""
    return {
        "id": document_id("loss", loss.cluster, loss.node, loss.reason, loss.key),
        "start_time": loss.start_ns // NS_PER_S,
        "end_time": -(-loss.end_ns // NS_PER_S),
        "cluster": loss.cluster,
        "host": loss.node,
        "reason": loss.reason,
        "batches": loss.batches,
        "records": loss.records,
        "packets": loss.packets,
        "bytes": loss.bytes,
    }


def _decode(message: Message) -> Batch:
    batch = decode_batch(message.value)
    header = batch.header
    latest = message.timestamp_ms * 1_000_000 + FUTURE_NS
    if not EARLIEST_NS <= header.interval_end_ns <= latest:
        raise RejectedRecord(
            RejectReason.BAD_TIME, f"interval ends at {header.interval_end_ns} ns; accepted {EARLIEST_NS} to {latest}"
        )
    if header.watermark_ns > header.interval_end_ns + NS_PER_S:
        raise RejectedRecord(
            RejectReason.BAD_TIME,
            f"watermark {header.watermark_ns} ns is after the interval's end {header.interval_end_ns}",
        )
    return batch


def _usable(batch: Batch, message: Message, outcome: Outcome) -> NDArray[np.void]:
    records = batch.records
    if not len(records):
        return records
    found = unusable(records, batch.header.interval_end_ns + NS_PER_S)
    if not found:
        return records
    keep = np.ones(len(records), bool)
    for reason, mask in found.items():
        keep &= ~mask
        count = int(np.count_nonzero(mask))
        detail = f"{count} of {len(records)} records of {RECORD.itemsize} bytes each, in value_base64"
        outcome.rejected.append(Rejected(message, reason, detail, records[mask].tobytes(), count))
    return records[keep]


def _same(one: Sequence[object], other: Sequence[object]) -> bool:
    return len(one) == len(other) and all(a is b for a, b in zip(one, other, strict=True))
