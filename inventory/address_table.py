"""From an address and a time to the version that held it, vectorised: a hash table and a padded search.

Addresses are hashed to numbers. The intervals of an address are consecutive in columns padded to a power of two, so the
search by time is a fixed number of gathers, no branches. The few addresses that changed hands more often than that have
their intervals one behind the other in columns of their own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING, Final

import numpy as np

from tierflow.inventory.address_numbers import AddressNumbers

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
"""Most intervals of one address on the fast path."""
_NEVER: Final = np.iinfo(np.int64).min

Segment = tuple[int, int, int]
"""from_ns, to_ns, version id; segments of an address are in order and do not overlap."""


@dataclass(frozen=True, slots=True)
class Intervals:
    """Intervals by column; the same place in each column is one interval."""

    begin: I64
    end: I64
    version: I32

    @staticmethod
    def of(segments: Iterable[Segment], count: int) -> Intervals:
        """``count`` segments in their order."""
        # An order of magnitude quicker than an array of tuples.
        columns = np.fromiter(chain.from_iterable(segments), np.int64, 3 * count).reshape(-1, 3)
        return Intervals(columns[:, 0].copy(), columns[:, 1].copy(), columns[:, 2].astype(np.int32))

    @staticmethod
    def empty(count: int) -> Intervals:
        """Intervals that hold at no time, and sort behind all others."""
        return Intervals(
            np.full(count, FOREVER, np.int64), np.full(count, _NEVER, np.int64), np.full(count, -1, np.int32)
        )

    def put(self, at: I64, other: Intervals) -> None:
        """Write others over those at ``at``; only while nobody else has seen this."""
        self.begin[at], self.end[at], self.version[at] = other.begin, other.end, other.version

    def put_rows(self, width: int, rows: I64 | slice, other: Intervals, other_width: int) -> None:
        """Write rows of ``other``, all but its last, over rows of these, which are as wide or wider; see ``put``."""
        for mine, its, nothing in (
            (self.begin, other.begin, FOREVER), (self.end, other.end, _NEVER), (self.version, other.version, -1)
        ):  # fmt: skip
            table = mine.reshape(-1, width)
            table[rows, :other_width] = its.reshape(-1, other_width)[:-1]
            table[rows, other_width:] = nothing

    def take(self, at: I64) -> Intervals:
        """Those at ``at``."""
        return Intervals(self.begin[at], self.end[at], self.version[at])

    def followed_by(self, other: Intervals) -> Intervals:
        """These, then others."""
        return Intervals(
            np.concatenate((self.begin, other.begin)),
            np.concatenate((self.end, other.end)),
            np.concatenate((self.version, other.version)),
        )

    def renumbered(self, new: I32) -> Intervals:
        """The same with version ``new[version]``."""
        # Version -1 stays: it takes the last element, which is there for it.
        return Intervals(self.begin, self.end, np.append(new, np.int32(-1))[self.version])


@dataclass(frozen=True, slots=True)
class AddressTable:
    """Who held which address when; immutable.

    Attributes:
        addresses: the number of each address.
        width: intervals a row of ``padded`` has room for, a power of two.
        padded: row by row, the intervals of each address; one row more, all empty, is for addresses that nobody held.
        long_of: of each address, which of the long ones it is; -1 for one whose intervals are in its row.
        long: intervals of the long ones, one after the other.
        long_bounds: where in ``long`` each long one begins; one more for the end.
    """

    addresses: AddressNumbers
    width: int
    padded: Intervals
    long_of: I32
    long: Intervals
    long_bounds: I64

    @staticmethod
    def of(hi: U64, lo: U64, segments: Sequence[Sequence[Segment]]) -> AddressTable:
        """``segments[i]`` belongs to address ``i``; addresses are distinct."""
        lengths = np.array([len(each) for each in segments], np.int64)
        short = lengths <= WIDEST
        width = 1 << max(0, int(lengths[short].max(initial=1)) - 1).bit_length()
        padded = Intervals.empty((len(lengths) + 1) * width)
        rows = np.flatnonzero(short)
        few = chain.from_iterable(each for each in segments if len(each) <= WIDEST)
        padded.put(
            np.repeat(rows * width, lengths[rows]) + _places(lengths[rows]),
            Intervals.of(few, int(lengths[rows].sum())),
        )
        many = chain.from_iterable(each for each in segments if len(each) > WIDEST)
        return AddressTable(
            AddressNumbers(hi, lo),
            width,
            padded,
            np.where(short, np.int32(-1), np.cumsum(~short, dtype=np.int32) - np.int32(1)),
            Intervals.of(many, int(lengths[~short].sum())),
            _bounds(lengths[~short]),
        )

    @property
    def count(self) -> int:
        """Number of addresses."""
        return self.addresses.count

    def merged(self, newer: AddressTable) -> AddressTable:
        """This table with what ``newer`` says of its addresses in place of what this one says of them."""
        hi, lo = newer.addresses.addresses()
        at = self.addresses.numbers(hi, lo).astype(np.int64)
        unknown = at < 0
        at[unknown] = self.count + np.arange(np.count_nonzero(unknown))
        addresses = self.addresses.with_more(hi[unknown], lo[unknown])
        width = max(self.width, newer.width)
        padded = Intervals.empty((addresses.count + 1) * width)
        padded.put_rows(width, slice(0, self.count), self.padded, self.width)
        padded.put_rows(width, at, newer.padded, newer.width)
        long_of = np.full(addresses.count, -1, np.int32)
        long_of[: self.count] = self.long_of
        long_of[at] = -1
        kept = np.flatnonzero(long_of >= 0)
        mine = long_of[kept]
        lengths = np.diff(self.long_bounds)[mine]
        long_of[kept] = np.arange(len(kept))
        long_of[at] = np.where(newer.long_of >= 0, newer.long_of + len(kept), -1)
        taken = self.long.take(np.repeat(self.long_bounds[mine], lengths) + _places(lengths))
        bounds = _bounds(np.concatenate((lengths, np.diff(newer.long_bounds))))
        return AddressTable(addresses, width, padded, long_of, taken.followed_by(newer.long), bounds)

    def renumbered(self, new: I32) -> AddressTable:
        """The same intervals held by versions ``new[id]``; -1 where that version is known no more."""
        return replace(self, padded=self.padded.renumbered(new), long=self.long.renumbered(new))

    def lookup(self, hi: U64, lo: U64, times_ns: I64) -> tuple[I32, NDArray[np.bool_]]:
        """Version ids (-1 nobody), and whether the address is in the table at all; shape (n,) each."""
        ids = np.empty(len(hi), np.int32)
        known = np.empty(len(hi), bool)
        for start in range(0, len(hi), BLOCK):
            block = slice(start, start + BLOCK)
            self._block(hi[block], lo[block], times_ns[block], ids[block], known[block])
        return ids, known

    def spans(self, hi: U64, lo: U64, times_ns: I64) -> tuple[I64, I64, NDArray[np.bool_]]:
        """From when (included) to when (not included) :meth:`lookup` says the same of each address as at its time.

        Returns:
            from_ns (0: always has), to_ns (:data:`FOREVER`: as far as is known), and whether the address is in the
            table at all; shape (n,) each.
        """
        numbers = self.addresses.numbers(hi, lo)
        known = numbers >= 0
        since, until = np.zeros(len(numbers), np.int64), np.full(len(numbers), FOREVER, np.int64)
        row = np.where(known, numbers.astype(np.int64), self.count) * self.width
        for column in range(self.width):
            _narrow(since, until, self.padded.take(row + column), times_ns)
        if len(self.long_bounds) > 1:
            rows = np.flatnonzero(known)
            for at in rows[self.long_of[numbers[rows]] >= 0].tolist():
                own = slice(*self.long_bounds[self.long_of[numbers[at]] :][:2])
                edges = np.concatenate((self.long.begin[own], self.long.end[own]))
                past = edges <= times_ns[at]
                since[at], until[at] = edges[past].max(initial=0), edges[~past].min(initial=FOREVER)
        return since, until, known

    def _block(self, hi: U64, lo: U64, times_ns: I64, ids: I32, known: NDArray[np.bool_]) -> None:
        numbers = self.addresses.numbers(hi, lo)
        np.greater_equal(numbers, 0, out=known)
        position = numbers.astype(np.int64)
        position[~known] = self.count
        position *= self.width
        padded = self.padded
        ahead = np.empty_like(position)
        for step in [1 << each for each in reversed(range(self.width.bit_length() - 1))]:
            np.add(position, step, out=ahead)
            before = padded.begin.take(ahead) <= times_ns
            np.multiply(before, step, out=ahead)
            position += ahead
        held = padded.begin.take(position) <= times_ns
        held &= padded.end.take(position) > times_ns
        np.copyto(ids, -1)
        np.copyto(ids, padded.version.take(position), where=held)
        if len(self.long_bounds) > 1:
            rows = np.flatnonzero(known)
            rows = rows[self.long_of[numbers[rows]] >= 0]
            ids[rows] = self._search_long(self.long_of[numbers[rows]], times_ns[rows])

    def _search_long(self, which: I32, times_ns: I64) -> I32:
        first, behind = self.long_bounds[which], self.long_bounds[which + 1]
        begin, end = first.copy(), behind.copy()
        # Bisection of all at once, each between its own bounds: the first interval that begins later.
        while (open_ := begin < end).any():
            middle = (begin + end) >> 1
            before = open_ & (self.long.begin[np.minimum(middle, behind - 1)] <= times_ns)
            begin = np.where(before, middle + 1, begin)
            end = np.where(open_ & ~before, middle, end)
        last = np.maximum(begin - 1, first)
        held = (self.long.begin[last] <= times_ns) & (self.long.end[last] > times_ns)
        return np.where(held, self.long.version[last], np.int32(-1)).astype(np.int32)


def _bounds(lengths: I64) -> I64:
    """Where each run of the given lengths begins, and the end of the last."""
    return np.concatenate((np.zeros(1, np.int64), np.cumsum(lengths)))


def _places(lengths: I64) -> I64:
    """0, 1, … within each run of the given lengths."""
    ends = np.cumsum(lengths)
    return np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - lengths, lengths)


def _narrow(since: I64, until: I64, intervals: Intervals, times_ns: I64) -> None:
    """Move ``since`` and ``until`` to where an interval begins or ends closer to the times; empty ones say nothing."""
    for edges in (intervals.begin, intervals.end):
        past = (edges <= times_ns) & (edges != _NEVER)
        np.maximum(since, edges, out=since, where=past)
        np.minimum(until, edges, out=until, where=edges > times_ns)


def segments_of(holders: Iterable[tuple[int, int, str, int]]) -> list[Segment]:
    """The intervals of one address from who says to have held it.

    Where several hold at once, the one that began last does (of those the one with the greatest key): the older entry
    is one whose end has not been noticed yet. When it ends first, the older one holds again.

    Args:
        holders: from_ns, to_ns, the object's key, version id; in any order.
    """
    result: list[Segment] = []
    # Those that hold or will hold again, the one that began last on top.
    stack: list[tuple[int, int, str, int]] = []
    now = _NEVER
    for holder in (*sorted((begin, key, end, version) for begin, end, key, version in holders), None):
        begin = FOREVER if holder is None else holder[0]
        while stack and now < begin:
            _, end, _, version = stack[-1]
            if end <= now:
                stack.pop()
                continue
            until = min(end, begin)
            if result and result[-1][1] == now and result[-1][2] == version:
                result[-1] = (result[-1][0], until, version)
            else:
                result.append((now, until, version))
            now = until
        if holder is not None and holder[2] > begin:
            now = max(now, begin)
            stack.append((begin, holder[2], holder[1], holder[3]))
    return result
