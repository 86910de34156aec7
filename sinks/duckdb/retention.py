"""Keeps the embedded store within its age and size, now and then."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tierflow.schemas.clock import NS_PER_S
from tierflow.schemas.errors import TransientError
from tierflow.sinks import metrics as counted

if TYPE_CHECKING:
    from tierflow.schemas.clock import Clock
    from tierflow.schemas.metrics import Metrics
    from tierflow.sinks.duckdb.writer import Writer

_LOG = logging.getLogger(__name__)

CHECK_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Retention:
    """What is kept.

    Attributes:
        keep_s: documents whose window ended longer ago go.
        max_bytes: past it the oldest hours go.
    """

    keep_s: int
    max_bytes: int


async def keep_within(
    retention: Retention, writer: Writer, clock: Clock, metrics: Metrics, stop: asyncio.Event, every_s: float = CHECK_S
) -> None:
    """Forget what is too old or too much, until ``stop`` is set; a full disk is waited out like any other try."""
    while not stop.is_set():
        now_s = clock.now_ns() // NS_PER_S
        try:
            dropped = await asyncio.to_thread(writer.forget, now_s, retention.keep_s, retention.max_bytes)
        except TransientError as error:
            _LOG.warning("retention: %s", error)
        else:
            if dropped:
                metrics.add(counted.FORGOTTEN_DOCUMENTS, dropped)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), every_s)
