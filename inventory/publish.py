"""The publisher's loop: takes over what the topic holds, then writes what a source says, with heartbeats."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from tierflow.schemas.clock import NS_PER_S
from tierflow.schemas.inventory import SETTINGS, SETTINGS_KEY, Heartbeat, Message, ObjectVersion, Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tierflow.inventory.topic import Publisher, Reader
    from tierflow.inventory.versions import Versions
    from tierflow.schemas.clock import Clock

HEARTBEAT_EVERY_S = 0.2
"""Streams wait with a batch until a heartbeat has passed it: this is the most that it adds to a flow log's age."""
CLOCK_STEP_NS = NS_PER_S
"""A clock that goes back by more was ahead before; less is slewing, and times simply stand still for so long."""


class Source(Protocol):
    """Where objects come from; used by one thread at a time."""

    def look(self) -> Sequence[ObjectVersion]:
        """Versions that began or ended since the call before; may wait a moment for the first."""
        ...

    @property
    def watermark_ns(self) -> int:
        """Everything before it has been handed over."""
        ...

    def clock_went_back(self) -> None:
        """The clock was ahead until now: the watermark must not stay there."""
        ...

    def complaints(self) -> list[str]:
        """What a person should know that hasn't been said yet."""
        ...


@dataclass(frozen=True, slots=True)
class PublishSettings:
    """Who publishes, and what every reader must go by."""

    identity: str
    epoch: int
    topic: Settings


async def take_over(reader: Reader, versions: Versions) -> int:
    """Load what has been published; the greatest epoch there is, 0 without any."""
    epoch = 0

    def take(message: Message) -> None:
        nonlocal epoch
        versions.load(message)
        if isinstance(message, Heartbeat):
            epoch = max(epoch, message.epoch)

    try:
        await reader.start()
        await reader.catch_up(take)
    finally:
        await reader.stop()
    return epoch


async def publish(
    source: Source,
    versions: Versions,
    publisher: Publisher,
    settings: PublishSettings,
    clock: Clock,
    stop: asyncio.Event,
    *,
    pause_s: float,
    may: Callable[[], bool],
    ready: Callable[[], None],
    say: Callable[[str], None],
) -> None:
    """Write what the source says until ``stop``, or until ``may`` says that it is another's turn.

    ``ready`` is called once, after the source's first complete answer.
    """
    beat_s, started, epoch, last_ns = -HEARTBEAT_EVERY_S, False, settings.epoch, clock.now_ns()
    waiting: list[ObjectVersion] = []
    if versions.complete_ns > last_ns + CLOCK_STEP_NS:
        ahead_s = (versions.complete_ns - last_ns) / NS_PER_S
        say(f"the publisher before had a clock {ahead_s:.1f} s ahead of ours: what begins later than now begins now")
        waiting = versions.clock_went_back(last_ns)
    waiting += versions.put(SETTINGS, SETTINGS_KEY, settings.topic.to_object(), began_ns=0, now_ns=last_ns)
    while not stop.is_set():
        if (now := clock.now_ns()) < last_ns - CLOCK_STEP_NS:
            say(f"the clock went back by {(last_ns - now) / NS_PER_S:.1f} s: what begins later than now begins now")
            source.clock_went_back()
            waiting += versions.clock_went_back(now)
            epoch += 1
        last_ns = now
        messages: list[Message] = [*waiting, *await asyncio.to_thread(source.look)]
        waiting = []
        for text in source.complaints():
            say(text)
        watermark = source.watermark_ns
        if stop.is_set() or not may():
            break
        if messages or clock.monotonic_s() - beat_s >= HEARTBEAT_EVERY_S:
            beat_s = clock.monotonic_s()
            messages += versions.expire(clock.now_ns() - settings.topic.retention_s * NS_PER_S)
            messages.append(Heartbeat(watermark, settings.identity, epoch))
            await publisher.publish(messages)
            versions.complete_to(watermark)
        if watermark and not started:
            started = True
            ready()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), pause_s)
