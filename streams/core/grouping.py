"""Distinct rows by a 64-bit hash of their key columns, and runs of equal values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    I64 = NDArray[np.int64]

_ODD: Final = tuple(
    np.uint64(each)
    for each in (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0xD6E8FEB86659FD93, 0xA0761D6478BD642F)
)
_S29, _S32 = np.uint64(29), np.uint64(32)


def hash_columns(*columns: NDArray[np.generic]) -> NDArray[np.uint64]:
    """A 64-bit hash of each row over integer columns of one length; equal rows have equal hashes.

    Two different rows collide with probability 2**-64; with a million keys in a window that is one window in 10**7.
    """
    mixed = np.zeros(len(columns[0]), np.uint64)
    scratch = np.empty_like(mixed)
    for position, column in enumerate(columns):
        np.multiply(column.astype(np.uint64, copy=False), _ODD[position % 5], out=scratch)
        mixed += scratch
        np.right_shift(mixed, _S29, out=scratch)
        mixed ^= scratch
        mixed *= _ODD[(position + 1) % 5]
    np.right_shift(mixed, _S32, out=scratch)
    mixed ^= scratch
    return mixed


def first_of_each(hashes: NDArray[np.uint64]) -> I64:
    """One position of each distinct hash, in ascending order of hash."""
    order = np.argsort(hashes)
    starts, _ = runs(hashes[order])
    return order[starts]


def distinct_rows(hashes: NDArray[np.uint64], columns: Sequence[NDArray[np.generic]]) -> tuple[I64, I64]:
    """One position of each distinct row, and the number of each row among them; exact whatever the hashes.

    Args:
        hashes: of the rows; equal rows have equal hashes.
        columns: what makes rows equal; at least one.
    """
    order = np.argsort(hashes, kind="stable")
    differs = _differs(columns, order)
    if (differs & (hashes[order[1:]] == hashes[order[:-1]])).any():
        order = np.lexsort(tuple(columns))
        differs = _differs(columns, order)
    numbers = np.empty(len(order), np.int64)
    numbers[order] = np.cumsum(np.concatenate(([False], differs)))
    return order[np.flatnonzero(np.concatenate(([True], differs)))], numbers


def _differs(columns: Sequence[NDArray[np.generic]], order: I64) -> NDArray[np.bool_]:
    differs = np.zeros(max(0, len(order) - 1), bool)
    for column in columns:
        sorted_column = column[order]
        differs |= sorted_column[1:] != sorted_column[:-1]
    return differs


def runs(values: NDArray[np.generic]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """``(starts, run of each)`` for values sorted so that equal ones touch."""
    if not len(values):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    first = np.empty(len(values), bool)
    first[0] = True
    np.not_equal(values[1:], values[:-1], out=first[1:])
    return np.flatnonzero(first), np.cumsum(first) - 1
