"""What becomes of messages that a sink can't use: a letter each to the dead-letter topic, unless most are such."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import orjson

from tierflow.schemas.errors import TransientError, UnavailableError
from tierflow.sinks import metrics as counted
from tierflow.sinks.broker import broker_faults
from tierflow.sinks.retry import unless_stopped

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Coroutine, Sequence

    from tierflow.schemas.clock import Clock
    from tierflow.schemas.metrics import Metrics
    from tierflow.sinks.retry import Retry

MAX_VALUE_BYTES: Final = 65_536


@dataclass(frozen=True, slots=True)
class Rejected:
    """A message that can't be used.

    Attributes:
        message: aiokafka's or Faust's, by topic, partition, offset, key and value.
        reason: one of :class:`tierflow.schemas.errors.RejectReason`.
        detail: what was found and what is accepted.
    """

    message: Any
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How much of a load may be rejected; past it the topic's writer is wrong, and draining would lose all.

    Attributes:
        ratio: of the load's messages.
        judged: fewest messages whose ratio means something.
    """

    ratio: float = 0.5
    judged: int = 100

    def check(self, rejected: Sequence[Rejected], read: int) -> None:
        """Of ``read`` messages.

        Raises:
            UnavailableError: too many are rejected.
        """
        if read >= self.judged and len(rejected) > self.ratio * read:
            raise UnavailableError(
                f"{len(rejected)} of {read} documents refused ({rejected[-1].detail}); "
                "stopped before more go to the dead-letter topic: is another version writing, or another mapping there?"
            )


class DeadLetters:
    """Sends letters, and waits for a broker that is away.

    Args:
        send: a key and a value; returns when the broker has them.
        clock: for the time of a letter.
        metrics: where tries are counted.
        retry: the pauses between them.
        draw: gives 0 to 1, for jitter.
    """

    def __init__(
        self,
        send: Callable[[bytes, bytes], Coroutine[Any, Any, object]],
        clock: Clock,
        metrics: Metrics,
        retry: Retry,
        draw: Callable[[], float],
    ) -> None:
        self._send, self._clock, self._metrics, self._retry, self._draw = send, clock, metrics, retry, draw

    async def send(self, rejected: Sequence[Rejected], stop: asyncio.Event) -> None:
        """Return when the broker has a letter of each.

        Raises:
            Stopped: it hasn't; ``stop`` was set.
            KafkaError: the broker refuses for good.
        """
        for each in rejected:
            key, value = each.message.topic.encode(), letter(each, self._clock)

            async def attempt(key: bytes = key, value: bytes = value) -> None:
                with broker_faults("dead letter"):
                    await unless_stopped(stop, self._send(key, value))

            await self._retry.until_done(attempt, TransientError, self._failed, stop, self._draw)

    def _failed(self) -> None:
        self._metrics.add(counted.RETRIES, cause="dead_letter")


def letter(rejected: Rejected, clock: Clock) -> bytes:
    """The letter, by :data:`tierflow.schemas.loss.DEAD_LETTER_FIELDS`; ``clock`` is for its time."""
    message = rejected.message
    value = message.value or b""
    return orjson.dumps(
        {
            "time_ms": clock.now_ns() // 1_000_000,
            "stage": "sink",
            "topic": message.topic,
            "partition": message.partition,
            "offset": message.offset,
            "key": None if message.key is None else message.key.decode(errors="replace"),
            "reason": rejected.reason,
            "detail": rejected.detail,
            "value_base64": base64.b64encode(value[:MAX_VALUE_BYTES]).decode(),
            "value_bytes": len(value),
        }
    )
