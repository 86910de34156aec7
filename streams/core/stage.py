"""The whole core of one worker: batches in; documents, losses and settled offsets out. No clock, no I/O."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import repeat
from typing import TYPE_CHECKING

import numpy as np

from tierflow.schemas.errors import RejectedRecord
from tierflow.streams.core.aggregate import aggregate
from tierflow.streams.core.counters import SUMS
from tierflow.streams.core.documents import Slot, encode_logs
from tierflow.streams.core.endpoints import EndpointCounts
from tierflow.streams.core.groups import Groups, Levels
from tierflow.streams.core.join import Judges
from tierflow.streams.core.knowledge import Knowledge
from tierflow.streams.core.locate import Locator
from tierflow.streams.core.messages import Outcome, Rejected, decode, usable
from tierflow.streams.core.sums import ANSWER_NS, Sums
from tierflow.streams.core.windows import Closed, Node, Partition, Window, WindowSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, MutableMapping, Sequence

    from numpy.typing import NDArray

    from tierflow.inventory.snapshot import Snapshot
    from tierflow.schemas.wire import Batch
    from tierflow.streams.core.join import Compiler
    from tierflow.streams.core.messages import Message
    from tierflow.streams.core.records import Columns


@dataclass(frozen=True, slots=True)
class StageSettings:
    """Everything that changes what the stage writes.

    Attributes:
        window: how windows are cut.
        levels: what is merged.
        sample: addresses that a flow log names per side.
        documents: flow logs at which a call ends early, so that not all windows are held as text at once.
    """

    window: WindowSettings = field(default_factory=WindowSettings)
    levels: Levels = field(default_factory=Levels)
    sample: int = 10
    documents: int = 20_000


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
        seed: bytes = b"",
    ) -> None:
        """``spent`` gets the seconds of ``now`` that each step takes, for benchmarks; ``seed`` is for hashing."""
        self.settings = settings
        self._spent: MutableMapping[str, float] = {} if spent is None else spent
        self._now, self._seed = now, seed
        self.partitions: dict[int, Partition] = {}
        self._judges = Judges(compiler)
        self._endpoints = EndpointCounts()
        self._knowledge: Knowledge | None = None
        self._locator: Locator | None = None
        self._source_ports = False
        self._rule_totals: NDArray[np.uint64] = np.zeros((len(SUMS), 0), np.uint64)

    def open(self, partition: int) -> Partition:
        """Start a partition afresh."""
        made = self.partitions[partition] = Partition(self.settings.window, self._seed)
        return made

    def close(self, partition: int) -> None:
        """Forget a partition: another worker reads it now."""
        self.partitions.pop(partition, None)

    def use(self, snapshot: Snapshot) -> None:
        """Take over what is known of the cluster."""
        known = self._knowledge
        if known is not None and known.covers(snapshot):
            last = known.snapshot
            if snapshot.endpoints is not last.endpoints or snapshot.slices is not last.slices:
                self._locator = Locator(snapshot, self._locator)
            known.snapshot = snapshot
            return
        self._judges.keep(snapshot.policy_versions)
        self._knowledge, self._locator = Knowledge(snapshot, self._judges), Locator(snapshot)
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
                batch = decode(message)
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

    def outcomes(self, messages: Sequence[Message]) -> Iterator[Outcome]:
        """Take all messages, in as many outcomes as it needs; each is to be written before the next is asked for."""
        at = 0
        while at < len(messages) or any(each.closing for each in self.partitions.values()):
            outcome = self.process(messages[at:])
            at += outcome.taken
            yield outcome

    def process(self, messages: Sequence[Message]) -> Outcome:
        """Take messages, in order within each partition; what they close is in the outcome.

        When that is much, only the first ``outcome.taken`` messages are.
        """
        outcome = Outcome()
        slots: list[Slot] = []
        self._flush(outcome, slots)
        for message in messages:
            if len(outcome.logs) >= self.settings.documents:
                break
            partition = self.partitions[message.partition]
            self._take(partition, message, outcome)
            outcome.taken += 1
            if partition.closing:
                self._flush(outcome, slots)
        self._finish(outcome, slots)
        return outcome

    def close_idle(self, timestamp_ms: int) -> Outcome:
        """Close windows of nodes that have gone silent at ``timestamp_ms``, with nothing new to read.

        When that is much, there is more for the next call.
        """
        outcome = Outcome()
        slots: list[Slot] = []
        for partition in self.partitions.values():
            partition.close_idle(timestamp_ms)
        self._flush(outcome, slots)
        self._finish(outcome, slots)
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

    def _take(self, partition: Partition, message: Message, outcome: Outcome) -> None:
        started = self._now()
        outcome.batches += 1
        try:
            batch = decode(message)
        except RejectedRecord as error:
            outcome.rejected.append(Rejected(message, error.reason, error.detail, message.value, 0))
            partition.position = message.offset + 1
            partition.hold(message.offset, "", [])
            return
        name = batch.header.node
        open_from = partition.admit(batch.header, message.offset, message.timestamp_ms)
        if open_from is None:
            outcome.duplicates += 1
            partition.hold(message.offset, name, [])
            return
        columns = usable(batch, message, outcome)
        self._mark("decode", started)
        if columns is None:
            partition.hold(message.offset, name, [])
            return
        outcome.records += columns.count
        by_window = self._by_window(columns)
        on_time = [(index, part) for index, part in by_window if index >= open_from]
        partition.hold(message.offset, name, [index for index, _ in on_time])
        node = partition.nodes[name]
        for index, part in on_time:
            window = partition.window(name, index)
            if not window.written:
                self._add(node, window, part, (index + 1) * self.settings.window.width_ns - ANSWER_NS)
                self._bound(name, node, index, window, outcome)
        for index, part in by_window:
            if index < open_from:
                self._late(batch, index, part, outcome)

    def _by_window(self, columns: Columns) -> list[tuple[int, Columns]]:
        width = self.settings.window.width_ns
        lowest, highest = int(columns.last_ns.min()) // width, int(columns.last_ns.max()) // width
        if lowest == highest:
            return [(lowest, columns)]
        indexes = columns.last_ns // np.uint64(width)
        return [(index, columns.where(indexes == index)) for index in np.unique(indexes).tolist()]

    def _add(self, node: Node, window: Window, columns: Columns, border_ns: int) -> None:
        if self._locator is None:
            raise RuntimeError("no inventory snapshot has been given")
        started = self._now()
        flows = node.flows
        connections, pairs = flows.find(columns, self._locator, keep_source_ports=self._keep_source_ports)
        self._mark("find", started)
        started = self._now()
        window.sums.add(columns, flows, connections, pairs, border_ns)
        self._mark("add", started)

    def _bound(self, name: str, node: Node, index: int, window: Window, outcome: Outcome) -> None:
        """Write a window's part when it has more connections than it may."""
        bound = self.settings.window.connections
        if node.flows.connections.count <= bound or window.sums.connections(node.flows) <= bound:
            return
        self._write(node, window.sums, None, self._slot(name, node.cluster, index, part=window.parts), outcome)
        sums, window.sums = window.sums, Sums()
        window.parts += 1
        outcome.parts += 1
        self._compact(node, sums)

    def _late(self, batch: Batch, index: int, columns: Columns, outcome: Outcome) -> None:
        outcome.late_records += columns.count
        header = batch.header
        late = f"{header.boot_id.hex()}/{header.sequence}"
        node, window = Node(header.cluster, self._seed), Window()
        # Any of its questions may be answered in another batch.
        self._add(node, window, columns, header.interval_end_ns - ANSWER_NS)
        self._write(node, window.sums, None, self._slot(header.node, header.cluster, index, late=late), outcome)

    def _slot(self, node: str, cluster: str, index: int, *, late: str = "", part: int = 0) -> Slot:
        width_s = self.settings.window.width_s
        return Slot(cluster, node, index * width_s, (index + 1) * width_s, late, part)

    def _flush(self, outcome: Outcome, slots: list[Slot]) -> None:
        """Write closed windows, until they are much."""
        for number, partition in self.partitions.items():
            for node, window, closed in partition.take_closed():
                outcome.closed.setdefault(number, []).append(closed)
                if not window.written and window.sums.records:
                    slot = self._slot(closed.node, closed.cluster, closed.index, part=window.parts)
                    slots.append(slot)
                    self._write(node, window.sums, self._following(node, closed), slot, outcome)
                self._compact(node, window.sums)
                if len(outcome.logs) >= self.settings.documents:
                    return

    def _following(self, node: Node, closed: Closed) -> Sums | None:
        """What is known of the window after a closed one; None when that is too early to tell."""
        if self.settings.window.lateness_ns < ANSWER_NS and not node.silent:
            return None
        window = node.windows.get(closed.index + 1)
        return Sums() if window is None else window.sums

    def _compact(self, node: Node, taken: Sums) -> None:
        if node.silent and not node.windows:
            # It may have left the cluster; if not, it costs little to begin anew.
            node.forget()
            return
        if node.flows.compact(taken, [each.sums for each in node.windows.values()]):
            node.groups = None

    def _write(self, node: Node, sums: Sums, following: Sums | None, slot: Slot, outcome: Outcome) -> None:
        knowledge, locator = self._knowledge, self._locator
        if knowledge is None or locator is None:
            raise RuntimeError("no inventory snapshot has been given")
        started = self._now()
        # A node that was silent may have its rows from a snapshot that numbers everything otherwise.
        node.flows.refresh(locator)
        if node.groups is None or node.groups.knowledge is not knowledge:
            node.groups = Groups(knowledge)
            node.flows.pairs.group[:] = 0
        logs = aggregate(sums, following, node.flows, node.groups, self.settings.levels, self.settings.sample)
        outcome.unknown_addresses += logs.strangers
        self._mark("join and aggregate", started)
        started = self._now()
        outcome.logs += zip(repeat(slot.node), encode_logs(logs, slot, node.groups))
        self._mark("flow logs", started)
        started = self._now()
        rules, totals = knowledge.rules.count(logs)
        outcome.counters += zip(repeat(slot.node), knowledge.rules.encode(rules, totals, slot))
        if self._rule_totals.shape[1] < len(knowledge.rules.keys):
            grown = np.zeros((len(SUMS), 2 * len(knowledge.rules.keys)), np.uint64)
            grown[:, : self._rule_totals.shape[1]] = self._rule_totals
            self._rule_totals = grown
        self._rule_totals[:, rules] += totals
        self._mark("counters", started)

    def _finish(self, outcome: Outcome, slots: list[Slot]) -> None:
        for partition in self.partitions.values():
            outcome.losses += partition.take_losses()
        knowledge = self._knowledge
        if knowledge is None or not outcome.logs:
            return
        moved = np.flatnonzero(self._rule_totals[0])
        for rule, sums in zip(moved.tolist(), self._rule_totals[:, moved].T.tolist(), strict=True):
            outcome.rules[knowledge.rules.keys[rule]] = sums
        self._rule_totals[:, moved] = 0
        documents = list(self._endpoints.encode(slots, knowledge.snapshot, self._judges))
        if documents:
            outcome.counters += documents
            outcome.endpoints = self._endpoints.latest

    def _mark(self, step: str, started: float) -> None:
        self._spent[step] = self._spent.get(step, 0.0) + self._now() - started
