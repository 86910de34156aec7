"""The collector's life: start the source, drain it at the interval, publish, and leave nothing behind."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tierflow.collector.attach import discard, link_events
from tierflow.collector.ebpf import EbpfSource

if TYPE_CHECKING:
    from collections.abc import Callable

    from tierflow.collector.publisher import Publisher
    from tierflow.collector.source import RecordSource

_log = logging.getLogger(__name__)

FLUSH_S = 3.0
"""How long the end waits for the broker."""


@dataclass(frozen=True, slots=True)
class RunSettings:
    """How often to drain; ``finite``: end with the source's first empty drain, as for a capture file."""

    interval_s: float
    finite: bool = False


async def run(
    source: RecordSource,
    publisher: Publisher,
    settings: RunSettings,
    stop: asyncio.Event,
    ready: Callable[[], None],
) -> None:
    """Collect until ``stop`` is set; the last drain is published before this returns.

    Raises:
        UnavailableError: the source can't start.
    """
    sending = asyncio.create_task(publisher.run())
    following: asyncio.Task[None] | None = None
    try:
        await asyncio.to_thread(source.start)
        if isinstance(source, EbpfSource):
            following = asyncio.create_task(_follow(source))
        ready()
        await _drain_until(stop, source, publisher, settings, sending)
        left = await publisher.flush(FLUSH_S)
        if left:
            _log.warning("%d records were still waiting for the broker and are lost", left)
    finally:
        for task in (sending, following):
            if task is not None:
                task.cancel()
        await asyncio.gather(sending, *([following] if following else []), return_exceptions=True)
        await asyncio.to_thread(source.stop)


async def _drain_until(
    stop: asyncio.Event,
    source: RecordSource,
    publisher: Publisher,
    settings: RunSettings,
    sending: asyncio.Task[None],
) -> None:
    due_s = time.monotonic() + settings.interval_s
    while True:
        if not settings.finite:
            try:
                async with asyncio.timeout(max(due_s - time.monotonic(), 0)):
                    await stop.wait()
            except TimeoutError:
                pass
        # An overrun isn't caught up with: the next interval is simply longer, and its header says so.
        due_s = max(due_s + settings.interval_s, time.monotonic())
        last = stop.is_set() or settings.finite
        parts = source.drain()
        while (part := await asyncio.to_thread(next, parts, None)) is not None:
            await publisher.offer(part)
        if sending.done():
            sending.result()
        if last:
            return


async def _follow(source: EbpfSource) -> None:
    """Attach to links as they come, at once: an interval later their first packets would be missed."""
    loop = asyncio.get_running_loop()
    changed = asyncio.Event()
    events = link_events()
    loop.add_reader(events, changed.set)
    try:
        while True:
            await changed.wait()
            changed.clear()
            discard(events)
            await asyncio.to_thread(source.follow)
    finally:
        loop.remove_reader(events)
        events.close()
