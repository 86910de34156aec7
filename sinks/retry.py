"""Trying again what a store or a broker can't take now, until it can or the sink is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterator

    from tierflow.schemas.errors import TierflowError

_LOG = logging.getLogger(__name__)
_T = TypeVar("_T")


class Stopped(Exception):
    """The sink was told to stop before what it tried was done."""


@dataclass(frozen=True, slots=True)
class Retry:
    """The pause doubles from ``first_s`` to ``most_s``, times a random half to whole."""

    first_s: float = 0.2
    most_s: float = 30.0

    def pauses(self, draw: Callable[[], float]) -> Iterator[float]:
        """The pauses, without end; ``draw`` gives 0 to 1."""
        pause = self.first_s
        while True:
            yield pause * (0.5 + draw() / 2)
            pause = min(self.most_s, pause * 2)

    async def until_done(
        self,
        attempt: Callable[[], Awaitable[_T]],
        waited_out: type[TierflowError] | tuple[type[TierflowError], ...],
        failed: Callable[[], None],
        stop: asyncio.Event,
        draw: Callable[[], float] = random.random,
    ) -> _T:
        """What ``attempt`` gives when it succeeds; each try that doesn't is one line in the log.

        Args:
            attempt: begins one try.
            waited_out: the errors after which it is tried again; any other is the caller's.
            failed: counts a try that failed so.
            stop: ends the waiting.
            draw: gives 0 to 1, for jitter.

        Raises:
            Stopped: ``stop`` was set between two tries.
        """
        pauses = self.pauses(draw)
        while True:
            try:
                return await attempt()
            except waited_out as error:
                pause = next(pauses)
                failed()
                _LOG.warning("%s; trying again in %.1f s", error, pause)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), pause)
                    raise Stopped from error


async def unless_stopped(stop: asyncio.Event, work: Coroutine[Any, Any, _T]) -> _T:
    """What ``work`` gives.

    Raises:
        Stopped: ``stop`` was set first; ``work`` has been cancelled.
    """
    working, stopping = asyncio.create_task(work), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise Stopped
    finally:
        working.cancel()
        stopping.cancel()
        await asyncio.gather(working, stopping, return_exceptions=True)
