"""From an address and a time to the version that held it, vectorised: a hash table and a padded search.

Addresses are hashed into an open-addressed table whose slots carry the address's number. The intervals of an address
are consecutive in columns padded to a power of two, so the search by time is a fixed number of gathers, no branches.
"""

from __future__ import annotations

from itertools import chain, pairwise
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    U64 = NDArray[np.uint64]
    I64 = NDArray[np.int64]
    I32 = NDArray[np.int32]

FOREVER: Final = np.iinfo(np.int64).max
BLOCK: Final = 8_192
"""Look-ups done at once: the scratch columns then stay in the processor's second-level cache."""
WIDEST: Final = 16
"""Most intervals of one address on the fast path; an address with more is searched between its own bounds."""
_MIX_HI: Final = np.uint64(0x9E3779B97F4A7C15)
_MIX_LO: Final = np.uint64(0xC2B2AE3D27D4EB4F)

Segment = tuple[int, int, int]
"""from_ns, to_ns, version id; segments of an address are in order and do not overlap."""


class AddressNumbers:
    """An immutable hash table from 16-byte addresses to their number, 0 … n-1."""

    __slots__ = ("_hi", "_lo", "_number", "_shift", "count")

    def __init__(self, hi: U64, lo: U64) -> None:
        """``hi`` and ``lo`` are distinct addresses; each one's number is its position."""
        self.count = len(hi)
        bits = max(4, (4 * max(1, self.count) - 1).bit_length())
        size = 1 << bits
        self._shift = np.uint64(64 - bits)
        self._hi = np.zeros(size, np.uint64)
        self._lo = np.zeros(size, np.uint64)
        self._number = np.full(size, -1, np.int32)
        slots = self._slots(hi, lo)
        waiting = np.arange(self.count)
        while len(waiting):
            # Of all that want the same free slot the first gets it, the others go one further.
            want = slots[waiting]
            free = self._number[want] < 0
            _, first = np.unique(want, return_index=True)
            chosen = np.zeros(len(waiting), bool)
            chosen[first] = True
            chosen &= free
            placed, at = waiting[chosen], want[chosen]
            self._hi[at], self._lo[at], self._number[at] = hi[placed], lo[placed], placed
            waiting = waiting[~chosen]
            slots[waiting] = (slots[waiting] + 1) & (size - 1)

    def _slots(self, hi: U64, lo: U64) -> I64:
        mixed = hi * _MIX_HI
        mixed ^= lo
        mixed *= _MIX_LO
        mixed >>= self._shift
        return mixed.view(np.int64)

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


class AddressTable:
    """Who held which address when; immutable."""

    __slots__ = ("_addresses", "_from", "_id", "_long", "_steps", "_to", "_width")

    def __init__(self, hi: U64, lo: U64, segments: Sequence[Sequence[Segment]]) -> None:
        """``segments[i]`` belongs to address ``i``; addresses are distinct."""
        self._addresses = AddressNumbers(hi, lo)
        count = len(segments)
        longest = max((len(each) for each in segments), default=1)
        self._width = min(WIDEST, 1 << max(0, longest - 1).bit_length())
        self._steps = [1 << step for step in reversed(range(self._width.bit_length() - 1))]
        # One row more, all empty, is where addresses that nobody held are sent.
        self._from = np.full((count + 1) * self._width, FOREVER, np.int64)
        self._to = np.full((count + 1) * self._width, np.iinfo(np.int64).min, np.int64)
        self._id = np.full((count + 1) * self._width, -1, np.int32)
        self._long: dict[int, tuple[I64, I64, I32]] = {}
        at: list[int] = []
        rows: list[Segment] = []
        for number, each in enumerate(segments):
            if len(each) <= self._width:
                at.extend(range(number * self._width, number * self._width + len(each)))
                rows.extend(each)
            else:
                columns = np.array(each, np.int64)
                self._long[number] = (
                    columns[:, 0].copy(), columns[:, 1].copy(), columns[:, 2].astype(np.int32),
                )  # fmt: skip
        if rows:
            # An order of magnitude quicker than an array of tuples.
            columns = np.fromiter(chain.from_iterable(rows), np.int64, 3 * len(rows)).reshape(-1, 3)
            self._from[at], self._to[at], self._id[at] = columns[:, 0], columns[:, 1], columns[:, 2]

    def lookup(self, hi: U64, lo: U64, times_ns: I64) -> tuple[I32, NDArray[np.bool_]]:
        """Version ids (-1 nobody), and whether the address is in the table at all; shape (n,) each."""
        ids = np.empty(len(hi), np.int32)
        known = np.empty(len(hi), bool)
        for start in range(0, len(hi), BLOCK):
            block = slice(start, start + BLOCK)
            self._block(hi[block], lo[block], times_ns[block], ids[block], known[block])
        return ids, known

    def _block(self, hi: U64, lo: U64, times_ns: I64, ids: I32, known: NDArray[np.bool_]) -> None:
        numbers = self._addresses.numbers(hi, lo)
        np.greater_equal(numbers, 0, out=known)
        position = numbers.astype(np.int64)
        position[~known] = self._addresses.count
        position *= self._width
        ahead = np.empty_like(position)
        for step in self._steps:
            np.add(position, step, out=ahead)
            before = self._from.take(ahead) <= times_ns
            np.multiply(before, step, out=ahead)
            position += ahead
        held = self._from.take(position) <= times_ns
        held &= self._to.take(position) > times_ns
        np.copyto(ids, -1)
        np.copyto(ids, self._id.take(position), where=held)
        for number, (begin, end, version) in self._long.items():
            rows = np.flatnonzero(numbers == number)
            if len(rows):
                last = np.searchsorted(begin, times_ns[rows], side="right") - 1
                inside = (last >= 0) & (end[np.maximum(last, 0)] > times_ns[rows])
                ids[rows] = np.where(inside, version[np.maximum(last, 0)], -1)


def segments_of(holders: Iterable[tuple[int, int, str, int]]) -> list[Segment]:
    """The intervals of one address from who says to have held it.

    Where several hold at once, the one that began last does (of those the one with the greatest key): the older entry
    is one whose end has not been noticed yet. When it ends first, the older one holds again.

    Args:
        holders: from_ns, to_ns, the object's key, version id; in any order.
    """
    known = sorted(holder for holder in holders if holder[1] > holder[0])
    if all(earlier[1] <= later[0] for earlier, later in pairwise(known)):
        return [(begin, end, version) for begin, end, _, version in known]
    cuts = sorted({begin for begin, *_ in known} | {end for _, end, *_ in known})
    result: list[Segment] = []
    for begin, end in pairwise(cuts):
        holding = [holder for holder in known if holder[0] <= begin and holder[1] >= end]
        if not holding:
            continue
        _, _, _, version = max(holding, key=lambda holder: (holder[0], holder[2]))
        if result and result[-1][2] == version and result[-1][1] == begin:
            result[-1] = (result[-1][0], end, version)
        else:
            result.append((begin, end, version))
    return result
