"""Columns that grow together."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, ClassVar, Final, get_args, get_origin

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Mapping

U64 = NDArray[np.uint64]
I32 = NDArray[np.int32]
U16 = NDArray[np.uint16]
U8 = NDArray[np.uint8]

_LEAST: Final = 64


class Table:
    """Rows 1 to ``count`` - 1; row 0 is all zeros and stands for none. A subclass annotates its columns."""

    COLUMNS: ClassVar[Mapping[str, np.dtype[Any]]] = {}
    """dtype by attribute."""

    count: int

    def __init_subclass__(cls) -> None:
        annotations: dict[str, Any] = inspect.get_annotations(cls, eval_str=True)
        cls.COLUMNS = {name: _dtype(kind) for name, kind in annotations.items() if _is_column(kind)}

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


def _is_column(annotation: Any) -> bool:
    origin: Any = get_origin(annotation)
    return origin is np.ndarray


def _dtype(column: Any) -> np.dtype[Any]:
    """Of an annotation ``NDArray[scalar]``."""
    _, dtype = get_args(column)
    scalar: type[np.generic] = get_args(dtype)[0]
    return np.dtype(scalar)


def resized(column: NDArray[np.generic], capacity: int) -> NDArray[np.generic]:
    """A longer copy, filled up with zeros."""
    grown = np.zeros(capacity, column.dtype)
    grown[: len(column)] = column
    return grown
