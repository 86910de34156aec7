"""The loss record and the dead letter: nothing goes missing silently."""

from __future__ import annotations

from typing import Final

from tierflow.schemas.fields import Field, FieldType

_K, _L = FieldType.KEYWORD, FieldType.LONG

LOSS_FIELDS: Final[tuple[Field, ...]] = (
    Field("id", _K, "Document id; a replay writes the same."),
    Field("start_time", FieldType.DATE_S, "Start of the time in which something was lost, Unix seconds."),
    Field("end_time", FieldType.DATE_S, "Its end, Unix seconds."),
    Field("cluster", _K, "Cluster name."),
    Field("host", _K, "Node."),
    Field("reason", _K, "What happened.", False, ("sequence_gap", "collector_restart", "collector_loss")),
    Field("batches", _L, "Batches that never came; null when unknown.", nullable=True),
    Field("records", _L, "Conversations that could not be kept; null when unknown.", nullable=True),
    Field("packets", _L, "Packets of theirs; null when unknown.", nullable=True),
    Field("bytes", _L, "Bytes of theirs; null when unknown.", nullable=True),
)

DEAD_LETTER_FIELDS: Final[tuple[Field, ...]] = (
    Field("time_ms", FieldType.DATE_MS, "When it was refused."),
    Field("stage", _K, "Stage that refused it."),
    Field("topic", _K, "Topic of origin."),
    Field("partition", _L, "Partition of origin."),
    Field("offset", _L, "Offset of origin."),
    Field("key", _K, "Key of the message, or null.", nullable=True),
    Field("reason", _K, "Bounded reason code."),
    Field("detail", _K, "What was found and what is accepted."),
    Field("value_base64", _K, "The message, cut to 64 KiB."),
    Field("value_bytes", _L, "Size of the message before the cut."),
)
