"""Encode and decode a message of ``flows.raw``: a batch header and packed raw records.

Layout, little-endian: the fixed header below, node name and cluster name in UTF-8, zero bytes up to a multiple of
eight, then ``record_count`` records of ``record_bytes`` each. Records decode as a view of the message, without a copy.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Final

import numpy as np

from tierflow.schemas.errors import RejectedRecord, RejectReason
from tierflow.schemas.record import RECORD
from tierflow.schemas.topics import RAW_VERSION

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAGIC: Final = b"TFLO"
HEADER: Final = struct.Struct("<4sHHHBBIQ16sQQQQQQHHI")
"""magic, version, header_bytes, record_bytes, source, reserved, record_count, sequence, boot_id, interval start and
end, watermark, lost records, packets and bytes, node and cluster name lengths, reserved; 96 bytes."""

_SIGNED_LIMIT: Final = 1 << 63
_INTERVAL_END: Final = 10
"""Where :data:`HEADER` holds it."""

MAX_RECORDS: Final = 65_536
"""The most records that a batch may hold."""
DEFAULT_RECORDS: Final = 8_192
"""The most that a collector puts into one: below Kafka's default message limit of 1 MiB."""
MAX_NAME_BYTES: Final = 253
"""Longest node or cluster name: a DNS subdomain, as Kubernetes limits it."""


class Source(IntEnum):
    """How the records came to be."""

    EBPF = 1
    PCAP = 2
    SYNTHETIC = 3


@dataclass(frozen=True, slots=True)
class BatchHeader:
    """What holds for all records of a batch. Times are Unix time in ns.

    Attributes:
        node: Kubernetes node name; the message's key.
        cluster: cluster name, ``""`` when there is one only.
        boot_id: 16 bytes, new at every start of a collector; ``sequence`` counts from 0 within it.
        sequence: number of this batch.
        interval_start_ns: start of the drained interval.
        interval_end_ns: its end.
        watermark_ns: every record of this node with ``last_seen_ns`` below it is in this batch or an earlier one.
        lost_records: conversations that could not be kept since the batch before (full map, missed drain).
        lost_packets: packets of theirs.
        lost_bytes: bytes of theirs.
        source: how the records came to be.
    """

    node: str
    cluster: str
    boot_id: bytes
    sequence: int
    interval_start_ns: int
    interval_end_ns: int
    watermark_ns: int
    lost_records: int = 0
    lost_packets: int = 0
    lost_bytes: int = 0
    source: Source = Source.EBPF


@dataclass(frozen=True, slots=True)
class Batch:
    """A decoded batch; ``records`` has dtype :data:`RECORD`, shape ``(n,)``, and is read-only."""

    header: BatchHeader
    records: NDArray[np.void]


def encode_batch(header: BatchHeader, records: NDArray[np.void]) -> bytes:
    """The bytes of one message.

    Args:
        header: what holds for all records.
        records: dtype :data:`RECORD`, shape ``(n,)``, n ≤ :data:`MAX_RECORDS`.

    Raises:
        ValueError: wrong dtype, too many records, a name or boot id of wrong length.
    """
    if records.dtype != RECORD:
        msg = f"records have dtype {records.dtype}, not the raw record's"
        raise ValueError(msg)
    if len(records) > MAX_RECORDS:
        msg = f"{len(records)} records in one batch; at most {MAX_RECORDS}"
        raise ValueError(msg)
    node, cluster = header.node.encode(), header.cluster.encode()
    if not 0 < len(node) <= MAX_NAME_BYTES or len(cluster) > MAX_NAME_BYTES or len(header.boot_id) != 16:
        msg = f"node name must have 1 to {MAX_NAME_BYTES} bytes, cluster name at most that, boot id 16"
        raise ValueError(msg)
    header_bytes = _padded(HEADER.size + len(node) + len(cluster))
    fixed = HEADER.pack(
        MAGIC, RAW_VERSION, header_bytes, RECORD.itemsize, header.source, 0, len(records),
        header.sequence, header.boot_id, header.interval_start_ns, header.interval_end_ns, header.watermark_ns,
        header.lost_records, header.lost_packets, header.lost_bytes, len(node), len(cluster), 0,
    )  # fmt: skip
    padding = bytes(header_bytes - HEADER.size - len(node) - len(cluster))
    return b"".join((fixed, node, cluster, padding, np.ascontiguousarray(records).data))


def interval_end_of(message: bytes) -> int:
    """End of a batch's interval in ns, without decoding it; 0 for what is no batch."""
    if len(message) < HEADER.size or message[:4] != MAGIC:
        return 0
    end: int = HEADER.unpack_from(message)[_INTERVAL_END]
    return end


def decode_batch(message: bytes | memoryview) -> Batch:
    """Header and records of one message; the records are a view into it.

    Raises:
        RejectedRecord: not a batch, an unknown version, truncated, oversized, or a count that doesn't fit.
    """
    size = len(message)
    if size < HEADER.size:
        raise RejectedRecord(RejectReason.TRUNCATED, f"{size} bytes; a batch header has {HEADER.size}")
    (
        magic, version, header_bytes, record_bytes, source, _, record_count,
        sequence, boot_id, interval_start_ns, interval_end_ns, watermark_ns,
        lost_records, lost_packets, lost_bytes, node_bytes, cluster_bytes, _,
    ) = HEADER.unpack_from(message)  # fmt: skip
    if magic != MAGIC:
        raise RejectedRecord(RejectReason.BAD_MAGIC, f"starts with {magic.hex()}; a batch starts with {MAGIC.hex()}")
    if version != RAW_VERSION:
        raise RejectedRecord(RejectReason.UNKNOWN_VERSION, f"schema version {version}; this worker reads {RAW_VERSION}")
    if record_bytes != RECORD.itemsize:
        raise RejectedRecord(RejectReason.RECORD_SIZE, f"records of {record_bytes} bytes; accepted {RECORD.itemsize}")
    if record_count > MAX_RECORDS:
        raise RejectedRecord(RejectReason.OVERSIZED, f"{record_count} records; at most {MAX_RECORDS}")
    if header_bytes != _padded(HEADER.size + node_bytes + cluster_bytes):
        raise RejectedRecord(RejectReason.BAD_HEADER, f"header of {header_bytes} bytes doesn't fit its name lengths")
    expected = header_bytes + record_count * RECORD.itemsize
    if size != expected:
        reason = RejectReason.TRUNCATED if size < header_bytes else RejectReason.RECORD_COUNT
        raise RejectedRecord(reason, f"{size} bytes; {record_count} records make {expected}")
    node, cluster = _names(message, node_bytes, cluster_bytes)
    if source not in Source._value2member_map_:
        raise RejectedRecord(RejectReason.BAD_HEADER, f"source {source}; accepted {[int(s) for s in Source]}")
    if not interval_start_ns <= interval_end_ns:
        raise RejectedRecord(RejectReason.BAD_TIME, f"interval from {interval_start_ns} to {interval_end_ns} ns")
    if max(sequence, lost_records, lost_packets, lost_bytes) >= _SIGNED_LIMIT:
        raise RejectedRecord(RejectReason.BAD_VALUE, "a sequence number or loss of 2**63 or more: no store holds it")
    header = BatchHeader(
        node, cluster, boot_id, sequence, interval_start_ns, interval_end_ns, watermark_ns,
        lost_records, lost_packets, lost_bytes, Source(source),
    )  # fmt: skip
    return Batch(header, np.frombuffer(message, dtype=RECORD, count=record_count, offset=header_bytes))


def _names(message: bytes | memoryview, node_bytes: int, cluster_bytes: int) -> tuple[str, str]:
    start, middle = HEADER.size, HEADER.size + node_bytes
    try:
        node = bytes(message[start:middle]).decode()
        cluster = bytes(message[middle : middle + cluster_bytes]).decode()
    except UnicodeDecodeError as error:
        raise RejectedRecord(RejectReason.BAD_HEADER, f"node or cluster name is not UTF-8: {error.reason}") from error
    if not node or max(node_bytes, cluster_bytes) > MAX_NAME_BYTES:
        raise RejectedRecord(RejectReason.BAD_HEADER, f"node name must have 1 to {MAX_NAME_BYTES} bytes")
    return node, cluster


def _padded(size: int) -> int:
    return (size + 7) & ~7
