"""How much of a range the store holds: rates over what isn't stored would read too low."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tierflow.schemas.clock import NS_PER_S
from tierflow.sinks.read.interface import Filter

if TYPE_CHECKING:
    from tierflow.schemas.clock import Clock
    from tierflow.sinks.read.interface import Store

KNOWN_FOR_S: Final = 30


class Oldest:
    """Start of the oldest window stored; asked for anew every :data:`KNOWN_FOR_S`, as it moves with retention only."""

    __slots__ = ("_asked_s", "_clock", "_start_s", "_store")

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._start_s: int | None = None
        self._asked_s = 0

    def start_s(self) -> int | None:
        """Unix seconds; None for an empty store."""
        now_s = self._clock.now_ns() // NS_PER_S
        if self._start_s is None or not 0 <= now_s - self._asked_s < KNOWN_FOR_S:
            logs = self._store.flow_logs(Filter(), sort="start_time", descending=False, limit=1).logs
            self._start_s = int(logs[0]["start_time"]) if logs else None
            self._asked_s = now_s
        return self._start_s


def covered_s(start_s: int, end_s: int, oldest_s: int | None, newest_s: int | None) -> int:
    """Seconds from the oldest window's start to the newest one's end, as far as they lie in the range.

    The whole range where nothing of it is stored.
    """
    covered = min(end_s, end_s if newest_s is None else newest_s) - max(start_s, oldest_s or start_s)
    return covered if covered > 0 else end_s - start_s
