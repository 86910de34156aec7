"""Bit masks: per side and per port, which rules of one direction its conditions hold for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from tierflow.policy.alternatives import NotSelectedWithPort
from tierflow.policy.program import ANY, WORD, port_holds

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from tierflow.policy.addresses import AddressClasses
    from tierflow.policy.classes import ClassTable
    from tierflow.policy.program import NetCondition, PortCondition, SourcePorts, Tables

_CELLS_AT_ONCE: Final = 1 << 23
_DENSE_LIMIT: Final = 1 << 26


@dataclass(frozen=True, slots=True)
class SideColumns:
    """One side's conditions by bit; numbers into the tables, -1 nothing.

    Attributes:
        matcher, excluded, net: int32[bits].
        endpoint_only: bool[bits].
        conditions: by condition number, the bits that it stands before.
    """

    matcher: NDArray[np.int32]
    excluded: NDArray[np.int32]
    net: NDArray[np.int32]
    endpoint_only: NDArray[np.bool_]
    conditions: Mapping[int, NDArray[np.int64]]


class AddressMasks:
    """What an address class alone decides: which selectors its network sets satisfy, which net conditions hold."""

    def __init__(
        self,
        addresses: AddressClasses,
        tables: Tables,
        selected: NDArray[np.bool_],
        covering: list[list[int]],
    ) -> None:
        """Make the masks.

        Args:
            addresses: the classes.
            tables: selectors and net conditions.
            selected: bool[selectors, network sets].
            covering: by address class, the network sets around it.
        """
        self.addresses = addresses
        self.selected = np.zeros((len(addresses), len(tables.matchers)), dtype=np.bool_)
        for index, sets in enumerate(covering):
            if sets:
                self.selected[index] = selected[:, sets].any(axis=1)
        self.nets = net_masks(addresses, tables.nets.values)


def net_masks(addresses: AddressClasses, conditions: list[NetCondition]) -> NDArray[np.bool_]:
    """Which net conditions hold for each address class, bool[classes, conditions]."""
    inside: dict[str, list[int]] = {}
    for index, members in enumerate(addresses.members):
        for net in members:
            inside.setdefault(net, []).append(index)
    version = np.array(addresses.version, dtype=np.int8)
    holds = np.ones((len(addresses), len(conditions)), dtype=np.bool_)
    for number, condition in enumerate(conditions):
        if condition.version is not None:
            holds[:, number] = version == condition.version
        for group in condition.groups:
            covered = np.zeros(len(addresses), dtype=np.bool_)
            for net in group:
                covered[inside.get(net, [])] = True
            holds[:, number] &= covered
        for net in condition.not_nets:
            holds[inside.get(net, []), number] = False
    return holds


def side_masks(
    sides: NDArray[np.int64],
    columns: SideColumns,
    classes: ClassTable,
    address_masks: AddressMasks,
    tables: Tables,
    governed: Callable[[NDArray[np.int64], NDArray[np.bool_]], NDArray[np.bool_]] | None,
) -> NDArray[np.uint64]:
    """One mask per side, uint64[n, words].

    Args:
        sides: distinct side numbers.
        columns: the conditions of this side of the rules.
        classes: the endpoint classes.
        address_masks: what address classes decide.
        tables: what the numbers mean.
        governed: for the side whose policies are judged, bool[n, bits] of the bits whose policy applies to a class;
            None for the peer.
    """
    bits = len(columns.matcher)
    masks = np.empty((len(sides), bits // WORD), dtype=np.uint64)
    step = max(1, _CELLS_AT_ONCE // max(bits, 1))
    for start in range(0, len(sides), step):
        chunk = sides[start : start + step]
        owner, address = chunk // len(address_masks.addresses) - 1, chunk % len(address_masks.addresses)
        by_class = classes.selected(owner)
        holds = _holds(columns, by_class, address_masks, address)
        for number, those in columns.conditions.items():
            holds[:, those] &= _condition(number, owner, by_class, classes, tables)[:, np.newaxis]
        if governed is not None:
            holds &= governed(owner, by_class)
        masks[start : start + step] = _packed(holds)
    return masks


def _holds(
    columns: SideColumns, by_class: NDArray[np.bool_], address_masks: AddressMasks, address: NDArray[np.int64]
) -> NDArray[np.bool_]:
    # One more column, always true, is what ANY (-1) picks.
    ones = np.ones((len(address), 1), dtype=np.bool_)
    endpoint = np.concatenate((by_class, ones), axis=1)
    network_set = np.concatenate((address_masks.selected[address], ones), axis=1)
    holds = np.take(endpoint, columns.matcher, axis=1, mode="wrap")
    around = np.take(network_set, columns.matcher, axis=1, mode="wrap")
    if columns.endpoint_only.any():
        around[:, columns.endpoint_only] = False
    holds |= around
    holds &= np.take(address_masks.nets[address], columns.net, axis=1)
    for bit in np.flatnonzero(columns.excluded != ANY):
        number = columns.excluded[bit]
        holds[:, bit] &= ~(endpoint[:, number] | network_set[:, number])
    return holds


def _condition(
    number: int, owner: NDArray[np.int64], by_class: NDArray[np.bool_], classes: ClassTable, tables: Tables
) -> NDArray[np.bool_]:
    condition = tables.conditions.values[number]
    inner = condition.port if isinstance(condition, NotSelectedWithPort) else condition
    endpoints = classes.endpoints
    holds = np.fromiter(
        (inner.holds(endpoints[each] if each >= 0 else None) for each in owner), dtype=np.bool_, count=len(owner)
    )
    if not isinstance(condition, NotSelectedWithPort):
        return holds
    selected = (owner >= 0) if condition.matcher == ANY else by_class[:, condition.matcher]
    return ~(holds & selected)


def port_masks(
    pairs: list[tuple[int, int]], numbers: NDArray[np.int32], conditions: list[PortCondition]
) -> NDArray[np.uint64]:
    """One mask per (protocol, destination port), uint64[n, words]; ``numbers`` are the bits' conditions."""
    used = np.unique(numbers).tolist()
    holds = np.zeros((len(pairs), len(conditions)), dtype=np.bool_)
    for row, (protocol, port) in enumerate(pairs):
        for number in used:
            holds[row, number] = conditions[number].holds(protocol, port)
    return _packed(np.take(holds, numbers, axis=1))


def source_port_masks(
    ports: list[int], numbers: NDArray[np.int32], conditions: list[SourcePorts]
) -> NDArray[np.uint64]:
    """One mask per source port, uint64[n, words]."""
    used = np.unique(numbers).tolist()
    holds = np.zeros((len(ports), len(conditions)), dtype=np.bool_)
    for row, port in enumerate(ports):
        for number in used:
            wanted, unwanted = conditions[number]
            holds[row, number] = port_holds(wanted, unwanted, port)
    return _packed(np.take(holds, numbers, axis=1))


def _packed(holds: NDArray[np.bool_]) -> NDArray[np.uint64]:
    return np.ascontiguousarray(np.packbits(holds, axis=1, bitorder="little")).view(np.uint64)


class MaskRows:
    """Masks made on first use: maps a number below ``limit`` to its row."""

    def __init__(self, limit: int, words: int, make: Callable[[NDArray[np.int64]], NDArray[np.uint64]]) -> None:
        self._make = make
        # Row + 1, so that untouched zeros, which cost no memory, say "none yet": most versions judge little.
        self._dense = np.zeros(limit, dtype=np.int32) if limit <= _DENSE_LIMIT else None
        self._sparse: dict[int, int] = {}
        self._rows = np.empty((0, words), dtype=np.uint64)
        self._ids: NDArray[np.int64] = np.empty(0, dtype=np.int64)
        self._count = 0

    @property
    def masks(self) -> NDArray[np.uint64]:
        """The rows made so far."""
        return self._rows[: self._count]

    @property
    def ids(self) -> NDArray[np.int64]:
        """What each row was made for."""
        return self._ids[: self._count]

    def rows(self, numbers: NDArray[np.int64]) -> NDArray[np.int32]:
        """Row of each number, int32[n]."""
        if self._dense is None:
            distinct, inverse = np.unique(numbers, return_inverse=True)
            self._add(np.array([each for each in distinct.tolist() if each not in self._sparse], dtype=np.int64))
            found = np.array([self._sparse[each] for each in distinct.tolist()], dtype=np.int32)
            return found[inverse.reshape(-1)]
        if len(numbers) and int(numbers.max()) >= len(self._dense):
            grown = np.zeros(int(numbers.max()) + 1 + len(self._dense) // 2, dtype=np.int32)
            grown[: len(self._dense)] = self._dense
            self._dense = grown
        rows = self._dense[numbers] - 1
        missing = rows < 0
        if missing.any():
            self._add(np.unique(numbers[missing]))
            rows = self._dense[numbers] - 1
        return rows

    def _add(self, numbers: NDArray[np.int64]) -> None:
        if not len(numbers):
            return
        made = self._make(numbers)
        wanted = self._count + len(numbers)
        if wanted > len(self._rows):
            capacity = max(wanted, 2 * self._count)
            grown = np.empty((capacity, self._rows.shape[1]), dtype=np.uint64)
            grown[: self._count] = self.masks
            ids = np.empty(capacity, dtype=np.int64)
            ids[: self._count] = self.ids
            self._rows, self._ids = grown, ids
        self._rows[self._count : wanted] = made
        self._ids[self._count : wanted] = numbers
        for row, number in enumerate(numbers.tolist(), self._count):
            if self._dense is None:
                self._sparse[number] = row
        if self._dense is not None:
            self._dense[numbers] = np.arange(self._count + 1, wanted + 1, dtype=np.int32)
        self._count = wanted
