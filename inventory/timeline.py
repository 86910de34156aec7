"""What was in force from when on: one value after the other, each made of the object versions that held at its time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from tierflow.schemas.inventory import ObjectVersion

Value = TypeVar("Value")


class Timeline(Generic[Value]):
    """Values by the time from which they held; only what a change touches is made again."""

    __slots__ = ("_make", "_stale_from_ns", "_values")

    def __init__(self, make: Callable[[Sequence[ObjectVersion]], Value]) -> None:
        """``make`` gives the value of the versions that hold at one time, in the order of their keys."""
        self._make = make
        self._values: list[tuple[int, Value]] = []
        self._stale_from_ns: int | None = 0

    def touch(self, at_ns: int) -> None:
        """A version began or ended then: everything from then on is stale."""
        self._stale_from_ns = at_ns if self._stale_from_ns is None else min(self._stale_from_ns, at_ns)

    def expire(self, horizon_ns: int) -> None:
        """Forget what held only before ``horizon_ns``."""
        while len(self._values) > 1 and self._values[1][0] <= horizon_ns:
            del self._values[0]

    def build(self, versions: Collection[ObjectVersion], horizon_ns: int) -> list[tuple[int, Value]]:
        """The values in order; what changed before ``horizon_ns`` is one value."""
        if self._stale_from_ns is None:
            return self._values
        stale = max(self._stale_from_ns, horizon_ns)
        self._values = [each for each in self._values if each[0] < stale]
        ends = {time for each in versions for time in (each.valid_from_ns, each.valid_to_ns) if time is not None}
        times = sorted({time for time in ends if time >= stale} | ({stale} if not self._values else set()))
        for time in times:
            valid = [
                each
                for each in versions
                if each.valid_from_ns <= time and (each.valid_to_ns is None or each.valid_to_ns > time)
            ]
            self._values.append((time, self._make(sorted(valid, key=lambda each: each.key))))
        self._stale_from_ns = None
        return self._values
