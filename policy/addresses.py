"""All addresses cut by the CIDRs in force: addresses that no CIDR tells apart are one class."""

from __future__ import annotations

import ipaddress
from bisect import bisect_left
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import numpy as np

from tierflow.schemas.record import V4_MAPPED

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

_LOW_HALF: Final = 0xFFFF_FFFF_FFFF_FFFF
_V4_START: Final = V4_MAPPED
_V4_END: Final = V4_MAPPED + (1 << 32)


@lru_cache(maxsize=262144)
def cidr_bounds(net: str) -> tuple[int, int, int]:
    """``(first, end, version)`` of a CIDR as 128-bit numbers, ``end`` one past the last; IPv4 is mapped."""
    parsed = ipaddress.ip_network(net, strict=False)
    first = int(parsed.network_address) + (_V4_START if parsed.version == 4 else 0)
    return first, first + parsed.num_addresses, parsed.version


@dataclass(frozen=True, slots=True)
class AddressClasses:
    """Every address belongs to one class.

    Attributes:
        block_hi: uint64[b], ascending: the distinct high halves of the interval starts.
        block_start: int64[b+1]: where each block's intervals begin.
        start_lo: uint64[i]: low half of each interval's start, ascending inside a block.
        class_of_interval: int32[i].
        members: by class, the CIDRs (in text form) that cover it.
        version: by class, 4 or 6.
        example: by class, one address as a 128-bit number.
    """

    block_hi: NDArray[np.uint64]
    block_start: NDArray[np.int64]
    start_lo: NDArray[np.uint64]
    class_of_interval: NDArray[np.int32]
    members: tuple[frozenset[str], ...]
    version: tuple[int, ...]
    example: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.members)

    def lookup(self, hi: NDArray[np.uint64], lo: NDArray[np.uint64]) -> NDArray[np.int32]:
        """Class of each address, int32[n]."""
        hi = np.ascontiguousarray(hi, dtype=np.uint64)
        lo = np.ascontiguousarray(lo, dtype=np.uint64)
        block = np.searchsorted(self.block_hi, hi, side="right") - 1
        # An address beyond the block's own high half lies in the block's last interval.
        interval = self.block_start[block + 1] - 1
        exact = self.block_hi[block] == hi
        for each in np.unique(block[exact]):
            chosen = exact & (block == each)
            start, end = self.block_start[each], self.block_start[each + 1]
            found = np.searchsorted(self.start_lo[start:end], lo[chosen], side="right") - 1 + start
            interval[chosen] = np.where(found < start, start - 1, found)
        result: NDArray[np.int32] = self.class_of_interval[interval]
        return result


def address_classes(nets: Iterable[str]) -> AddressClasses:
    """Cut all addresses by the CIDRs; an IPv6 CIDR never covers IPv4, though both share one number range."""
    distinct = sorted(set(nets))
    bounds = {net: cidr_bounds(net) for net in distinct}
    starts = sorted(
        {0, _V4_START, _V4_END}
        | {first for first, _, _ in bounds.values()}
        | {end for _, end, _ in bounds.values() if end < 1 << 128}
    )
    # Where the first boundary has a high half above 0, 0 itself is still a boundary: the search never falls off.
    opening: dict[int, list[str]] = {}
    closing: dict[int, list[str]] = {}
    for net, (first, end, _) in bounds.items():
        opening.setdefault(bisect_left(starts, first), []).append(net)
        closing.setdefault(bisect_left(starts, end), []).append(net)
    classes: dict[tuple[int, frozenset[str]], int] = {}
    class_of_interval = np.empty(len(starts), dtype=np.int32)
    example: list[int] = []
    active: set[str] = set()
    for index, start in enumerate(starts):
        active.difference_update(closing.get(index, ()))
        active.update(opening.get(index, ()))
        version = 4 if _V4_START <= start < _V4_END else 6
        key = (version, frozenset(net for net in active if bounds[net][2] == version))
        if key not in classes:
            classes[key] = len(classes)
            example.append(start)
        class_of_interval[index] = classes[key]
    his = np.array([start >> 64 for start in starts], dtype=np.uint64)
    block_hi, block_start = np.unique(his, return_index=True)
    return AddressClasses(
        block_hi,
        np.append(block_start, len(starts)).astype(np.int64),
        np.array([start & _LOW_HALF for start in starts], dtype=np.uint64),
        class_of_interval,
        tuple(members for _, members in classes),
        tuple(version for version, _ in classes),
        tuple(example),
    )


def address_text(number: int) -> str:
    """The usual text of a 128-bit number, IPv4 where it is mapped."""
    if _V4_START <= number < _V4_END:
        return str(ipaddress.IPv4Address(number - _V4_START))
    return str(ipaddress.IPv6Address(number))
