"""The collector's life: start the source, drain it at the interval, publish, and leave nothing behind."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tierflow.collector.attach import discard, link_events
from tierflow.collector.source import FollowsLinks, StartsSlowly
from tierflow.schemas.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tierflow.collector.publisher import Publisher
    from tierflow.collector.source import RecordSource

PAST_S: Final = 0.005
"""A drain on the very boundary could take its time stamp before it."""
LOOK_AGAIN_S: Final = 5.0
"""How often interfaces are listed though no link event came."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RunSettings:
    """How often to drain, and how it ends.

    Attributes:
        interval_s: time between drains.
        finite: one drain is all there is, as of a capture file.
        flush_s: how long the end waits for the broker.
    """

    interval_s: float
    finite: bool = False
    flush_s: float = 3.0


async def run(
    source: RecordSource,
    publisher: Publisher,
    settings: RunSettings,
    stop: asyncio.Event,
    ready: Callable[[], None],
) -> None:
    """Collect until ``stop`` is set; the last drain is published before this returns.

    Raises:
        TierflowError: the source can't start, its file is damaged, or its interfaces can't be followed any more.
    """
    sending = asyncio.create_task(publisher.run())
    beside = [sending]
    try:
        if not await _started(source, stop):
            return
        if isinstance(source, FollowsLinks):
            beside.append(asyncio.create_task(_follow(source)))
        ready()
        try:
            await _drain_until(stop, source, publisher, settings, beside)
        finally:
            # A damaged capture file ends the drain with an error; what it held before that is good.
            left = 0 if sending.done() else await publisher.flush(settings.flush_s)
            if left:
                _log.warning("%d records were still waiting for the broker and are lost", left)
    finally:
        for task in beside:
            task.cancel()
        await asyncio.gather(*beside, return_exceptions=True)
        await asyncio.to_thread(source.stop)


async def _started(source: RecordSource, stop: asyncio.Event) -> bool:
    """Start the source; False when stopped before it had."""
    starting = asyncio.create_task(asyncio.to_thread(source.start))
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not starting.done() and isinstance(source, StartsSlowly):
        source.abandon()
        with contextlib.suppress(UnavailableError):
            await starting
        return False
    await starting
    return True


def until_drain_s(now_s: float, interval_s: float) -> float:
    """Time to the next drain: just past the next multiple of the interval on the wall clock.

    Windows end at whole seconds, so the drain that closes one comes right after its end and lateness, not somewhere in
    the interval that follows.
    """
    return interval_s - now_s % interval_s + PAST_S


async def _drain_until(
    stop: asyncio.Event,
    source: RecordSource,
    publisher: Publisher,
    settings: RunSettings,
    beside: Sequence[asyncio.Task[None]],
) -> None:
    """Drain and publish; what ``beside`` fails of, this does too: it would go on collecting less and less unnoticed."""
    while True:
        if not settings.finite:
            # An overrun isn't caught up with: the interval is simply longer, and its header says so.
            try:
                async with asyncio.timeout(until_drain_s(time.time(), settings.interval_s)):
                    await stop.wait()
            except TimeoutError:
                pass
        last = stop.is_set() or settings.finite
        parts = source.drain()
        while (part := await asyncio.to_thread(next, parts, None)) is not None:
            await publisher.offer(part)
            if settings.finite and stop.is_set():
                break
        for task in beside:
            if task.done():
                task.result()
        if last:
            return


async def _follow(source: FollowsLinks) -> None:
    """Attach to links as they come, at once: an interval later their first packets would be missed."""
    loop = asyncio.get_running_loop()
    changed = asyncio.Event()
    events = link_events()
    loop.add_reader(events, changed.set)
    try:
        while True:
            # First without an event: a link that came after the source's own look, before this listened, sends no more.
            try:
                await asyncio.to_thread(source.follow)
            except OSError as error:
                raise UnavailableError(f"the pods' interfaces can't be followed: {error.strerror or error}") from error
            # An interface that refused is tried again, though nothing happens to it.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(changed.wait(), LOOK_AGAIN_S)
            changed.clear()
            discard(events)
    finally:
        loop.remove_reader(events)
        events.close()
