"""What a window of a node adds up to: totals per pair, and which connections it saw."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from tierflow.schemas.clock import NS_PER_S
from tierflow.schemas.record import Mark
from tierflow.streams.core.table import resized

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tierflow.streams.core.flows import Flows
    from tierflow.streams.core.records import Columns

    U64 = NDArray[np.uint64]
    Mask = NDArray[np.bool_]

_LOW32, _S32 = np.uint64(0xFFFF_FFFF), np.uint64(32)
_STARTED, _COMPLETED, _TO_COMPLETED = np.uint64(Mark.STARTED), np.uint64(Mark.COMPLETED), np.uint64(1)

TOTALS: Final = (
    "bytes_fwd", "bytes_rev", "packets_fwd", "packets_rev", "started", "completed", "rtt_sum_us", "rtt_count",
)  # fmt: skip
"""What is summed up; rows of :attr:`Sums.totals`."""
_REV: Final = TOTALS.index("packets_rev")
ANSWER_NS: Final = NS_PER_S
"""A question that comes less than this before its window's end may find its answer in the next window."""


class Sums:
    """Totals by pair number and marks by connection number of one :class:`~tierflow.streams.core.flows.Flows`.

    ``totals`` is uint64[8, pairs] in the order of :data:`TOTALS`, ``rtt_max_us`` uint64[pairs], ``touched``
    bool[connections]. ``asked`` and ``asked_last``, bool[pairs], say which pairs have a record of questions without an
    answer, before the border given to :meth:`add` and after it.
    """

    __slots__ = ("asked", "asked_last", "records", "rtt_max_us", "totals", "touched")

    def __init__(self) -> None:
        self.totals: U64 = np.zeros((len(TOTALS), 0), np.uint64)
        self.rtt_max_us: U64 = np.zeros(0, np.uint64)
        self.touched: Mask = np.zeros(0, bool)
        self.asked: Mask = np.zeros(0, bool)
        self.asked_last: Mask = np.zeros(0, bool)
        self.records = 0

    def add(
        self, columns: Columns, flows: Flows, connections: NDArray[np.int32], pairs: NDArray[np.int32], border_ns: int
    ) -> None:  # fmt: skip
        """Add records, whose rows in ``flows`` are given; questions from ``border_ns`` on may be answered elsewhere."""
        self._reach(flows.pairs.capacity, flows.connections.capacity)
        self.records += columns.count
        self.touched[connections] = True
        rows = pairs.astype(np.intp)
        bytes_fwd, bytes_rev, packets_fwd, packets_rev, started, completed, rtt_sum, rtt_count = self.totals
        np.add.at(bytes_fwd, rows, columns.bytes_fwd)
        np.add.at(bytes_rev, rows, columns.bytes_rev)
        np.add.at(packets_fwd, rows, columns.packets & _LOW32)
        np.add.at(packets_rev, rows, columns.packets >> _S32)
        asking = columns.questions()
        if len(asking):
            last = columns.last_ns[asking] >= np.uint64(border_ns)
            self.asked[rows[asking[~last]]] = True
            self.asked_last[rows[asking[last]]] = True
        marks = columns.marks()
        marks &= _STARTED | _COMPLETED
        if marks.any():
            np.add.at(started, rows, marks & _STARTED)
            np.add.at(completed, rows, marks >> _TO_COMPLETED)
        rtt = columns.rtt_us()
        timed = np.flatnonzero(rtt)
        if len(timed):
            rows, rtt = rows[timed], rtt[timed]
            np.add.at(rtt_sum, rows, rtt)
            np.add.at(rtt_count, rows, np.uint64(1))
            np.maximum.at(self.rtt_max_us, rows, rtt)

    def answers(self, following: Sums | None, pairs: int) -> tuple[Mask, Mask]:
        """Which pairs were answered, and which asked in vain; both bool[pairs].

        Questions of the last moment count as answered where ``following``, what is known of the next window, holds an
        answer of the pair; with None for it nothing is said of them.
        """
        asked, last, answered = self.asked[:pairs], self.asked_last[:pairs], self.totals[_REV, :pairs] != 0
        if following is None:
            return answered, asked
        size = min(pairs, following.totals.shape[1], len(last))
        answered[:size] |= (following.totals[_REV, :size] != 0) & last[:size] & ~asked[:size]
        return answered, asked | last

    def connections(self, flows: Flows) -> int:
        """How many distinct connections there are."""
        touched = np.flatnonzero(self.touched[: flows.connections.count])
        return len(np.unique(flows.connections.name[touched]))

    def keep(self, connections: NDArray[np.int64], pairs: NDArray[np.int64]) -> None:
        """Follow :meth:`~tierflow.streams.core.flows.Flows.compact`: these rows are numbered anew from 1."""
        self._reach(int(pairs.max(initial=0)) + 1, int(connections.max(initial=0)) + 1)
        nothing = np.zeros((len(TOTALS), 1), np.uint64)
        self.totals = np.concatenate((nothing, self.totals[:, pairs]), axis=1)
        self.rtt_max_us = np.concatenate((nothing[0], self.rtt_max_us[pairs]))
        self.asked, self.asked_last, self.touched = (
            np.concatenate(([False], mask[rows]))
            for mask, rows in ((self.asked, pairs), (self.asked_last, pairs), (self.touched, connections))
        )

    def _reach(self, pairs: int, connections: int) -> None:
        if self.totals.shape[1] < pairs:
            grown = np.zeros((len(TOTALS), pairs), np.uint64)
            grown[:, : self.totals.shape[1]] = self.totals
            self.totals = grown
            self.rtt_max_us = resized(self.rtt_max_us, pairs).astype(np.uint64, copy=False)
            self.asked = resized(self.asked, pairs).astype(bool, copy=False)
            self.asked_last = resized(self.asked_last, pairs).astype(bool, copy=False)
        if len(self.touched) < connections:
            self.touched = resized(self.touched, connections).astype(bool, copy=False)
