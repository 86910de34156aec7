"""Windows of one partition: what is on time, late or twice; which windows are closed; which offsets are settled.

Event time is each node's own: a window closes when that node's watermark has passed its end by the allowed lateness,
whatever other nodes do. All decisions follow from the batches in their order in the partition, so that reading them
again decides the same.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field
from heapq import nlargest
from typing import TYPE_CHECKING, Final

from tierflow.schemas.clock import NS_PER_S
from tierflow.streams.core.flows import Flows
from tierflow.streams.core.losses import Loss
from tierflow.streams.core.sums import Sums

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tierflow.schemas.wire import BatchHeader
    from tierflow.streams.core.groups import Groups

BOOTS_KEPT: Final = 4
"""Collector runs of a node whose batches are still told from duplicates."""
MISSING_KEPT: Final = 4096
"""Missing sequence numbers of a run that may still arrive and be taken for what they are."""

REORDERED: Final = 16
"""Batches before the first one seen of a run that are taken as overtaken by it, not as seen before."""


@dataclass(frozen=True, slots=True)
class WindowSettings:
    """How windows are cut.

    Attributes:
        width_s: width of a window, whole seconds.
        lateness_s: how long after its end a window waits for late records.
        idle_s: a node silent for this long has its windows closed.
        connections: of one node's window at most; with more it is written in parts, which bounds memory.
    """

    width_s: int = 300
    lateness_s: int = 10
    idle_s: int = 60
    connections: int = 262_144

    @property
    def width_ns(self) -> int:
        """Width in nanoseconds."""
        return self.width_s * NS_PER_S

    @property
    def lateness_ns(self) -> int:
        """Lateness in nanoseconds."""
        return self.lateness_s * NS_PER_S


@dataclass(slots=True)
class Run:
    """One run of a node's collector: which of its batches have been seen."""

    next_sequence: int
    missing: set[int] = field(default_factory=set)


@dataclass(slots=True)
class Gap:
    """Batches that have not come yet; a loss once the node's watermark has passed ``end_ns`` by the lateness."""

    boot_id: bytes
    first: int
    after: int
    start_ns: int
    end_ns: int


@dataclass(slots=True)
class Window:
    """One open window of a node.

    Attributes:
        offsets: offsets of the batches that fed it.
        sums: what its records add up to since its last part was written.
        parts: how many of its parts are written already.
        written: True when its documents are in the topic already: a batch acknowledged long ago fed it.
    """

    offsets: list[int] = field(default_factory=list)
    sums: Sums = field(default_factory=Sums)
    parts: int = 0
    written: bool = False


@dataclass(slots=True)
class Node:
    """What is known of one node; ``flows`` are what its windows' sums refer to, ``groups`` what the flows do."""

    cluster: str
    seed: bytes = b""
    groups: Groups | None = None
    silent: bool = False
    watermark_ns: int = 0
    closed_below: int = 0
    last_timestamp_ms: int = 0
    interval_end_ns: int = 0
    windows: dict[int, Window] = field(default_factory=dict)
    runs: OrderedDict[bytes, Run] = field(default_factory=OrderedDict)
    gaps: list[Gap] = field(default_factory=list)
    _flows: Flows | None = None

    @property
    def flows(self) -> Flows:
        """Its connections and pairs; made when first asked for, as many a node has left the cluster for good."""
        if self._flows is None:
            self._flows = Flows(self.seed)
        return self._flows

    def forget(self) -> None:
        """Drop flows and groups, to which no window's sums refer any more."""
        self._flows = self.groups = None


@dataclass(frozen=True, slots=True)
class Closed:
    """A window taken out for writing."""

    node: str
    cluster: str
    index: int
    offsets: list[int]


@dataclass(slots=True)
class Partition:
    """State of one partition of raw batches; made anew whenever the partition is read from an earlier offset.

    Attributes:
        settings: how windows are cut.
        seed: for the hashing of nodes' flows.
        nodes: by name.
        losses: found and not yet taken.
        position: offset to be read next.
        pending: offsets that are not settled, in their order.
        feeding: by offset, how many unwritten windows it feeds.
        closing: whether :meth:`take_closed` may have something to give.
        idle_from_ms: no node is idle before this time, so that not every batch has to look at all nodes.
    """

    settings: WindowSettings
    seed: bytes = b""
    nodes: dict[str, Node] = field(default_factory=dict)
    losses: list[Loss] = field(default_factory=list)
    position: int | None = None
    pending: deque[int] = field(default_factory=deque)
    feeding: dict[int, int] = field(default_factory=dict)
    closing: bool = False
    idle_from_ms: int = 0

    def admit(self, header: BatchHeader, offset: int, timestamp_ms: int) -> int | None:
        """Take note of a batch.

        Returns:
            the first window index that is still open for its records (lower ones are late), or None for a batch that
            has been seen before.
        """
        self.position = offset + 1
        self.close_idle(timestamp_ms)
        node = self.nodes.get(header.node)
        if node is None:
            node = self.nodes[header.node] = Node(header.cluster, self.seed)
        node.silent = False
        node.last_timestamp_ms = max(node.last_timestamp_ms, timestamp_ms)
        self.idle_from_ms = min(self.idle_from_ms, timestamp_ms + self.settings.idle_s * 1000)
        if not self._fresh(node, header):
            return None
        if header.lost_records or header.lost_packets or header.lost_bytes:
            self.losses.append(
                Loss(
                    header.cluster, header.node, "collector_loss", header.interval_start_ns, header.interval_end_ns,
                    f"{header.boot_id.hex()}/{header.sequence}",
                    None, header.lost_records, header.lost_packets, header.lost_bytes,
                )
            )  # fmt: skip
        open_from = node.closed_below
        node.watermark_ns = max(node.watermark_ns, header.watermark_ns)
        node.interval_end_ns = max(node.interval_end_ns, header.interval_end_ns)
        passed = max(0, node.watermark_ns - self.settings.lateness_ns)
        if passed // self.settings.width_ns > node.closed_below:
            node.closed_below = passed // self.settings.width_ns
            self.closing = True
        self._settle_gaps(header.node, node, passed)
        return open_from

    def hold(self, offset: int, node: str, indexes: list[int]) -> None:
        """Say which windows a batch feeds; its offset is settled when they are all written."""
        self.pending.append(offset)
        self.feeding[offset] = len(indexes)
        for index in indexes:
            self.window(node, index).offsets.append(offset)

    def window(self, node: str, index: int) -> Window:
        """The open window ``index`` of a node, made if need be."""
        windows = self.nodes[node].windows
        window = windows.get(index)
        if window is None:
            window = windows[index] = Window()
        return window

    def close_idle(self, timestamp_ms: int) -> None:
        """Close the windows of nodes that have been silent at ``timestamp_ms`` for the idle time."""
        if timestamp_ms < self.idle_from_ms:
            return
        heard = [node.last_timestamp_ms for node in self.nodes.values() if node.windows]
        self.idle_from_ms = min(heard, default=timestamp_ms) + self.settings.idle_s * 1000
        for node in self.nodes.values():
            if self._idle(node, timestamp_ms):
                last = max(node.windows)
                if last >= node.closed_below:
                    node.closed_below = last + 1
                    node.silent = self.closing = True

    def holds_idle(self, timestamp_ms: int) -> bool:
        """Whether :meth:`close_idle` would close a window."""
        return any(self._idle(node, timestamp_ms) for node in self.nodes.values())

    def _idle(self, node: Node, timestamp_ms: int) -> bool:
        return bool(node.windows) and timestamp_ms - node.last_timestamp_ms >= self.settings.idle_s * 1000

    def take_closed(self) -> Iterator[tuple[Node, Window, Closed]]:
        """Remove and give closed windows one by one, in order of node and window."""
        if not self.closing:
            return
        for name, node in self.nodes.items():
            for index in sorted(each for each in node.windows if each < node.closed_below):
                window = node.windows.pop(index)
                yield node, window, Closed(name, node.cluster, index, window.offsets)
        self.closing = False

    def take_losses(self) -> list[Loss]:
        """Remove and return the losses found."""
        found, self.losses = self.losses, []
        return found

    def written(self, closed: list[Closed]) -> None:
        """Say that the documents of closed windows are safely in their topics."""
        for window in closed:
            for offset in window.offsets:
                if offset in self.feeding:
                    self.feeding[offset] -= 1

    def settled(self) -> list[int]:
        """Offsets, from the oldest without a hole, that need not be read again."""
        found = []
        while self.pending and not self.feeding[self.pending[0]]:
            offset = self.pending.popleft()
            del self.feeding[offset]
            found.append(offset)
        return found

    @property
    def open_windows(self) -> int:
        """How many windows are open."""
        return sum(len(node.windows) for node in self.nodes.values())

    def _fresh(self, node: Node, header: BatchHeader) -> bool:
        run = node.runs.get(header.boot_id)
        if run is None:
            if node.runs:
                old = next(reversed(node.runs))
                self.losses.append(
                    Loss(
                        header.cluster, header.node, "collector_restart", node.interval_end_ns,
                        max(node.interval_end_ns, header.interval_start_ns),
                        f"{old.hex()}/{header.boot_id.hex()}", None, None, None, None,
                    )
                )  # fmt: skip
            earlier = range(max(0, header.sequence - REORDERED), header.sequence)
            node.runs[header.boot_id] = Run(header.sequence + 1, set(earlier))
            while len(node.runs) > BOOTS_KEPT:
                node.runs.popitem(last=False)
            return True
        if header.sequence >= run.next_sequence:
            if header.sequence > run.next_sequence:
                first = run.next_sequence
                node.gaps.append(
                    Gap(header.boot_id, first, header.sequence, node.interval_end_ns,
                        max(node.interval_end_ns, header.interval_start_ns))
                )  # fmt: skip
                run.missing.update(range(max(first, header.sequence - MISSING_KEPT), header.sequence))
                if len(run.missing) > MISSING_KEPT:
                    run.missing = set(nlargest(MISSING_KEPT, run.missing))
            run.next_sequence = header.sequence + 1
            return True
        if header.sequence in run.missing:
            run.missing.remove(header.sequence)
            return True
        return False

    def _settle_gaps(self, name: str, node: Node, passed_ns: int) -> None:
        if not node.gaps:
            return
        waiting = []
        for gap in node.gaps:
            if gap.end_ns > passed_ns:
                waiting.append(gap)
                continue
            run = node.runs.get(gap.boot_id)
            came = 0
            if run is not None:
                kept = range(max(gap.first, gap.after - MISSING_KEPT), gap.after)
                came = sum(sequence not in run.missing for sequence in kept)
            lost = gap.after - gap.first - came
            if lost:
                self.losses.append(
                    Loss(
                        node.cluster, name, "sequence_gap", gap.start_ns, gap.end_ns,
                        f"{gap.boot_id.hex()}/{gap.first}", lost, None, None, None,
                    )
                )  # fmt: skip
        node.gaps = waiting
