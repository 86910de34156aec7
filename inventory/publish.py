"""The publisher's loop: takes over what the topic holds, then writes what a source says, with heartbeats."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from tierflow.schemas.clock import NS_PER_S
from tierflow.schemas.inventory import Heartbeat, Message, ObjectVersion

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tierflow.inventory.topic import Publisher, Reader
    from tierflow.inventory.versions import Versions
    from tierflow.schemas.clock import Clock

HEARTBEAT_EVERY_S = 1.0


class Source(Protocol):
    """Where objects come from; used by one thread at a time."""

    def look(self) -> Sequence[ObjectVersion]:
        """Versions that began or ended since the call before; may wait a moment for the first."""
        ...

    @property
    def watermark_ns(self) -> int:
        """Everything before it has been handed over."""
        ...

    def complaints(self) -> list[str]:
        """What a person should know that hasn't been said yet."""
        ...


@dataclass(frozen=True, slots=True)
class PublishSettings:
    """Who publishes, and how long what ended is kept."""

    identity: str
    epoch: int
    retention_ns: int = 3600 * NS_PER_S


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
    ready: Callable[[], None],
    say: Callable[[str], None],
) -> None:
    """Write what the source says until ``stop``; ``ready`` is called once, after the source's first complete answer."""
    beat_s, started = -HEARTBEAT_EVERY_S, False
    while not stop.is_set():
        messages: list[Message] = list(await asyncio.to_thread(source.look))
        for text in source.complaints():
            say(text)
        watermark = source.watermark_ns
        if stop.is_set():
            break
        if messages or clock.monotonic_s() - beat_s >= HEARTBEAT_EVERY_S:
            beat_s = clock.monotonic_s()
            messages += versions.expire(clock.now_ns() - settings.retention_ns)
            messages.append(Heartbeat(watermark, settings.identity, settings.epoch))
            await publisher.publish(messages)
        if watermark and not started:
            started = True
            ready()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), pause_s)
