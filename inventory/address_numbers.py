"""From 16-byte addresses to their numbers 0 … n-1: an immutable, open-addressed hash table, looked up vectorised."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    U64 = NDArray[np.uint64]
    I64 = NDArray[np.int64]
    I32 = NDArray[np.int32]

_MIX_HI: Final = np.uint64(0x9E3779B97F4A7C15)
_MIX_LO: Final = np.uint64(0xC2B2AE3D27D4EB4F)


class AddressNumbers:
    """The number of each address is its position among those it was made of."""

    __slots__ = ("_hi", "_lo", "_number", "_shift", "count")

    def __init__(self, hi: U64, lo: U64) -> None:
        """``hi`` and ``lo`` are distinct addresses."""
        self.count = 0
        # At most a quarter full, so that nearly every search ends at its first slot.
        bits = max(4, (4 * max(1, len(hi)) - 1).bit_length())
        self._shift = np.uint64(64 - bits)
        self._hi = np.zeros(1 << bits, np.uint64)
        self._lo = np.zeros(1 << bits, np.uint64)
        self._number = np.full(1 << bits, -1, np.int32)
        self._insert(hi, lo)

    def _insert(self, hi: U64, lo: U64) -> None:
        slots = self._slots(hi, lo)
        waiting = np.arange(len(hi))
        while len(waiting):
            # Of all that want the same free slot the first gets it, the others go one further.
            want = slots[waiting]
            free = self._number[want] < 0
            _, first = np.unique(want, return_index=True)
            chosen = np.zeros(len(waiting), bool)
            chosen[first] = True
            chosen &= free
            placed, at = waiting[chosen], want[chosen]
            self._hi[at], self._lo[at], self._number[at] = hi[placed], lo[placed], placed + self.count
            waiting = waiting[~chosen]
            slots[waiting] = (slots[waiting] + 1) & (len(self._number) - 1)
        self.count += len(hi)

    def _slots(self, hi: U64, lo: U64) -> I64:
        mixed = hi * _MIX_HI
        mixed ^= lo
        mixed *= _MIX_LO
        mixed >>= self._shift
        return mixed.view(np.int64)

    def addresses(self) -> tuple[U64, U64]:
        """All addresses in the order of their numbers."""
        used = np.flatnonzero(self._number >= 0)
        order = used[np.argsort(self._number[used])]
        return self._hi[order], self._lo[order]

    def with_more(self, hi: U64, lo: U64) -> AddressNumbers:
        """Another table that has these as well, numbered on; none of them may be in this one."""
        if not len(hi):
            return self
        if 3 * (self.count + len(hi)) > len(self._number):
            own_hi, own_lo = self.addresses()
            return AddressNumbers(np.concatenate((own_hi, hi)), np.concatenate((own_lo, lo)))
        more = copy.copy(self)
        more._extend(hi, lo)  # noqa: SLF001 - its own kind, not yet seen by anybody
        return more

    def _extend(self, hi: U64, lo: U64) -> None:
        """Take columns of its own, which others don't see, and put more into them."""
        self._hi, self._lo, self._number = self._hi.copy(), self._lo.copy(), self._number.copy()
        self._insert(hi, lo)

    def numbers(self, hi: U64, lo: U64) -> I32:
        """The number of each address, -1 where it isn't in the table."""
        slots = self._slots(hi, lo)
        found = self._number.take(slots)
        right = self._lo.take(slots) == lo
        right &= self._hi.take(slots) == hi
        # An empty slot ends the search with -1; a slot of another address sends it one further.
        wrong = np.flatnonzero(~(right | (found < 0)))
        mask = len(self._number) - 1
        while len(wrong):
            slot = (slots[wrong] + 1) & mask
            slots[wrong] = slot
            number = self._number[slot]
            found[wrong] = number
            same = (self._lo[slot] == lo[wrong]) & (self._hi[slot] == hi[wrong])
            wrong = wrong[~(same | (number < 0))]
        return found
