"""Columns that grow together."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

_LEAST: Final = 64


class Table:
    """Rows 1 to ``count`` - 1; row 0 is all zeros and stands for none. Subclasses name their columns."""

    COLUMNS: ClassVar[Mapping[str, str]] = {}
    """dtype by attribute."""

    count: int

    def __init__(self) -> None:
        self.count = 1
        for name, dtype in self.COLUMNS.items():
            setattr(self, name, np.zeros(_LEAST, dtype))

    @property
    def capacity(self) -> int:
        """Rows that fit before columns are made anew."""
        column: NDArray[np.generic] = getattr(self, next(iter(self.COLUMNS)))
        return len(column)

    def extend(self, rows: int) -> NDArray[np.int64]:
        """The numbers of new rows; their columns are zero."""
        first, self.count = self.count, self.count + rows
        if self.count > self.capacity:
            capacity = self.count + self.count // 2
            for name in self.COLUMNS:
                setattr(self, name, resized(getattr(self, name), capacity))
        return np.arange(first, self.count)

    def keep(self, rows: NDArray[np.int64]) -> None:
        """Keep only these rows, numbered anew from 1 in the order given."""
        capacity = len(rows) + 1 + len(rows) // 4
        for name, dtype in self.COLUMNS.items():
            kept = np.zeros(max(capacity, _LEAST), dtype)
            kept[1 : len(rows) + 1] = getattr(self, name)[rows]
            setattr(self, name, kept)
        self.count = len(rows) + 1


def resized(column: NDArray[np.generic], capacity: int) -> NDArray[np.generic]:
    """A longer copy, filled up with zeros."""
    grown = np.zeros(capacity, column.dtype)
    grown[: len(column)] = column
    return grown
