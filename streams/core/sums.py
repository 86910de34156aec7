"""What a window of a node adds up to: totals per pair, and which connections it saw."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from tierflow.schemas.record import Mark
from tierflow.streams.core.table import resized

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tierflow.streams.core.flows import Flows
    from tierflow.streams.core.records import Columns

    U64 = NDArray[np.uint64]

_LOW32, _S32 = np.uint64(0xFFFF_FFFF), np.uint64(32)
_STARTED, _COMPLETED, _TO_COMPLETED = np.uint64(Mark.STARTED), np.uint64(Mark.COMPLETED), np.uint64(1)

TOTALS: Final = (
    "bytes_fwd", "bytes_rev", "packets_fwd", "packets_rev", "started", "completed", "rtt_sum_us", "rtt_count",
)  # fmt: skip
"""What is summed up; rows of :attr:`Sums.totals`."""


class Sums:
    """Totals by pair number and marks by connection number of one :class:`~tierflow.streams.core.flows.Flows`.

    ``totals`` is uint64[8, pairs] in the order of :data:`TOTALS`, ``rtt_max_us`` uint64[pairs], ``touched``
    bool[connections].
    """

    __slots__ = ("records", "rtt_max_us", "totals", "touched")

    def __init__(self) -> None:
        self.totals: U64 = np.zeros((len(TOTALS), 0), np.uint64)
        self.rtt_max_us: U64 = np.zeros(0, np.uint64)
        self.touched: NDArray[np.bool_] = np.zeros(0, bool)
        self.records = 0

    def add(self, columns: Columns, flows: Flows, connections: NDArray[np.int32], pairs: NDArray[np.int32]) -> None:
        """Add records, whose rows in ``flows`` are given."""
        self._reach(flows.pairs.capacity, flows.connections.capacity)
        self.records += columns.count
        self.touched[connections] = True
        rows = pairs.astype(np.intp)
        bytes_fwd, bytes_rev, packets_fwd, packets_rev, started, completed, rtt_sum, rtt_count = self.totals
        np.add.at(bytes_fwd, rows, columns.bytes_fwd)
        np.add.at(bytes_rev, rows, columns.bytes_rev)
        np.add.at(packets_fwd, rows, columns.packets & _LOW32)
        np.add.at(packets_rev, rows, columns.packets >> _S32)
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
        self.touched = np.concatenate(([False], self.touched[connections]))

    def _reach(self, pairs: int, connections: int) -> None:
        if self.totals.shape[1] < pairs:
            grown = np.zeros((len(TOTALS), pairs), np.uint64)
            grown[:, : self.totals.shape[1]] = self.totals
            self.totals = grown
            self.rtt_max_us = resized(self.rtt_max_us, pairs).astype(np.uint64, copy=False)
        if len(self.touched) < connections:
            self.touched = resized(self.touched, connections).astype(bool, copy=False)
