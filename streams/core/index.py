"""A hash index over rows that are kept elsewhere: vectorised open addressing, exact by comparison of the rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    U64 = NDArray[np.uint64]
    I64 = NDArray[np.int64]
    Mask = NDArray[np.bool_]

_SPARSE: Final = 6
"""Slots per row at least: most look-ups then end at the first slot, and a second round is what costs."""
_LEAST: Final = 256


class Index:
    """Row numbers by the hash of their key. Row 0 stands for none and is never in the index.

    One row of each key can be found: the last that was added.
    """

    __slots__ = ("_shift", "_slots", "used")

    def __init__(self, rows: int = 0) -> None:
        """With room for ``rows``."""
        bits = max(_LEAST, 2 * _SPARSE * rows - 1).bit_length()
        self._shift = np.uint64(64 - bits)
        self._slots = np.zeros(1 << bits, np.int32)
        self.used = 0

    def has_room(self, rows: int) -> bool:
        """Whether so many more may be added; else a larger one has to be made."""
        return (self.used + rows) * _SPARSE <= len(self._slots)

    def first(self, hashes: U64) -> tuple[I64, NDArray[np.int32]]:
        """The first slot of each hash, and the row in it: in most cases the right one, and never more than a guess."""
        position = (hashes >> self._shift).view(np.int64)
        return position, self._slots.take(position)

    def find(self, position: I64, same: Callable[[NDArray[np.int32], I64], Mask]) -> NDArray[np.int32]:
        """The row of each key, 0 where there is none.

        Args:
            position: first slot of each key; changed.
            same: ``same(rows, at)`` says which rows have the keys at those positions of the query.
        """
        found = np.zeros(len(position), np.int32)
        waiting = np.arange(len(position))
        last = len(self._slots) - 1
        while len(waiting):
            rows = self._slots[position[waiting]]
            right = same(rows, waiting)
            found[waiting[right]] = rows[right]
            waiting = waiting[~right & (rows != 0)]
            position[waiting] = (position[waiting] + 1) & last
        return found

    def add(self, hashes: U64, rows: I64, same: Callable[[NDArray[np.int32], I64], Mask]) -> None:
        """Put rows in; a row whose key is there already takes the other's place.

        Args:
            hashes: of each row's key.
            rows: row numbers, not 0, below 2**31.
            same: ``same(there, at)`` says which of the rows ``there`` have the same key as ``rows[at]``.
        """
        position = (hashes >> self._shift).view(np.int64)
        todo = np.arange(len(rows))
        last = len(self._slots) - 1
        while len(todo):
            want = position[todo]
            there = self._slots[want]
            empty = there == 0
            own = empty | same(there, todo)
            placed, at = todo[own], want[own]
            self._slots[at] = rows[placed]
            self.used += int(np.count_nonzero(self._slots[at[empty[own]]] == rows[placed[empty[own]]]))
            # Of several that wanted one slot the last has it. A row of the same key is content with that.
            lost = placed[self._slots[at] != rows[placed]]
            lost = lost[~same(self._slots[position[lost]], lost)]
            position[todo[~own]] = (want[~own] + 1) & last
            todo = np.concatenate((todo[~own], lost))
