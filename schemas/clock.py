"""Time as a parameter: what reads a clock is handed one."""

from __future__ import annotations

import time
from typing import Protocol

NS_PER_S = 1_000_000_000


class Clock(Protocol):
    """Wall-clock time for records, monotonic time for waits."""

    def now_ns(self) -> int:
        """Nanoseconds since the Unix epoch."""
        ...

    def monotonic_s(self) -> float:
        """Seconds from an arbitrary start, never going back."""
        ...


class SystemClock:
    """The machine's clocks."""

    __slots__ = ()

    def now_ns(self) -> int:
        """Nanoseconds since the Unix epoch."""
        return time.time_ns()

    def monotonic_s(self) -> float:
        """Seconds from an arbitrary start, never going back."""
        return time.monotonic()


class ManualClock:
    """A clock that stands still until it is moved; for tests and replays."""

    __slots__ = ("_now_ns",)

    def __init__(self, now_ns: int = 0) -> None:
        self._now_ns = now_ns

    def now_ns(self) -> int:
        """Nanoseconds since the Unix epoch."""
        return self._now_ns

    def monotonic_s(self) -> float:
        """The same time in seconds."""
        return self._now_ns / NS_PER_S

    def advance_ns(self, by_ns: int) -> None:
        """Move forward by ``by_ns`` nanoseconds."""
        self._now_ns += by_ns
