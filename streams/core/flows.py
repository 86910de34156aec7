"""What a node's records have in common from window to window: its connections, and the address pairs they belong to.

A *pair* is an address pair with destination port, protocol and reporter, during a *span*: a stretch of time in which
neither address changed hands and no policy changed. Records of a pair are joined and judged as one. Rows live as long
as windows need them, so that a connection that goes on is looked up, never grouped or joined again.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Final

import numpy as np

from tierflow.streams.core.grouping import distinct_rows, hash_columns
from tierflow.streams.core.index import Index
from tierflow.streams.core.records import SOURCE_PORT
from tierflow.streams.core.table import I32, U8, U16, U64, Table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from tierflow.streams.core.locate import Located, Locator
    from tierflow.streams.core.records import Columns
    from tierflow.streams.core.sums import Sums

    I64 = NDArray[np.int64]
    Mask = NDArray[np.bool_]
    Rows = NDArray[np.int32] | NDArray[np.int64]

SPARE_ROWS: Final = 1024
"""Rows beyond twice those in use before a table is made anew."""
_NO_SOURCE_PORT: Final = ~SOURCE_PORT
_S16, _S32, _S48 = np.uint64(16), np.uint64(32), np.uint64(48)
_LOW16: Final = np.uint64(0xFFFF)


class Pairs(Table):
    """Address pairs: their key, where they were found in the inventory, and their groups.

    The key is as in :class:`~tierflow.streams.core.records.Columns`, without the source port unless ports are kept
    apart. ``end_hi``, ``end_lo`` and ``end_port`` are the real destination; ``src``, ``dst`` and ``service`` number
    what the inventory says, -1 nothing; ``seen_ns`` is a time within ``from_ns`` (included) to ``to_ns`` (not).
    ``group`` and ``derived`` are group numbers, 0 none yet; see :mod:`tierflow.streams.core.groups`.
    """

    src_hi: U64
    src_lo: U64
    dst_hi: U64
    dst_lo: U64
    nat_hi: U64
    nat_lo: U64
    tag: U64
    end_hi: U64
    end_lo: U64
    from_ns: U64
    to_ns: U64
    seen_ns: U64
    src: I32
    dst: I32
    service: I32
    group: I32
    derived: I32
    source_labels: I32
    dest_labels: I32
    end_port: U16
    strangers: U8

    def reporter(self, rows: Rows) -> U8:
        """Reporter of each row."""
        return (self.tag[rows] >> np.uint64(24)).astype(np.uint8)

    def proto(self, rows: Rows) -> U8:
        """Protocol of each row."""
        return (self.tag[rows] >> _S16).astype(np.uint8)

    def src_port(self, rows: Rows) -> U16:
        """Source port of each row, 0 unless ports are kept apart."""
        return (self.tag[rows] >> _S32).astype(np.uint16)

    def dst_port(self, rows: Rows) -> U16:
        """Port that was addressed, of each row."""
        return (self.tag[rows] >> _S48).astype(np.uint16)


class Connections(Table):
    """Connections of pairs; ``name`` is a hash of the translated 5-tuple, by which connections are counted."""

    tag: U64
    name: U64
    pair: I32


class Flows:
    """The connections and pairs of one node."""

    __slots__ = (
        "_by_connection",
        "_by_pair",
        "_from_ns",
        "_locator",
        "_seeds",
        "_to_ns",
        "_wide",
        "connections",
        "pairs",
    )

    def __init__(self, seed: bytes = b"") -> None:
        """``seed`` should be secret: who knows it can send packets whose look-ups take long."""
        self.pairs, self.connections = Pairs(), Connections()
        self._by_pair, self._by_connection = Index(), Index()
        self._seeds = np.frombuffer(blake2b(seed, digest_size=64).digest(), np.uint64) | np.uint64(1)
        self._wide = False
        # All pairs' spans hold what lies between.
        self._from_ns, self._to_ns = np.uint64(0), np.uint64(2**64 - 1)
        self._locator: Locator | None = None

    def find(self, columns: Columns, locator: Locator, *, keep_source_ports: bool) -> tuple[I32, I32]:
        """The connection and the pair of each record, made where they are new; both int32[n]."""
        self.refresh(locator)
        if columns.wide:
            self._wide = True
        hashes = self._hash(columns, columns.tag)
        position, rows = self._by_connection.first(hashes)
        pairs = self.connections.pair.take(rows)
        right = self.connections.tag.take(rows) == columns.tag
        right &= self._same_addresses(pairs, columns, None)
        # In most batches no record can lie outside any pair's span.
        if columns.first_ns.min() < self._from_ns or columns.first_ns.max() >= self._to_ns:
            right &= self._holds(pairs, columns.first_ns)
        if not right.all():
            other = np.flatnonzero(~right)
            rows[other] = self._slowly(columns, other, hashes[other], position[other], locator, keep_source_ports)
            pairs[other] = self.connections.pair[rows[other]]
        return rows, pairs

    def refresh(self, locator: Locator) -> None:
        """When the inventory has changed, find out anew who stands at the ends of the pairs that it may concern."""
        before, self._locator = self._locator, locator
        pairs = self.pairs
        if before is locator or pairs.count == 1:
            return
        rows = np.arange(1, pairs.count)
        changed = None if before is None else locator.changed_since(before)
        if changed is not None:
            concerned = np.isin(pairs.src_lo[rows], changed) | np.isin(pairs.end_lo[rows], changed)
            # A Service's address that was not translated stands for backends, which may be others now.
            concerned |= (pairs.service[rows] >= 0) & ((pairs.nat_lo[rows] | pairs.nat_hi[rows]) == 0)
            rows = rows[concerned]
            if not len(rows):
                return
        located = locator.locate(
            pairs.src_hi[rows], pairs.src_lo[rows], pairs.dst_hi[rows], pairs.dst_lo[rows], pairs.nat_hi[rows],
            pairs.nat_lo[rows], pairs.tag[rows], pairs.seen_ns[rows],
        )  # fmt: skip
        moved = np.zeros(len(rows), bool)
        for name in ("src", "dst", "service", "end_hi", "end_lo", "end_port"):
            moved |= getattr(pairs, name)[rows] != getattr(located, name)
        pairs.group[rows[moved]] = 0
        self._put(rows, located, slice(None))
        self._measure_spans()

    def compact(self, taken: Sums, open_sums: Sequence[Sums]) -> bool:
        """Drop rows that neither the window just ``taken`` nor open ones have, once these are the most.

        Returns:
            whether rows were numbered anew; those of ``open_sums`` are, ``taken`` is not to be used again.
        """
        used = np.zeros(self.connections.count, bool)
        for sums in (taken, *open_sums):
            touched = sums.touched[: len(used)]
            used[: len(touched)] |= touched
        used[0] = False
        kept = np.flatnonzero(used)
        pairs_used = np.zeros(self.pairs.count, bool)
        pairs_used[self.connections.pair[kept]] = True
        kept_pairs = np.flatnonzero(pairs_used)
        spare = self.connections.count - 2 * len(kept), self.pairs.count - 2 * len(kept_pairs)
        if max(spare) <= SPARE_ROWS:
            return False
        for sums in open_sums:
            sums.keep(kept, kept_pairs)
        number = np.zeros(self.pairs.count, np.int32)
        number[kept_pairs] = np.arange(1, len(kept_pairs) + 1)
        self.pairs.keep(kept_pairs)
        self.connections.keep(kept)
        self.connections.pair = number[self.connections.pair]
        self._measure_spans()
        self._index_pairs()
        self._index_connections()
        return True

    def _slowly(
        self, columns: Columns, at: I64, hashes: U64, position: I64, locator: Locator, keep_source_ports: bool
    ) -> I32:
        """Rows of the records ``at``, whose first guess was wrong."""

        def same(rows: I32, asked: I64) -> Mask:
            records = at[asked]
            right: Mask = self.connections.tag[rows] == columns.tag[records]
            right &= self._same_addresses(self.connections.pair[rows], columns, records)
            return right

        found = self._by_connection.find(position, same)
        new = np.flatnonzero(~self._holds(self.connections.pair[found], columns.first_ns[at]))
        if len(new):
            found[new] = self._new_connections(columns, at[new], hashes[new], locator, keep_source_ports)
        return found

    def _new_connections(
        self, columns: Columns, at: I64, hashes: U64, locator: Locator, keep_source_ports: bool
    ) -> I64:
        pairs = self._pairs_of(columns, at, locator, keep_source_ports)
        # A pair and a source port are a connection.
        ports = (columns.tag[at] >> _S32) & _LOW16
        _, first, number = np.unique(
            (pairs.astype(np.uint64) << _S16) | ports, return_index=True, return_inverse=True
        )  # fmt: skip
        rows = self.connections.extend(len(first))
        records = at[first]
        self.connections.tag[rows] = columns.tag[records]
        self.connections.pair[rows] = pairs[first]
        translated = (columns.nat_lo[records] | columns.nat_hi[records]) != 0
        tag = columns.tag[records]
        self.connections.name[rows] = hash_columns(
            columns.src_hi[records], columns.src_lo[records],
            np.where(translated, columns.nat_hi[records], columns.dst_hi[records]),
            np.where(translated, columns.nat_lo[records], columns.dst_lo[records]),
            (tag >> _S32) & _LOW16, np.where(translated, tag & _LOW16, tag >> _S48), (tag >> _S16) & np.uint64(0xFF),
        )  # fmt: skip
        if not self._by_connection.has_room(len(rows)):
            self._index_connections()
        else:
            self._by_connection.add(hashes[first], rows, lambda there, some: self._same_connection(there, rows[some]))
        return rows[number]

    def _pairs_of(self, columns: Columns, at: I64, locator: Locator, keep_source_ports: bool) -> I32:
        tag = columns.tag[at]
        if not keep_source_ports:
            tag &= _NO_SOURCE_PORT
        hashes = self._hash(columns, tag, at)
        position, _ = self._by_pair.first(hashes)

        def same(rows: I32, asked: I64) -> Mask:
            right: Mask = self.pairs.tag[rows] == tag[asked]
            right &= self._same_addresses(rows, columns, at[asked])
            return right

        found = self._by_pair.find(position, same)
        new = np.flatnonzero(~self._holds(found, columns.first_ns[at]))
        if len(new):
            found[new] = self._new_pairs(columns, at[new], tag[new], hashes[new], locator)
        return found

    def _new_pairs(self, columns: Columns, at: I64, tag: U64, hashes: U64, locator: Locator) -> I64:
        key = (
            columns.src_hi[at], columns.src_lo[at], columns.dst_hi[at], columns.dst_lo[at], columns.nat_hi[at],
            columns.nat_lo[at],
        )  # fmt: skip
        times = columns.first_ns[at]
        located = locator.locate(*key, tag, times)
        begin = located.from_ns
        first, number = distinct_rows(hashes + begin * self._seeds[7], [*key, tag, begin])
        rows = self.pairs.extend(len(first))
        for name, column in zip(("src_hi", "src_lo", "dst_hi", "dst_lo", "nat_hi", "nat_lo"), key, strict=True):
            getattr(self.pairs, name)[rows] = column[first]
        self.pairs.tag[rows], self.pairs.seen_ns[rows] = tag[first], times[first]
        self._put(rows, located, first)
        if not self._by_pair.has_room(len(rows)):
            self._index_pairs()
        else:
            self._by_pair.add(hashes[first], rows, lambda there, some: self._same_pair(there, rows[some]))
        return rows[number]

    def _measure_spans(self) -> None:
        spans = slice(1, self.pairs.count)
        self._from_ns = self.pairs.from_ns[spans].max(initial=0)
        self._to_ns = self.pairs.to_ns[spans].min(initial=np.uint64(2**64 - 1))

    def _put(self, rows: I64, located: Located, of: I64 | slice) -> None:
        self._from_ns = max(self._from_ns, located.from_ns[of].max())
        self._to_ns = min(self._to_ns, located.to_ns[of].min())
        for name in ("src", "dst", "service", "end_hi", "end_lo", "end_port", "from_ns", "to_ns"):
            getattr(self.pairs, name)[rows] = getattr(located, name)[of]

    def _index_pairs(self) -> None:
        rows = np.arange(1, self.pairs.count)
        self._by_pair = Index(len(rows))
        self._by_pair.add(
            self._hash_of_pairs(rows, self.pairs.tag[rows]), rows, lambda there, at: self._same_pair(there, rows[at])
        )

    def _index_connections(self) -> None:
        rows = np.arange(1, self.connections.count)
        self._by_connection = Index(len(rows))
        self._by_connection.add(
            self._hash_of_pairs(self.connections.pair[rows], self.connections.tag[rows]), rows,
            lambda there, at: self._same_connection(there, rows[at]),
        )  # fmt: skip

    def _holds(self, pairs: I32, times: U64) -> Mask:
        """Whether each time lies in the pair's span; never for row 0."""
        begun: Mask = self.pairs.from_ns[pairs] <= times
        begun &= times < self.pairs.to_ns[pairs]
        return begun

    def _same_addresses(self, pairs: I32, columns: Columns, at: I64 | None) -> Mask:
        names = ("src_lo", "dst_lo", "nat_lo")
        if self._wide:
            names += ("src_hi", "dst_hi", "nat_hi")  # type: ignore[assignment]  # a longer tuple of the same
        same = np.ones(len(pairs), bool)
        for name in names:
            column = getattr(columns, name)
            same &= getattr(self.pairs, name).take(pairs) == (column if at is None else column[at])
        return same

    def _same_connection(self, there: Rows, rows: Rows) -> Mask:
        same: Mask = self.connections.tag[there] == self.connections.tag[rows]
        same &= self._same_ends(self.connections.pair[there], self.connections.pair[rows])
        return same

    def _same_pair(self, there: Rows, rows: Rows) -> Mask:
        same: Mask = self.pairs.tag[there] == self.pairs.tag[rows]
        same &= self._same_ends(there, rows)
        return same

    def _same_ends(self, there: Rows, rows: Rows) -> Mask:
        same = np.ones(len(there), bool)
        for name in ("src_lo", "dst_lo", "nat_lo", "src_hi", "dst_hi", "nat_hi"):
            column = getattr(self.pairs, name)
            same &= column[there] == column[rows]
        return same

    def _hash_of_pairs(self, pairs: Rows, tag: U64) -> U64:
        table = self.pairs
        return self._mixed(
            table.src_lo[pairs], table.dst_lo[pairs], table.nat_lo[pairs], tag,
            (table.src_hi[pairs], table.dst_hi[pairs], table.nat_hi[pairs]) if self._wide else (),
        )  # fmt: skip

    def _hash(self, columns: Columns, tag: U64, at: I64 | None = None) -> U64:
        chosen: slice | I64 = slice(None) if at is None else at
        return self._mixed(
            columns.src_lo[chosen], columns.dst_lo[chosen], columns.nat_lo[chosen], tag,
            (columns.src_hi[chosen], columns.dst_hi[chosen], columns.nat_hi[chosen]) if columns.wide else (),
        )  # fmt: skip

    def _mixed(self, src: U64, dst: U64, nat: U64, tag: U64, high: tuple[U64, ...]) -> U64:
        """Multilinear hash with secret odd factors; zero upper halves add nothing."""
        factors = self._seeds
        mixed: U64 = src * factors[0]
        scratch = dst * factors[1]
        mixed += scratch
        np.multiply(nat, factors[2], out=scratch)
        mixed += scratch
        np.multiply(tag, factors[3], out=scratch)
        mixed += scratch
        for column, factor in zip(high, factors[4:7], strict=False):
            mixed += column * factor
        np.right_shift(mixed, _S32, out=scratch)
        mixed ^= scratch
        mixed *= factors[7]
        return mixed
