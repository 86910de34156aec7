"""What a sink writes to the dead-letter topic about a message that it can't use. Pure."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any, Final

import orjson

if TYPE_CHECKING:
    from tierflow.schemas.clock import Clock

MAX_VALUE_BYTES: Final = 65_536


def letter(message: Any, reason: str, detail: str, clock: Clock) -> bytes:
    """The letter, by :data:`tierflow.schemas.loss.DEAD_LETTER_FIELDS`.

    Args:
        message: aiokafka's or Faust's, by topic, partition, offset, key and value.
        reason: one of :class:`tierflow.schemas.errors.RejectReason`.
        detail: what was found and what is accepted.
        clock: for the time of the letter.
    """
    value = message.value or b""
    return orjson.dumps(
        {
            "time_ms": clock.now_ns() // 1_000_000,
            "stage": "sink",
            "topic": message.topic,
            "partition": message.partition,
            "offset": message.offset,
            "key": None if message.key is None else message.key.decode(errors="replace"),
            "reason": reason,
            "detail": detail,
            "value_base64": base64.b64encode(value[:MAX_VALUE_BYTES]).decode(),
            "value_bytes": len(value),
        }
    )
