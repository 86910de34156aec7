"""Aggregate joined rows to flow logs, as columns: one line per node, window, reporter and aggregation key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from tierflow.schemas.record import Reporter
from tierflow.streams.core.grouping import group, hash_columns, runs
from tierflow.streams.core.join import DENY

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tierflow.inventory.snapshot import Snapshot
    from tierflow.streams.core.entities import Ends, Traces
    from tierflow.streams.core.join import Joined, Judges
    from tierflow.streams.core.reduce import Reduced

    I64 = NDArray[np.int64]
    I32 = NDArray[np.int32]
    U64 = NDArray[np.uint64]

_PORTS: Final = np.zeros(256, bool)
_PORTS[[6, 17, 132, 136]] = True
"""Protocols that have ports: TCP, UDP, SCTP, UDP-Lite."""


@dataclass(frozen=True, slots=True)
class Levels:
    """What is merged; 0 nothing, 1 source ports, 2 pods of one prefix, 3 destination ports."""

    allowed: int = 2
    denied: int = 1


EVIDENCE: Final = ("unknown", "enforced", "leak", "unanswered", "answered")
"""Names of the numbers in ``Logs.evidence``."""


@dataclass(frozen=True, slots=True)
class Logs:
    """Flow logs as columns of length n; numbers refer to :class:`Ends`, :class:`Traces` and the snapshot.

    ``source_sample`` and ``dest_sample`` are (positions, offsets) into the rows: the sampled rows of log i are
    ``positions[offsets[i]:offsets[i + 1]]``. Label pairs are (log, label set) without repeats, ordered by log.
    """

    slot: I32
    level: I32
    reporter: NDArray[np.uint8]
    action: NDArray[np.uint8]
    derived: NDArray[np.bool_]
    evidence: I32
    proto: NDArray[np.uint8]
    source: I32
    dest: I32
    source_name: I32
    dest_name: I32
    service: I32
    source_port: I64
    dest_port: I64
    trace: I32
    row: I64
    flows: I64
    started: U64
    completed: U64
    packets_in: U64
    packets_out: U64
    bytes_in: U64
    bytes_out: U64
    rtt_sum_us: U64
    rtt_count: U64
    rtt_max_us: NDArray[np.generic]
    source_labels: tuple[I64, I64]
    dest_labels: tuple[I64, I64]
    source_ips: I64
    dest_ips: I64
    source_sample: tuple[I64, I64]
    dest_sample: tuple[I64, I64]


def aggregate(
    reduced: Reduced,
    joined: Joined,
    snapshot: Snapshot,
    judges: Judges,
    ends: Ends,
    traces: Traces,
    levels: Levels,
    sample: int,
) -> Logs:
    """Group rows by aggregation key; see :class:`Logs`.

    A source's row whose destination denies it, and that nothing answered or saw arrive on this node, gives a second,
    derived log of the destination.
    """
    rows, tuples = reduced.rows, reduced.tuples
    count = len(rows)
    reporter = np.ascontiguousarray(rows["reporter"])
    ingress = (reporter == Reporter.DST) | ((reporter == Reporter.FWD) & (joined.egress_action == 0))
    derived_rows = _derived(rows, tuples, joined)

    # Entries: one per row, then one per derived denial.
    row = np.concatenate([np.arange(count), derived_rows])
    derived = np.zeros(len(row), bool)
    derived[count:] = True
    inward = np.concatenate([ingress, np.ones(len(derived_rows), bool)])
    action = np.where(inward, joined.ingress_action[row], joined.egress_action[row])
    denied = action == DENY
    trace = _trace_numbers(
        traces,
        snapshot,
        judges,
        joined.policy[row],
        np.where(inward, joined.ingress_trace[row], joined.egress_trace[row]),
    )
    holds_deny = np.array(traces.holds_deny, bool)[trace]
    level = np.where(holds_deny | denied, levels.denied, levels.allowed).astype(np.int32)
    shown = np.where(derived, np.uint8(Reporter.DST), reporter[row])

    source, source_name, source_label = ends.columns(snapshot, joined.src, joined.src_set, joined.src_private)
    dest, dest_name, dest_label = ends.columns(snapshot, joined.dst, joined.dst_set, joined.dst_private)
    fine = level <= 1
    proto = np.ascontiguousarray(rows["proto"])[row]
    has_ports = _PORTS[proto]
    source_port = np.where((level == 0) & has_ports, rows["src_port"][row].astype(np.int64), -1)
    dest_port = np.where((level <= 2) & has_ports, joined.dst_port[row].astype(np.int64), -1)
    key_source_name = np.where(fine, source_name[row], 0)
    key_dest_name = np.where(fine, dest_name[row], 0)
    service = joined.service[row]
    flags = (
        shown.astype(np.uint64)
        | (action.astype(np.uint64) << np.uint64(4))
        | (derived.astype(np.uint64) << np.uint64(8))
    )
    flags |= proto.astype(np.uint64) << np.uint64(16)
    flags |= level.astype(np.uint64) << np.uint64(24)
    key = [
        rows["slot"][row], flags, source[row], dest[row], key_source_name, key_dest_name,
        _service_key(snapshot, service, level), trace, source_port, dest_port,
    ]  # fmt: skip
    if fine.any():
        zero = np.uint64(0)
        key += [
            np.where(fine, rows["src_hi"][row], zero), np.where(fine, rows["src_lo"][row], zero),
            np.where(fine, joined.dst_hi[row], zero), np.where(fine, joined.dst_lo[row], zero),
        ]  # fmt: skip
    groups = group(hash_columns(*key))
    first = groups.firsts
    inwards = inward & (reporter[row] == Reporter.DST) | derived
    packets_fwd, packets_rev = rows["packets_fwd"][row], rows["packets_rev"][row]
    bytes_fwd, bytes_rev = rows["bytes_fwd"][row], rows["bytes_rev"][row]
    fwd, rev = groups.total(packets_fwd), groups.total(packets_rev)
    bytes_f, bytes_r = groups.total(bytes_fwd), groups.total(bytes_rev)
    towards = inwards[first]
    nothing = np.zeros(len(first), np.uint64)
    source_ips, source_sample = _addresses(groups.inverse, row, rows["src_hi"], rows["src_lo"], len(first), sample)
    dest_ips, dest_sample = _addresses(groups.inverse, row, joined.dst_hi, joined.dst_lo, len(first), sample)
    return Logs(
        slot=rows["slot"][row][first],
        level=level[first],
        reporter=shown[first],
        action=action[first],
        derived=derived[first],
        evidence=_evidence(denied[first], towards & ~derived[first], fwd, rev),
        proto=proto[first],
        source=source[row][first],
        dest=dest[row][first],
        source_name=key_source_name[first],
        dest_name=key_dest_name[first],
        service=service[first],
        source_port=source_port[first],
        dest_port=dest_port[first],
        trace=trace[first],
        row=row[first],
        flows=_distinct_connections(tuples, groups.inverse, derived_rows, count, len(first)),
        started=groups.total(rows["started"][row]),
        completed=groups.total(rows["completed"][row]),
        packets_in=np.where(towards, fwd, rev),
        packets_out=np.where(towards, np.where(derived[first], nothing, rev), fwd),
        bytes_in=np.where(towards, bytes_f, bytes_r),
        bytes_out=np.where(towards, np.where(derived[first], nothing, bytes_r), bytes_f),
        rtt_sum_us=groups.total(np.where(derived, np.uint64(0), rows["rtt_sum_us"][row])),
        rtt_count=groups.total(np.where(derived, np.uint32(0), rows["rtt_count"][row])),
        rtt_max_us=groups.largest(np.where(derived, np.uint32(0), rows["rtt_max_us"][row])),
        source_labels=_pairs(groups.inverse, source_label[row]),
        dest_labels=_pairs(groups.inverse, dest_label[row]),
        source_ips=source_ips,
        dest_ips=dest_ips,
        source_sample=source_sample,
        dest_sample=dest_sample,
    )


def _derived(rows: NDArray[np.void], tuples: NDArray[np.void], joined: Joined) -> I64:
    """Rows whose destination denies them, as only the source's node could see: no answer, and no arrival here."""
    candidates = (
        (rows["reporter"] == Reporter.SRC)
        & (joined.egress_action != DENY)
        & (joined.ingress_action == DENY)
        & (rows["packets_rev"] == 0)
        & (rows["packets_fwd"] > 0)
    )
    if not candidates.any():
        return np.zeros(0, np.int64)
    of_row = tuples["row"]
    here = hash_columns(tuples["hash"], rows["slot"][of_row])
    arrived_row = (rows["reporter"] == Reporter.DST) & (rows["packets_fwd"] > 0)
    arrived = np.unique(here[arrived_row[of_row]])
    asked = np.flatnonzero(candidates[of_row])
    seen = asked[np.isin(here[asked], arrived)]
    candidates[of_row[seen]] = False
    return np.flatnonzero(candidates)


def _trace_numbers(traces: Traces, snapshot: Snapshot, judges: Judges, policy: I32, trace: I32) -> I32:
    numbers = np.zeros(len(trace), np.int32)
    for version in np.unique(policy).tolist() if len(snapshot.policy_versions) else []:
        at = policy == version
        resources = snapshot.policy_versions[version]
        numbers[at] = traces.numbers(judges.policy_set(resources), resources, trace[at])
    return numbers


def _service_key(snapshot: Snapshot, service: I32, level: I32) -> I64:
    """The Service port's index; at level 3 the same for all ports of one Service."""
    key = service.astype(np.int64)
    at = np.flatnonzero((level >= 3) & (service >= 0))
    if len(at):
        found, inverse = np.unique(service[at], return_inverse=True)
        first: dict[tuple[str, str], int] = {}
        numbers = [
            first.setdefault((snapshot.services[each].namespace, snapshot.services[each].name), each)
            for each in found.tolist()
        ]
        key[at] = np.array(numbers, np.int64)[inverse]
    return key


def _evidence(denied: NDArray[np.bool_], at_destination: NDArray[np.bool_], fwd: U64, rev: U64) -> I32:
    """Position in :data:`EVIDENCE`: denied and yet seen at the destination or answered is a leak."""
    passed = (rev > 0) | (at_destination & (fwd > 0))
    return np.select(
        [(fwd == 0) & (rev == 0), denied & passed, denied, rev > 0], [0, 2, 1, 4], default=3
    ).astype(np.int32)  # fmt: skip


def _distinct_connections(tuples: NDArray[np.void], group_of: I64, derived_rows: I64, count: int, size: int) -> I64:
    group_of_tuple = group_of[tuples["row"]]
    hashes = tuples["hash"]
    if len(derived_rows):
        second = np.full(count, -1, np.int64)
        second[derived_rows] = group_of[count:]
        also = np.flatnonzero(second[tuples["row"]] >= 0)
        group_of_tuple = np.concatenate([group_of_tuple, second[tuples["row"][also]]])
        hashes = np.concatenate([hashes, hashes[also]])
    distinct = group(hash_columns(hashes, group_of_tuple)).firsts
    return np.bincount(group_of_tuple[distinct], minlength=size)


def _pairs(group_of: I64, values: I32) -> tuple[I64, I64]:
    """Distinct (group, value), ordered."""
    packed = np.unique((group_of.astype(np.int64) << 32) | values)
    return packed >> 32, packed & 0xFFFF_FFFF


def _addresses(group_of: I64, row: I64, hi: U64, lo: U64, size: int, sample: int) -> tuple[I64, tuple[I64, I64]]:
    """Distinct addresses of each group, and which rows show the lowest of them."""
    hi, lo = hi[row], lo[row]
    distinct = group(hash_columns(hi, lo, group_of)).firsts
    order = distinct[np.lexsort((lo[distinct], hi[distinct], group_of[distinct]))]
    of = group_of[order]
    starts, run = runs(of)
    rank = np.arange(len(of)) - starts[run]
    kept = rank < sample
    offsets = np.concatenate(([0], np.cumsum(np.bincount(of[kept], minlength=size))))
    return np.bincount(of, minlength=size), (row[order[kept]], offsets)
