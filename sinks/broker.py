"""Which faults of a broker are waited out."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from aiokafka.errors import KafkaError, KafkaTimeoutError

from tierflow.schemas.errors import TransientError

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def broker_faults(asked: str) -> Iterator[None]:
    """Make a TransientError, naming what was ``asked``, of what the broker gets over; its refusals stay KafkaErrors."""
    try:
        yield
    except KafkaError as error:
        if error.retriable or isinstance(error, KafkaTimeoutError):
            raise TransientError(f"{asked}: {type(error).__name__}") from error
        raise
