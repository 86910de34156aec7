"""The walk through the tiers, for many flows at once: first match by bit masks, traces as paths in a tree."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

ROOT: Final = 0
NOTHING: Final = -1
"""Outcome of a tier that doesn't apply."""

CONTINUES, ALLOWS, DENIES = 0, 1, 2
"""What an outcome does: go on in the next tier, or end."""

_DENSE_LIMIT: Final = 1 << 24


@dataclass(frozen=True, slots=True)
class TierSpan:
    """Where a tier's bits are: words ``first`` to ``end`` (not included)."""

    first: int
    end: int


class PathTree:
    """Paths of outcomes; a path is the number of its last node, and 0 is the empty path."""

    def __init__(self) -> None:
        self.parent: list[int] = [ROOT]
        self.outcome: list[int] = [NOTHING]
        self._children: dict[tuple[int, int], int] = {}

    def path(self, node: int) -> list[int]:
        """The outcomes from the root to a node."""
        outcomes: list[int] = []
        while node != ROOT:
            outcomes.append(self.outcome[node])
            node = self.parent[node]
        return outcomes[::-1]

    def step(self, nodes: NDArray[np.int64], outcomes: NDArray[np.int64], span: int) -> NDArray[np.int64]:
        """The node one outcome further on, int64[n]; ``span`` is above every outcome."""
        keys = nodes * span + outcomes
        size = len(self.parent) * span
        if size <= _DENSE_LIMIT and size <= 64 * len(keys):
            table = np.zeros(size, dtype=np.int64)
            table[keys] = 1
            distinct = np.flatnonzero(table)
            table[distinct] = self._children_of(distinct, span)
            found: NDArray[np.int64] = table[keys]
            return found
        distinct, inverse = np.unique(keys, return_inverse=True)
        stepped: NDArray[np.int64] = self._children_of(distinct, span)[inverse.reshape(-1)]
        return stepped

    def _children_of(self, keys: NDArray[np.int64], span: int) -> NDArray[np.int64]:
        children = np.empty(len(keys), dtype=np.int64)
        for index, key in enumerate(keys.tolist()):
            edge = divmod(key, span)
            child = self._children.get(edge)
            if child is None:
                child = self._children[edge] = len(self.parent)
                self.parent.append(edge[0])
                self.outcome.append(edge[1])
            children[index] = child
        return children


@dataclass(frozen=True, slots=True)
class Defaults:
    """What happens in each tier without a match, by class of the governed endpoint.

    Attributes:
        outcome: int64[classes, tiers + 1]: outcome of the default action; -1 where the tier doesn't apply. The last
            column is that of the profiles.
    """

    outcome: NDArray[np.int64]


def walk(
    masks: NDArray[np.uint64],
    owner: NDArray[np.int64],
    spans: tuple[TierSpan, ...],
    outcome_of_bit: NDArray[np.int64],
    does: NDArray[np.uint8],
    defaults: Defaults,
    tree: PathTree,
) -> NDArray[np.int64]:
    """Walk n flows through all tiers and the profiles.

    Args:
        masks: uint64[n, words]: the rules that match.
        owner: int64[n]: row of the governed endpoint in ``defaults``.
        spans: by tier; the last is that of the profiles.
        outcome_of_bit: int64[bits].
        does: uint8[outcomes]: CONTINUES, ALLOWS or DENIES.
        defaults: what happens without a match.
        tree: collects the paths.

    Returns:
        The path of each flow, int64[n].
    """
    nodes = np.zeros(len(masks), dtype=np.int64)
    active: NDArray[np.int64] | None = None
    for tier, span in enumerate(spans):
        chosen = masks[:, span.first : span.end] if active is None else masks[active, span.first : span.end]
        row = owner if active is None else owner[active]
        outcome = defaults.outcome[row, tier]
        if span.end > span.first:
            _first_match(chosen, outcome, outcome_of_bit[span.first * 64 :])
        applied = outcome != NOTHING
        here = np.arange(len(masks), dtype=np.int64) if active is None else active
        if not applied.all():
            stepping, outcome_here = here[applied], outcome[applied]
        else:
            stepping, outcome_here = here, outcome
        if len(stepping):
            nodes[stepping] = tree.step(nodes[stepping], outcome_here, len(does))
        ended = applied.copy()
        ended[applied] = does[outcome_here] != CONTINUES
        active = here[~ended]
        if not len(active):
            break
    return nodes


def _first_match(masks: NDArray[np.uint64], outcome: NDArray[np.int64], outcome_of_bit: NDArray[np.int64]) -> None:
    """Put the outcome of the lowest bit set where there is one."""
    present = masks != 0
    word = present.argmax(axis=1)
    value = masks[np.arange(len(masks)), word]
    found = value != 0
    lowest = value & (~value + np.uint64(1))
    # A power of two is exact as a float; its exponent is the bit's number plus one.
    _, exponent = np.frexp(lowest.astype(np.float64))
    bit = word * 64 + exponent - 1
    outcome[found] = outcome_of_bit[bit[found]]
