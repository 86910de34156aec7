"""Endpoint classes and what selects them: one bit per class and selector, kept packed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from tierflow.policy.columns import LabelColumns
from tierflow.policy.labels import NAMESPACE, endpoint_labels
from tierflow.policy.selector import And, Compare, Node

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from tierflow.policy.model import Endpoint, Resources
    from tierflow.policy.program import Numbering

_FEW: Final = 16
"""Up to so many new classes, one label set at a time is faster than one selector at a time."""
_SELECTORS_AT_ONCE: Final = 512


class ClassTable:
    """All endpoint classes so far, numbered in the order in which they came."""

    def __init__(self, resources: Resources, matchers: Numbering[Node]) -> None:
        self.resources = resources
        self.matchers = matchers
        self.endpoints: list[Endpoint] = []
        self.labels: list[Mapping[str, str]] = []
        self._numbers: dict[object, int] = {}
        # Class -1, nobody, picks the last entry; so a new class is put before it.
        self._governed = bytearray(1)
        self._host_endpoints = frozenset(each.name for each in resources.host_endpoints)
        self._columns = LabelColumns()
        self._packed: NDArray[np.uint8] = np.zeros((0, 0), dtype=np.uint8)
        self._classes_done = 0
        self._matchers_done = 0
        self._anchors: dict[tuple[str, str], list[int]] = {}
        self._unanchored: list[int] = []
        self._anchored = 0

    def number(self, endpoint: Endpoint) -> int:
        """The class of an endpoint; endpoints that no policy could tell apart share it."""
        key = (
            endpoint.kind,
            endpoint.namespace,
            endpoint.service_account,
            frozenset(endpoint.labels.items()),
            endpoint.named_ports,
            endpoint.name if endpoint.kind == "hep" else "",
        )
        found = self._numbers.get(key)
        if found is None:
            found = self._numbers[key] = len(self.endpoints)
            self.endpoints.append(endpoint)
            self._governed[-1:] = bytes((endpoint.kind == "wep" or endpoint.name in self._host_endpoints, 0))
            self.labels.append(endpoint_labels(self.resources, endpoint))
        return found

    @property
    def governed(self) -> NDArray[np.bool_]:
        """Whether policies govern each class, bool[classes + 1]: pods, and nodes that have a HostEndpoint."""
        return np.array(self._governed, dtype=np.uint8).view(np.bool_)

    def selected(self, classes: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which selectors select each class, bool[n, matchers]; class -1 (nobody) is selected by none."""
        self._refresh()
        count = len(self.matchers)
        if not len(self.endpoints):
            return np.zeros((len(classes), count), dtype=np.bool_)
        rows = np.unpackbits(self._packed[np.maximum(classes, 0)], axis=1, count=count, bitorder="little")
        rows[classes < 0] = 0
        return rows.view(np.bool_)

    def select(self, node: Node) -> NDArray[np.bool_]:
        """Which classes one selector selects, bool[classes]."""
        self._refresh()
        return self._columns.select(node)

    def _refresh(self) -> None:
        classes, matchers = len(self.endpoints), len(self.matchers)
        if classes == self._classes_done and matchers == self._matchers_done:
            return
        self._columns.extend(self.labels[self._columns.count :])
        self._grow(classes, (matchers + 7) // 8)
        if matchers > self._matchers_done:
            # Whole bytes are written, so the last byte's selectors are evaluated again.
            self._by_selector(self._matchers_done // 8 * 8, matchers, 0, self._classes_done)
        if classes - self._classes_done > _FEW:
            self._by_selector(0, matchers, self._classes_done, classes)
        else:
            self._index_anchors()
            for each in range(self._classes_done, classes):
                self._packed[each] = np.packbits(self._by_class(self.labels[each]), bitorder="little")
        self._classes_done, self._matchers_done = classes, matchers

    def _grow(self, classes: int, width: int) -> None:
        rows, old_width = self._packed.shape
        if classes <= rows and width == old_width:
            return
        capacity = rows if classes <= rows else max(classes, min(2 * rows, classes + 4096))
        grown = np.zeros((capacity, width), dtype=np.uint8)
        grown[:rows, : min(width, old_width)] = self._packed[:, :width]
        self._packed = grown

    def _by_selector(self, first: int, last: int, start: int, stop: int) -> None:
        if start == stop:
            return
        for low in range(first, last, _SELECTORS_AT_ONCE):
            high = min(low + _SELECTORS_AT_ONCE, last)
            block = np.empty((high - low, stop - start), dtype=np.bool_)
            for row, node in enumerate(self.matchers.values[low:high]):
                block[row] = self._columns.select(node)[start:stop]
            packed = np.packbits(block, axis=0, bitorder="little")
            self._packed[start:stop, low // 8 : low // 8 + len(packed)] = packed.T

    def _index_anchors(self) -> None:
        for number in range(self._anchored, len(self.matchers)):
            anchor = _anchor(self.matchers.values[number])
            if anchor is None:
                self._unanchored.append(number)
            else:
                self._anchors.setdefault(anchor, []).append(number)
        self._anchored = len(self.matchers)

    def _by_class(self, labels: Mapping[str, str]) -> NDArray[np.bool_]:
        found = np.zeros(len(self.matchers), dtype=np.bool_)
        candidates = [*self._unanchored]
        for item in labels.items():
            candidates += self._anchors.get(item, ())
        values = self.matchers.values
        found[[each for each in candidates if values[each].matches(labels)]] = True
        return found


def _anchor(node: Node) -> tuple[str, str] | None:
    """A label and value that the selector can't do without, if there is an obvious one; the namespace last."""
    terms: Sequence[Node] = node.terms if isinstance(node, And) else (node,)
    found: tuple[str, str] | None = None
    for term in terms:
        inner = _anchor(term) if isinstance(term, And) else None
        if isinstance(term, Compare) and term.operator == "==":
            inner = (term.label, term.value)
        if inner is not None and (found is None or found[0] == NAMESPACE):
            found = inner
    return found
