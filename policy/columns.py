"""Selectors over many label sets at once: one column of value numbers per label."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tierflow.policy.selector import All, And, Compare, Global, Has, In, Node, Not, Or

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

_NAMESPACE = "projectcalico.org/namespace"


class LabelColumns:
    """Label sets by column: ``int32`` of value numbers per label, -1 where the label is absent; they only grow."""

    def __init__(self, label_sets: Sequence[Mapping[str, str]] = ()) -> None:
        self.count = 0
        self._capacity = 0
        self._values: dict[str, dict[str, int]] = {}
        self._columns: dict[str, NDArray[np.int32]] = {}
        self.extend(label_sets)

    def extend(self, label_sets: Sequence[Mapping[str, str]]) -> None:
        """Add label sets at the end."""
        wanted = self.count + len(label_sets)
        if wanted > self._capacity:
            capacity = max(wanted, 2 * self._capacity if self.count else 0)
            for label, column in self._columns.items():
                grown = np.full(capacity, -1, dtype=np.int32)
                grown[: self.count] = column[: self.count]
                self._columns[label] = grown
            self._capacity = capacity
        for row, labels in enumerate(label_sets, self.count):
            for label, value in labels.items():
                values = self._values.get(label)
                if values is None:
                    values = self._values[label] = {}
                    self._columns[label] = np.full(self._capacity, -1, dtype=np.int32)
                self._columns[label][row] = values.setdefault(value, len(values))
        self.count = wanted

    def select(self, node: Node) -> NDArray[np.bool_]:
        """Which label sets the selector selects, bool[n]; the caller owns it."""
        match node:
            case All():
                return np.ones(self.count, dtype=np.bool_)
            case Global():
                return ~self._has(_NAMESPACE)
            case Has():
                return self._has(node.label)
            case Compare():
                return self._compare(node)
            case In():
                found = self._among(node.label, list(node.values))
                return ~found if node.negated else found
            case Not():
                found = self.select(node.term)
                return np.logical_not(found, out=found)
            case And():
                found = self.select(node.terms[0])
                for term in node.terms[1:]:
                    if not found.any():
                        break
                    found &= self.select(term)
                return found
            case Or():
                found = self.select(node.terms[0])
                for term in node.terms[1:]:
                    found |= self.select(term)
                return found
            case _:
                raise TypeError(f"unknown selector node {node!r}")

    def _has(self, label: str) -> NDArray[np.bool_]:
        column = self._columns.get(label)
        return np.zeros(self.count, dtype=np.bool_) if column is None else column[: self.count] >= 0

    def _compare(self, node: Compare) -> NDArray[np.bool_]:
        if node.operator == "==":
            return self._among(node.label, [node.value])
        if node.operator == "!=":
            return ~self._among(node.label, [node.value])
        return self._among(node.label, [value for value in self._values.get(node.label, ()) if node.holds(value)])

    def _among(self, label: str, values: list[str]) -> NDArray[np.bool_]:
        known = self._values.get(label, {})
        numbers = [known[value] for value in values if value in known]
        if not numbers:
            return np.zeros(self.count, dtype=np.bool_)
        column = self._columns[label][: self.count]
        if len(numbers) == 1:
            equal: NDArray[np.bool_] = column == numbers[0]
            return equal
        # One look-up table instead of one comparison per value; its last entry is the absent label's.
        table = np.zeros(len(known) + 1, dtype=np.bool_)
        table[numbers] = True
        selected: NDArray[np.bool_] = table[column]
        return selected
