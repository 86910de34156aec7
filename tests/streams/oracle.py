"""What must come out of a raw topic, worked out record by record in plain Python: slow, and nothing shared with core.

It reads each partition in its order once, as a worker that never dies would, and says which records are late, which
batches are doubled or lost, and every total.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tierflow.schemas.clock import NS_PER_S
from tierflow.schemas.wire import decode_batch

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tierflow.schemas.wire import Batch, BatchHeader

TOTALS = (
    "packets_in", "packets_out", "bytes_in", "bytes_out", "num_flows", "num_flows_started", "num_flows_completed",
)  # fmt: skip
AMOUNTS = ("packets_fwd", "packets_rev", "bytes_fwd", "bytes_rev")
WAYS = {
    1: ("packets_out", "packets_in", "bytes_out", "bytes_in"),
    2: ("packets_in", "packets_out", "bytes_in", "bytes_out"),
}
COLUMNS = (
    "src_hi", "src_lo", "dst_hi", "dst_lo", "nat_dst_hi", "nat_dst_lo", "src_port", "dst_port", "nat_dst_port", "proto",
    "reporter", "marks", "last_seen_ns", *AMOUNTS,
)  # fmt: skip
LIST = list(COLUMNS)


@dataclass(slots=True)
class Node:
    """What is known of one node at a point of its partition."""

    heard_ms: int = 0
    watermark_ns: int = 0
    closed_below: int = 0
    interval_end_ns: int = 0
    open: set[int] = field(default_factory=set)
    seen: dict[bytes, set[int]] = field(default_factory=dict)
    gaps: list[tuple[bytes, int, int, int]] = field(default_factory=list)


@dataclass(slots=True)
class Expected:
    """Totals by window start and whether late; plus what is counted beside."""

    width_s: int
    lateness_s: int
    idle_s: int
    totals: dict[tuple[str, int, bool], Counter[str]] = field(default_factory=dict)
    late_records: int = 0
    duplicates: int = 0
    lost_batches: int = 0
    lost_records: int = 0
    _flows: set[tuple[Any, ...]] = field(default_factory=set)

    def read(self, messages: Iterable[tuple[int, bytes]]) -> int:
        """One partition: ``(timestamp in ms, value)`` in order; returns how many records count."""
        nodes: dict[str, Node] = {}
        records = 0
        for timestamp_ms, value in messages:
            batch = decode_batch(value)
            for each in nodes.values():
                if each.open and timestamp_ms - each.heard_ms >= self.idle_s * 1000:
                    each.closed_below = max(each.closed_below, max(each.open) + 1)
                    each.open.clear()
            node = nodes.setdefault(batch.header.node, Node())
            node.heard_ms = max(node.heard_ms, timestamp_ms)
            if self._fresh(node, batch.header):
                self._count(node, batch)
                records += len(batch.records)
        return records

    def _fresh(self, node: Node, header: BatchHeader) -> bool:
        seen = node.seen.setdefault(header.boot_id, set())
        if header.sequence in seen:
            self.duplicates += 1
            return False
        if seen and header.sequence > max(seen) + 1:
            until = max(node.interval_end_ns, header.interval_start_ns)
            node.gaps.append((header.boot_id, max(seen) + 1, header.sequence, until))
        seen.add(header.sequence)
        return True

    def _count(self, node: Node, batch: Batch) -> None:
        header = batch.header
        self.lost_records += header.lost_records
        open_from = node.closed_below
        node.watermark_ns = max(node.watermark_ns, header.watermark_ns)
        node.interval_end_ns = max(node.interval_end_ns, header.interval_end_ns)
        passed = node.watermark_ns - self.lateness_s * NS_PER_S
        node.closed_below = max(node.closed_below, passed // (self.width_s * NS_PER_S))
        for gap in [each for each in node.gaps if each[3] <= passed]:
            node.gaps.remove(gap)
            self.lost_batches += len(set(range(gap[1], gap[2])) - node.seen[gap[0]])
        for values in batch.records[LIST].tolist():
            record = dict(zip(COLUMNS, values, strict=True))
            index = record["last_seen_ns"] // (self.width_s * NS_PER_S)
            late = index < open_from
            self.late_records += late
            if not late:
                node.open.add(index)
            self._add(header, index, record, late)
        node.open = {index for index in node.open if index >= node.closed_below}

    def _add(self, header: BatchHeader, index: int, record: Mapping[str, int], late: bool) -> None:
        sums = self.totals.setdefault((header.node, index * self.width_s, late), Counter())
        for name, amount in zip(WAYS[record["reporter"]], AMOUNTS, strict=True):
            sums[name] += record[amount]
        sums["num_flows_started"] += record["marks"] & 1
        sums["num_flows_completed"] += record["marks"] >> 1 & 1
        translated = record["nat_dst_hi"] or record["nat_dst_lo"]
        end = ("nat_dst_hi", "nat_dst_lo", "nat_dst_port") if translated else ("dst_hi", "dst_lo", "dst_port")
        connection = (
            *(record[name] for name in end),
            *(record[name] for name in ("src_hi", "src_lo", "src_port", "proto", "reporter")),
        )
        flow = (header.node, index, (header.boot_id, header.sequence) if late else None, connection)
        if flow not in self._flows:
            self._flows.add(flow)
            sums["num_flows"] += 1


def summed(logs: Iterable[Mapping[str, Any]]) -> dict[tuple[str, int, bool], Counter[str]]:
    """The same totals from flow logs; derived ones repeat what their source says."""
    found: dict[tuple[str, int, bool], Counter[str]] = {}
    for log in logs:
        if not log["derived"]:
            sums = found.setdefault((log["host"], log["start_time"], log["late"]), Counter())
            for name in TOTALS:
                sums[name] += log[name]
    return found
