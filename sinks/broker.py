"""What a Kafka client makes of a broker that is away: which faults are waited out, and how the client is let go."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Final

from aiokafka.errors import KafkaError, KafkaTimeoutError

from tierflow.schemas.errors import TransientError

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator

STOP_S: Final = 3.0


@contextlib.contextmanager
def broker_faults(asked: str) -> Iterator[None]:
    """Make a TransientError, naming what was ``asked``, of what the broker gets over; its refusals stay KafkaErrors."""
    try:
        yield
    except KafkaError as error:
        if error.retriable or isinstance(error, KafkaTimeoutError):
            raise TransientError(f"{asked}: {type(error).__name__}") from error
        raise


async def let_go(*ends: Coroutine[Any, Any, object]) -> None:
    """Wait for the ends of clients, a little: without a broker they raise, or last until their questions expire.

    Nothing is owed to a broker by then: what it hasn't acknowledged is read again.
    """
    done, _ = await asyncio.wait({asyncio.create_task(end) for end in ends}, timeout=STOP_S)
    await asyncio.gather(*done, return_exceptions=True)
