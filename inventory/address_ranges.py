"""From addresses to the network set, and to whether they are private: address space cut at every prefix's ends."""

from __future__ import annotations

import bisect
import ipaddress
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    U64 = NDArray[np.uint64]

_V4_BASE: Final = 0xFFFF << 32
_END: Final = 1 << 128

UPSTREAM_PRIVATE: Final = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")
"""What Calico counts as ``pvt``."""
WIDER_PRIVATE: Final = (
    *UPSTREAM_PRIVATE, "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "fc00::/7", "fe80::/10", "::1/128",
)  # fmt: skip
"""The same with CGNAT, loopback, link-local and IPv6 unique local addresses."""
_BY_WORD: Final = {"upstream": UPSTREAM_PRIVATE, "wider": WIDER_PRIVATE}


def private_prefixes(words: Iterable[str]) -> tuple[str, ...]:
    """The prefixes that ``upstream``, ``wider`` and prefixes name together, each once and in its usual form.

    Raises:
        ValueError: with the word that is none of these.
    """
    found: dict[str, None] = {}
    for word in words:
        for prefix in _BY_WORD.get(word, (word,)):
            try:
                found[str(ipaddress.ip_network(prefix))] = None
            except ValueError as error:
                raise ValueError(word) from error
    return tuple(found)


def prefix_range(cidr: str) -> tuple[int, int, int]:
    """First address, first address behind, and prefix length in 128-bit space (IPv4 as ``::ffff:0:0/96``).

    Raises:
        ValueError: the text is no prefix; host bits are ignored, as Calico ignores them.
    """
    network = ipaddress.ip_network(cidr, strict=False)
    first = int(network.network_address)
    if network.version == 4:
        return _V4_BASE | first, (_V4_BASE | first) + network.num_addresses, network.prefixlen + 96
    return first, first + network.num_addresses, network.prefixlen


class Cuts:
    """Sorted cuts of the 128-bit address space; piece ``i`` lies between cut ``i-1`` and cut ``i``."""

    __slots__ = ("_hi", "_lo", "_points", "_zero")

    def __init__(self, points: Iterable[int]) -> None:
        self._points = sorted({point for point in points if 0 < point < _END})
        self._hi = np.array([point >> 64 for point in self._points], np.uint64)
        self._lo = np.array([point & (2**64 - 1) for point in self._points], np.uint64)
        self._zero = int(np.searchsorted(self._hi, np.uint64(0), side="right"))

    def __len__(self) -> int:
        """Number of pieces."""
        return len(self._points) + 1

    def span(self, first: int, behind: int) -> slice:
        """The pieces that a range made of cuts covers."""
        begin = bisect.bisect_right(self._points, first) if first else 0
        end = bisect.bisect_left(self._points, behind) + 1 if behind < _END else len(self)
        return slice(begin, end)

    def pieces(self, hi: U64, lo: U64) -> NDArray[np.int64]:
        """The piece of each address."""
        result = np.searchsorted(self._lo[: self._zero], lo, side="right")
        other = np.flatnonzero(hi)
        if len(other):
            high, low = hi[other], lo[other]
            begin = np.searchsorted(self._hi, high, side="left")
            end = np.searchsorted(self._hi, high, side="right")
            # Bisection of all at once, each between its own bounds: those with the same upper half.
            while (open_ := begin < end).any():
                middle = (begin + end) >> 1
                below = open_ & (self._lo[np.minimum(middle, len(self._lo) - 1)] <= low)
                begin = np.where(below, middle + 1, begin)
                end = np.where(open_ & ~below, middle, end)
            result[other] = begin
        return result


class PrivateRanges:
    """Which addresses a flow log shows as ``pvt`` when nothing else is known of them."""

    __slots__ = ("_cuts", "_inside")

    def __init__(self, prefixes: Sequence[str] = UPSTREAM_PRIVATE) -> None:
        ranges = [prefix_range(prefix) for prefix in prefixes]
        self._cuts = Cuts(point for first, behind, _ in ranges for point in (first, behind))
        self._inside = np.zeros(len(self._cuts), bool)
        for first, behind, _ in ranges:
            self._inside[self._cuts.span(first, behind)] = True

    def contains(self, hi: U64, lo: U64) -> NDArray[np.bool_]:
        """Shape (n,)."""
        inside: NDArray[np.bool_] = self._inside[self._cuts.pieces(hi, lo)]
        return inside


class NetworkSetTable:
    """Which network set an address belongs to, seen from a namespace.

    Order of choice: a set of the own namespace, a global one, one of another namespace; then the longest prefix; then
    the name (``dest_name`` of Calico's flow-log field table).
    """

    __slots__ = ("_column", "_cuts", "_table")

    def __init__(self, sets: Sequence[tuple[str | None, str, Sequence[str]]], namespaces: Mapping[str, int]) -> None:
        """``sets``: namespace (None: global), name, prefixes; ``namespaces``: name to namespace id."""
        ranges = [
            (namespace, name, index, *prefix_range(prefix))
            for index, (namespace, name, prefixes) in enumerate(sets)
            for prefix in prefixes
        ]
        self._cuts = Cuts(point for *_, first, behind, _ in ranges for point in (first, behind))
        # The preferred is written last: alphabetical first, longest prefix.
        ranges.sort(key=lambda each: each[1], reverse=True)
        ranges.sort(key=lambda each: each[5])
        nobody = np.full(len(self._cuts), -1, np.int32)
        for of_namespace in (True, False):
            for namespace, _, index, first, behind, _ in ranges:
                if (namespace is not None) == of_namespace:
                    nobody[self._cuts.span(first, behind)] = index
        own = sorted({namespace for namespace, *_ in ranges if namespace is not None and namespace in namespaces})
        columns = [nobody]
        self._column = np.zeros(max(namespaces.values(), default=-1) + 2, np.int32)
        for name_of_own in own:
            column = nobody.copy()
            for namespace, _, index, first, behind, _ in ranges:
                if namespace == name_of_own:
                    column[self._cuts.span(first, behind)] = index
            self._column[namespaces[name_of_own]] = len(columns)
            columns.append(column)
        self._table = np.stack(columns)

    def find(self, hi: U64, lo: U64, namespace_ids: NDArray[np.int32] | None) -> NDArray[np.int32]:
        """Index of the set for each address, -1 none; namespace id -1 is no namespace."""
        pieces = self._cuts.pieces(hi, lo)
        found: NDArray[np.int32]
        if namespace_ids is None:
            found = self._table[0].take(pieces)
        else:
            # A namespace seen only after this table was made has no set of its own in it.
            known = np.where(namespace_ids < len(self._column) - 1, namespace_ids, -1)
            found = self._table[self._column[known], pieces]
        return found
