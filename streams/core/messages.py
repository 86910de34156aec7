"""Messages of the raw topic as the core takes them, what comes out of them, and what can't be used."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np

from tierflow.schemas.clock import NS_PER_S
from tierflow.schemas.errors import RejectedRecord, RejectReason
from tierflow.schemas.record import RECORD
from tierflow.schemas.wire import decode_batch
from tierflow.streams.core.records import EARLIEST_NS, Columns, unusable

if TYPE_CHECKING:
    from tierflow.schemas.wire import Batch
    from tierflow.streams.core.counters import RuleKey
    from tierflow.streams.core.endpoints import DirectionKey
    from tierflow.streams.core.losses import Loss
    from tierflow.streams.core.windows import Closed

FUTURE_NS: Final = 3600 * NS_PER_S
"""How far a node's clock may be ahead of the time at which its message was written."""


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
        taken: how many messages were processed; the others are left for the next call.
    """

    logs: list[tuple[str, bytes]] = field(default_factory=list)
    counters: list[tuple[str, bytes]] = field(default_factory=list)
    losses: list[Loss] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    closed: dict[int, list[Closed]] = field(default_factory=dict)
    rules: dict[RuleKey, list[int]] = field(default_factory=dict)
    endpoints: dict[DirectionKey, int] | None = None
    taken: int = 0
    batches: int = 0
    duplicates: int = 0
    records: int = 0
    late_records: int = 0
    unknown_addresses: int = 0
    parts: int = 0


def decode(message: Message) -> Batch:
    """The batch of a message.

    Raises:
        RejectedRecord: it is no batch, or its times can't be.
    """
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


def usable(batch: Batch, message: Message, outcome: Outcome) -> Columns | None:
    """The records that can be used, None when there is none; the others go to ``outcome.rejected``."""
    records = batch.records
    if not len(records):
        return None
    columns = Columns.of(records)
    latest_ns = batch.header.interval_end_ns + NS_PER_S
    if columns.plausible(latest_ns):
        return columns
    keep = np.ones(len(records), bool)
    for reason, mask in unusable(records, latest_ns).items():
        keep &= ~mask
        count = int(np.count_nonzero(mask))
        detail = f"{count} of {len(records)} records of {RECORD.itemsize} bytes each, in value_base64"
        outcome.rejected.append(Rejected(message, reason, detail, records[mask].tobytes(), count))
    return columns.where(keep) if keep.any() else None
