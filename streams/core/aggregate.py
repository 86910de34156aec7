"""Add a window up to flow logs, as columns: one line per reporter and aggregation key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from tierflow.schemas.record import Reporter
from tierflow.streams.core.grouping import first_of_each, hash_columns, runs
from tierflow.streams.core.join import DENY
from tierflow.streams.core.sums import TOTALS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tierflow.streams.core.flows import Flows
    from tierflow.streams.core.groups import Groups, Levels
    from tierflow.streams.core.sums import Sums

    I64 = NDArray[np.int64]
    I32 = NDArray[np.int32]
    Mask = NDArray[np.bool_]
    U64 = NDArray[np.uint64]

EVIDENCE: Final = ("unknown", "enforced", "leak", "unanswered", "answered")
"""Names of the numbers in ``Logs.evidence``."""
_TAG: Final = np.uint64(0x9E3779B97F4A7C15)
_FWD = TOTALS.index("packets_fwd")


@dataclass(frozen=True, slots=True)
class Logs:
    """Flow logs of one window as columns of length n; ``group`` numbers rows of :class:`Groups`.

    ``strangers`` counts ends of address pairs that nobody in the cluster is known to hold.
    """

    group: I64
    evidence: I32
    towards: NDArray[np.bool_]
    trace: I32
    flows: I64
    started: U64
    completed: U64
    packets_in: U64
    packets_out: U64
    bytes_in: U64
    bytes_out: U64
    rtt_sum_us: U64
    rtt_count: U64
    rtt_max_us: U64
    strangers: int


def aggregate(
    sums: Sums, following: Sums | None, flows: Flows, groups: Groups, levels: Levels, sample: int
) -> Logs:  # fmt: skip
    """The flow logs of one window; see :class:`Logs`. ``following`` is as :meth:`Sums.answers` takes it.

    A source's pair whose destination denies it, and that nothing answered or saw arrive on this node, gives a second,
    derived log of the destination.
    """
    connections = np.flatnonzero(sums.touched[: flows.connections.count])
    pair_of = flows.connections.pair[connections]
    seen = np.zeros(flows.pairs.count, bool)
    seen[pair_of] = True
    pairs = np.flatnonzero(seen)
    unknown = pairs[flows.pairs.group[pairs] == 0]
    if len(unknown):
        groups.classify(flows.pairs, unknown, levels)

    totals = sums.totals[:, : flows.pairs.count]
    answered, asked = sums.answers(following, flows.pairs.count)
    second = _derived(flows, totals[_FWD] > 0, answered, connections, pairs)
    # Entries: one per pair, then one per derived denial.
    pair = np.concatenate([pairs, second])
    entry_group = np.concatenate([flows.pairs.group[pairs], flows.pairs.derived[second]])
    present = np.zeros(groups.count, bool)
    present[entry_group] = True
    group_of = np.flatnonzero(present)
    number = np.zeros(groups.count, np.int64)
    number[group_of] = np.arange(len(group_of))
    log_of = number[entry_group]
    _write_samples(flows, groups, group_of, pair, log_of, sample)

    added = np.zeros((len(TOTALS), len(group_of)), np.uint64)
    for total, column in zip(added, totals, strict=True):
        np.add.at(total, log_of, column[pair])
    rtt_max = np.zeros(len(group_of), np.uint64)
    np.maximum.at(rtt_max, log_of, sums.rtt_max_us[pair])
    bytes_fwd, bytes_rev, fwd, rev, started, completed, rtt_sum, rtt_count = added
    heard = [_any(each[pair], log_of, len(group_of)) for each in (answered, asked)]
    derived = groups.derived[group_of] == 1
    denied = groups.action[group_of] == DENY
    towards = groups.reporter[group_of] == Reporter.DST
    # What a derived denial leaves out: answers and handshakes, which its destination never saw.
    for column in (rtt_sum, rtt_count, rtt_max):
        column[derived] = 0
    return Logs(
        group=group_of,
        evidence=_evidence((fwd == 0) & (rev == 0), denied, towards & ~derived & (fwd > 0), *heard),
        towards=towards,
        trace=groups.trace[group_of],
        flows=_distinct_connections(flows, connections, pair_of, number, second, len(group_of)),
        started=started,
        completed=completed,
        packets_in=np.where(towards, fwd, rev),
        packets_out=np.where(towards, rev, fwd),
        bytes_in=np.where(towards, bytes_fwd, bytes_rev),
        bytes_out=np.where(towards, bytes_rev, bytes_fwd),
        rtt_sum_us=rtt_sum,
        rtt_count=rtt_count,
        rtt_max_us=rtt_max,
        strangers=int(flows.pairs.strangers[pairs].sum()),
    )


def _derived(flows: Flows, sent: Mask, answered: Mask, connections: I64, pairs: I64) -> I64:
    """Pairs whose destination denies them, as only the source's node could see: no answer, and no arrival here."""
    table = flows.pairs
    alone: I64 = pairs[(table.derived[pairs] != 0) & sent[pairs] & ~answered[pairs]]
    if not len(alone):
        return alone
    pair_of, names = flows.connections.pair[connections], flows.connections.name[connections]
    arrived = np.zeros(table.count, bool)
    arrived[pairs] = (table.reporter(pairs) == Reporter.DST) & sent[pairs]
    wanted = np.zeros(table.count, bool)
    wanted[alone] = True
    mine = wanted[pair_of]
    wanted[pair_of[mine][np.isin(names[mine], names[arrived[pair_of]])]] = False
    found: I64 = alone[wanted[alone]]
    return found


def _any(of_pair: Mask, log_of: I64, size: int) -> Mask:
    """Whether any of a log's pairs is so."""
    found = np.zeros(size, bool)
    found[log_of[of_pair]] = True
    return found


def _evidence(silent: Mask, denied: Mask, arrived: Mask, answered: Mask, asked: Mask) -> I32:
    """Position in :data:`EVIDENCE`: denied and yet seen at the destination or answered is a leak."""
    return np.select(
        [silent, denied & (arrived | answered), denied, answered, asked], [0, 2, 1, 4, 3], default=0
    ).astype(np.int32)  # fmt: skip


def _distinct_connections(
    flows: Flows, connections: I64, pair_of: I32, number: I64, second: I64, size: int
) -> I64:  # fmt: skip
    names, log_of = flows.connections.name[connections], number[flows.pairs.group[pair_of]]
    if len(second):
        again = np.zeros(flows.pairs.count, bool)
        again[second] = True
        also = np.flatnonzero(again[pair_of])
        names = np.concatenate([names, names[also]])
        log_of = np.concatenate([log_of, number[flows.pairs.derived[pair_of[also]]]])
    counted = hash_columns(names, log_of)
    ordered = np.sort(counted)
    if (ordered[1:] == ordered[:-1]).any():
        log_of = log_of[first_of_each(counted)]
    return np.bincount(log_of, minlength=size)


def _write_samples(flows: Flows, groups: Groups, group_of: I64, pair: I64, log_of: I64, sample: int) -> None:
    """Addresses and labels of each log; those of a log with the same pairs as last time are known already."""
    signature = np.zeros(len(group_of), np.uint64)
    tags = pair.astype(np.uint64) * _TAG
    tags ^= tags >> np.uint64(32)
    tags *= _TAG
    np.add.at(signature, log_of, tags)
    changed = signature != groups.signature[group_of]
    logs = np.flatnonzero(changed)
    if not len(logs):
        return
    groups.signature[group_of[logs]] = signature[logs]
    some = np.flatnonzero(changed[log_of])
    renumbered = np.cumsum(changed) - 1
    pair, log_of = pair[some], renumbered[log_of[some]]
    table, texts = flows.pairs, groups.knowledge.texts
    sides = []
    for name, hi, lo, label_column in (
        ("source", table.src_hi, table.src_lo, table.source_labels),
        ("dest", table.end_hi, table.end_lo, table.dest_labels),
    ):
        counts, addresses = _addresses(log_of, hi[pair], lo[pair], len(logs), sample)
        labels = texts.labels(name, *_label_sets(log_of, label_column[pair]))
        sides.append((counts.tolist(), texts.addresses(*addresses), labels))
    (source_counts, source_ips, source_labels), (dest_counts, dest_ips, dest_labels) = sides
    for row, source_label, dest_label, source, dest, sources, dests in zip(
        group_of[logs].tolist(), source_labels, dest_labels, source_ips, dest_ips, source_counts, dest_counts,
        strict=True,
    ):  # fmt: skip
        listed = f',"source_ips":{source},"dest_ips":{dest},"num_source_ips":{sources},"num_dest_ips":{dests}'
        groups.samples[row] = (source_label, dest_label, listed.encode())


def _label_sets(log_of: I64, values: I32) -> tuple[list[int], list[int]]:
    """Distinct label sets, log by log, and where each log's begin; one more for the end."""
    packed = np.unique((log_of << 32) | values)
    starts, _ = runs(packed >> 32)
    return (packed & 0xFFFF_FFFF).tolist(), [*starts.tolist(), len(packed)]


def _addresses(log_of: I64, hi: U64, lo: U64, size: int, sample: int) -> tuple[I64, tuple[U64, U64, I64]]:
    """How many distinct addresses each log has, and the lowest of them: halves, and where each log's begin."""
    order = np.lexsort((lo, hi, log_of))
    of, hi, lo = log_of[order], hi[order], lo[order]
    new = np.ones(len(of), bool)
    new[1:] = (of[1:] != of[:-1]) | (hi[1:] != hi[:-1]) | (lo[1:] != lo[:-1])
    of, hi, lo = of[new], hi[new], lo[new]
    starts, run = runs(of)
    kept = np.arange(len(of)) - starts[run] < sample
    offsets = np.concatenate(([0], np.cumsum(np.bincount(of[kept], minlength=size))))
    return np.bincount(of, minlength=size), (hi[kept], lo[kept], offsets)
