"""The endpoint versions of the retained past, and columns of them that a change costs little to bring up to date."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from tierflow.inventory.address_table import FOREVER, AddressTable, segments_of
from tierflow.schemas.record import address_halves

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from tierflow.inventory.snapshot import EndpointVersion

    U64 = NDArray[np.uint64]
    I32 = NDArray[np.int32]

_LATELY: Final = 1024
"""Addresses that may have changed since the large table was made before they are merged into it."""

Halves = tuple[int, int]
Which = tuple[str, str, int]
"""Kind, key and valid_from_ns of a version."""


@dataclass(frozen=True, slots=True)
class EndpointColumns:
    """Endpoint versions by id and the tables that lead to them; never changes.

    Attributes:
        versions: by id.
        namespaces: int32, namespace id by id, -1 for none.
        boundaries_ns: sorted distinct times at which a version began or ended.
        held: who held which address.
        held_lately: the same for addresses that changed lately; what it says comes first.
    """

    versions: tuple[EndpointVersion, ...]
    namespaces: I32
    boundaries_ns: U64
    held: AddressTable
    held_lately: AddressTable | None


class EndpointVersions:
    """Grows by versions, and shrinks by what has left the retained past."""

    __slots__ = (
        "_boundaries_ns", "_changed", "_columns", "_held", "_holders", "_ids", "_lately", "_namespaces", "_times_ns",
        "_versions",
    )  # fmt: skip

    def __init__(self) -> None:
        self._versions: list[EndpointVersion] = []
        self._ids: dict[Which, int] = {}
        self._namespaces = np.zeros(64, np.int32)
        self._holders: dict[Halves, list[int]] = {}
        self._changed: set[Halves] = set()
        self._times_ns: set[int] = set()
        self._boundaries_ns: U64 = np.zeros(0, np.uint64)
        self._held = AddressTable.of(np.zeros(0, np.uint64), np.zeros(0, np.uint64), ())
        self._lately: AddressTable | None = None
        self._columns: EndpointColumns | None = None

    def known(self, which: Which) -> EndpointVersion | None:
        """The version, None when it isn't there."""
        number = self._ids.get(which)
        return None if number is None else self._versions[number]

    def add(self, which: Which, version: EndpointVersion, namespace_id: int) -> None:
        """A version that isn't there yet."""
        number = len(self._versions)
        self._ids[which] = number
        self._versions.append(version)
        if number == len(self._namespaces):
            # What snapshots have seen stays where it was.
            self._namespaces = np.concatenate((self._namespaces, np.zeros(number, np.int32)))
        self._namespaces[number] = namespace_id
        for address in version.endpoint.addresses:
            self._holders.setdefault(address_halves(address), []).append(number)
        self._mark(version)

    def end(self, which: Which, valid_to_ns: int | None) -> None:
        """A version that is there ends at this time."""
        number = self._ids[which]
        self._versions[number] = version = replace(self._versions[number], valid_to_ns=valid_to_ns)
        self._mark(version)

    def _mark(self, version: EndpointVersion) -> None:
        self._changed.update(address_halves(address) for address in version.endpoint.addresses)
        self._times_ns.update(_times(version))
        self._columns = None

    def expire(self, horizon_ns: int) -> bool:
        """Forget what ended before ``horizon_ns``; True when that numbered the others anew."""
        kept = [
            (which, number)
            for which, number in self._ids.items()
            if (end := self._versions[number].valid_to_ns) is None or end >= horizon_ns
        ]
        if len(kept) == len(self._versions):
            return False
        old = np.array([number for _, number in kept], np.int64)
        new = np.full(len(self._versions), -1, np.int32)
        new[old] = np.arange(len(old))
        self._versions = [self._versions[number] for _, number in kept]
        self._namespaces = np.append(self._namespaces[old], np.zeros(64, np.int32))
        self._ids = {which: number for number, (which, _) in enumerate(kept)}
        numbers = new.tolist()
        for halves, holders in list(self._holders.items()):
            left = [numbers[each] for each in holders if numbers[each] >= 0]
            if left:
                self._holders[halves] = left
            else:
                del self._holders[halves]
        self._changed &= self._holders.keys()
        self._merge(self._held if self._lately is None else self._held.merged(self._lately), new)
        self._boundaries_ns = np.unique(
            np.array([time for version in self._versions for time in _times(version)], np.uint64)
        )
        self._times_ns.clear()
        self._columns = None
        return True

    def _merge(self, held: AddressTable, new: I32) -> None:
        self._lately = None
        if held.count > 2 * len(self._holders) + _LATELY:
            # Most of its addresses are nobody's any more: begin anew with those that are somebody's.
            self._held = self._table_of(self._holders)
            self._changed.clear()
        else:
            self._held = held.renumbered(new)

    def columns(self) -> EndpointColumns:
        """All versions of now; costs little after few changes, nothing after none."""
        if self._columns is None:
            self._update_tables()
            self._update_boundaries()
            namespaces = self._namespaces[: len(self._versions)]
            namespaces.flags.writeable = False
            self._columns = EndpointColumns(
                tuple(self._versions), namespaces, self._boundaries_ns, self._held, self._lately
            )
        return self._columns

    def _update_tables(self) -> None:
        if not self._changed:
            return
        fresh = self._table_of(self._changed)
        self._changed.clear()
        self._lately = fresh if self._lately is None else self._lately.merged(fresh)
        if self._lately.count > _LATELY + self._held.count // 16:
            self._held, self._lately = self._held.merged(self._lately), None

    def _table_of(self, addresses: Iterable[Halves]) -> AddressTable:
        chosen = sorted(addresses)
        halves = np.array(chosen, np.uint64).reshape(-1, 2)
        return AddressTable.of(
            halves[:, 0].copy(), halves[:, 1].copy(), [segments_of(self._intervals(each)) for each in chosen]
        )

    def _intervals(self, halves: Halves) -> Iterable[tuple[int, int, str, int]]:
        for number in self._holders[halves]:
            version = self._versions[number]
            end = FOREVER if version.valid_to_ns is None else version.valid_to_ns
            yield version.valid_from_ns, end, version.key, number

    def _update_boundaries(self) -> None:
        if self._times_ns:
            self._boundaries_ns = with_times(self._boundaries_ns, self._times_ns)
            self._times_ns.clear()


def with_times(boundaries_ns: U64, times_ns: Iterable[int]) -> U64:
    """Sorted distinct times with some more; the same column when none is new."""
    fresh = np.array(sorted({time for time in times_ns if time > 0}), np.uint64)
    at = np.searchsorted(boundaries_ns, fresh)
    there = at < len(boundaries_ns)
    there[there] = boundaries_ns[at[there]] == fresh[there]
    if there.all():
        return boundaries_ns
    return np.insert(boundaries_ns, at[~there], fresh[~there])


def _times(version: EndpointVersion) -> tuple[int, ...]:
    ends = (version.valid_from_ns,) if version.valid_to_ns is None else (version.valid_from_ns, version.valid_to_ns)
    return tuple(each for each in ends if each > 0)
