"""What is known to be missing, and its document."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tierflow.schemas.clock import NS_PER_S
from tierflow.streams.core.documents import document_id


@dataclass(frozen=True, slots=True)
class Loss:
    """Something that is known to be missing; ``key`` makes the document's id."""

    cluster: str
    node: str
    reason: str
    start_ns: int
    end_ns: int
    key: str
    batches: int | None
    records: int | None
    packets: int | None
    bytes: int | None


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
