"""Reduce first: the records of some batches to one row per address pair, port, reporter, window and inventory epoch.

An *epoch* is a stretch of time in which no address changed hands and no policy changed. Rows never mix epochs, so
that one look-up at any time of a row's holds for all its records, and nothing has to be split later.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from tierflow.schemas.errors import RejectReason
from tierflow.schemas.record import RECORD
from tierflow.streams.core.grouping import group, hash_columns, runs

if TYPE_CHECKING:
    from numpy.typing import NDArray

ROW: Final = np.dtype(
    [
        ("hash", "<u8"),
        ("epoch_ns", "<u8"),
        ("at_ns", "<u8"),
        ("src_hi", "<u8"),
        ("src_lo", "<u8"),
        ("dst_hi", "<u8"),
        ("dst_lo", "<u8"),
        ("nat_dst_hi", "<u8"),
        ("nat_dst_lo", "<u8"),
        ("bytes_fwd", "<u8"),
        ("bytes_rev", "<u8"),
        ("packets_fwd", "<u8"),
        ("packets_rev", "<u8"),
        ("rtt_sum_us", "<u8"),
        ("started", "<u4"),
        ("completed", "<u4"),
        ("rtt_count", "<u4"),
        ("rtt_max_us", "<u4"),
        ("slot", "<i4"),
        ("src_port", "<u2"),
        ("dst_port", "<u2"),
        ("nat_dst_port", "<u2"),
        ("proto", "u1"),
        ("reporter", "u1"),
    ]
)
"""One reduced row; ``at_ns`` is a join time inside its epoch, ``src_port`` is 0 unless ports are kept apart,
``slot`` is the caller's number of the node and window."""

TUPLE: Final = np.dtype([("hash", "<u8"), ("row", "<i8")])
"""One connection of a row, by the hash of its translated 5-tuple."""

_SUMS: Final = (
    "bytes_fwd",
    "bytes_rev",
    "packets_fwd",
    "packets_rev",
    "rtt_sum_us",
    "started",
    "completed",
    "rtt_count",
)
_LOW32, _S16, _S32, _S48 = np.uint64(0xFFFF_FFFF), np.uint64(16), np.uint64(32), np.uint64(48)
_WIDE: Final = np.uint64(0x9FB21C651E98DF25)
_BYTES_LIMIT: Final = np.uint64(1 << 48)
"""2**32 packets of 64 KiB: a record can't hold more."""
EARLIEST_NS: Final = 946_684_800_000_000_000
"""2000-01-01; an earlier time is a broken clock."""


@dataclass(frozen=True, slots=True)
class Reduced:
    """Rows (dtype :data:`ROW`) and their connections (dtype :data:`TUPLE`)."""

    rows: NDArray[np.void]
    tuples: NDArray[np.void]


def unusable(records: NDArray[np.void], latest_ns: int) -> dict[str, NDArray[np.bool_]]:
    """Masks of records that can't be used, by reason; empty when all are fine.

    Args:
        records: dtype :data:`~tierflow.schemas.record.RECORD`.
        latest_ns: the end of the batch's interval; nothing can have been seen after it.
    """
    first, last = records["first_seen_ns"], records["last_seen_ns"]
    found = {}
    time = (first > last) | (last > np.uint64(latest_ns)) | (first < np.uint64(EARLIEST_NS))
    if time.any():
        found[RejectReason.BAD_TIME] = time
    reporter = records["reporter"]
    value = ((reporter - np.uint8(1)) > 2) | ((records["bytes_fwd"] | records["bytes_rev"]) >= _BYTES_LIMIT)
    value |= (records["src_lo"] == 0) & (records["src_hi"] == 0)
    value |= (records["dst_lo"] == 0) & (records["dst_hi"] == 0)
    value &= ~time
    if value.any():
        found[RejectReason.BAD_VALUE] = value
    return found


def reduce_records(
    records: NDArray[np.void],
    slots: NDArray[np.int32],
    epochs_ns: NDArray[np.uint64],
    *,
    keep_source_ports: bool,
) -> Reduced:
    """Group records by everything that join, verdict and window depend on.

    Args:
        records: dtype RECORD, shape (n,), contiguous and 8-byte aligned.
        slots: int32[n], node and window of each record.
        epochs_ns: uint64[n] or uint64[1], start of each record's inventory epoch.
        keep_source_ports: whether the source port is part of the key (level 0, or policies that look at it).

    Returns:
        rows in ascending order of hash, and one tuple per record, pointing at its row.
    """
    count = len(records)
    if not count:
        return Reduced(np.zeros(0, ROW), np.zeros(0, TUPLE))
    words = records.view("<u8").reshape(count, RECORD.itemsize // 8)
    src, dst, nat = words[:, 1], words[:, 3], words[:, 5]
    ports = words[:, 11] >> _S32
    rest = words[:, 12]
    src_port, dst_port = ports & np.uint64(0xFFFF), ports >> _S16
    meta = (rest & _LOW32) | (dst_port << _S32)
    wide = words[:, 0].any() or words[:, 2].any() or words[:, 4].any()
    if wide:
        src, dst, nat_mixed = src ^ words[:, 0] * _WIDE, dst ^ words[:, 2] * _WIDE, nat ^ words[:, 4] * _WIDE
    else:
        nat_mixed = nat
    key = [src, dst, nat_mixed, meta + epochs_ns * _WIDE]
    if keep_source_ports:
        key.append(src_port)
    hashes = hash_columns(*key)
    sort_key = hashes
    if slots[0] != slots[-1] or (slots != slots[0]).any():
        sort_key = hashes + slots.astype(np.uint64) * np.uint64(0xA0761D6478BD642F)

    end = np.where(nat_mixed != 0, nat_mixed, dst)
    end_ports = np.where(nat_mixed != 0, rest & np.uint64(0xFFFF), dst_port)
    packed = src_port | (end_ports << _S16) | (((rest >> _S16) & np.uint64(0xFF)) << _S32)
    connections = hash_columns(src, end, packed)

    order = np.argsort(sort_key)
    starts, row_of = runs(sort_key[order])
    first = order[starts]
    rows = np.empty(len(starts), ROW)
    rows["hash"] = hashes[first]
    rows["epoch_ns"] = epochs_ns[first] if len(epochs_ns) > 1 else epochs_ns[0]
    rows["slot"] = slots[first]
    head = words[first]
    for position, name in enumerate(("src_hi", "src_lo", "dst_hi", "dst_lo", "nat_dst_hi", "nat_dst_lo")):
        rows[name] = head[:, position]
    rows["at_ns"] = np.minimum.reduceat(words[:, 6][order], starts)
    rows["src_port"] = (head[:, 11] >> _S32) & np.uint64(0xFFFF) if keep_source_ports else 0
    rows["dst_port"] = head[:, 11] >> _S48
    rows["nat_dst_port"] = head[:, 12] & np.uint64(0xFFFF)
    rows["proto"] = (head[:, 12] >> _S16) & np.uint64(0xFF)
    rows["reporter"] = (head[:, 12] >> np.uint64(24)) & np.uint64(0xFF)
    rows["bytes_fwd"] = np.add.reduceat(words[:, 8][order], starts)
    rows["bytes_rev"] = np.add.reduceat(words[:, 9][order], starts)
    packets = words[:, 10][order]
    rows["packets_fwd"] = np.add.reduceat(packets & _LOW32, starts)
    rows["packets_rev"] = np.add.reduceat(packets >> _S32, starts)
    marks = rest[order] >> _S48
    begun = np.add.reduceat((marks & np.uint64(1)) | ((marks & np.uint64(2)) << np.uint64(31)), starts)
    rows["started"] = begun & _LOW32
    rows["completed"] = begun >> _S32
    rtt = words[:, 11] & _LOW32
    if rtt.any():
        rtt = rtt[order]
        rows["rtt_sum_us"] = np.add.reduceat(rtt, starts)
        rows["rtt_count"] = np.add.reduceat((rtt != 0).astype(np.uint32), starts)
        rows["rtt_max_us"] = np.maximum.reduceat(rtt, starts)
    else:
        rows["rtt_sum_us"] = rows["rtt_count"] = rows["rtt_max_us"] = 0
    tuples = np.empty(count, TUPLE)
    tuples["hash"] = connections[order]
    tuples["row"] = row_of
    return Reduced(rows, tuples)


def merge(parts: list[Reduced]) -> Reduced:
    """The same traffic as all ``parts`` together, each row and each connection of a row once.

    Merging is associative and free of order: sums, smallest and largest.
    """
    together = join_slots(parts)
    rows, tuples = together.rows, together.tuples
    groups = group(hash_columns(rows["hash"], rows["slot"]))
    merged = rows[groups.firsts]
    for name in _SUMS:
        merged[name] = groups.total(rows[name])
    merged["at_ns"] = groups.smallest(rows["at_ns"])
    merged["rtt_max_us"] = groups.largest(rows["rtt_max_us"])
    row_of = groups.inverse[tuples["row"]]
    kept = group(hash_columns(tuples["hash"], row_of)).firsts
    unique = np.empty(len(kept), TUPLE)
    unique["hash"] = tuples["hash"][kept]
    unique["row"] = row_of[kept]
    return Reduced(merged, unique)


def join_slots(parts: list[Reduced]) -> Reduced:
    """All rows and connections, one part after the other, nothing merged: for parts of different slots."""
    if len(parts) == 1:
        return parts[0]
    tuples = np.concatenate([part.tuples for part in parts])
    offset = position = 0
    for part in parts:
        tuples["row"][position : position + len(part.tuples)] += offset
        offset += len(part.rows)
        position += len(part.tuples)
    return Reduced(np.concatenate([part.rows for part in parts]), tuples)
