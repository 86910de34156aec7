"""Numbers for what stands at the ends of flows and for the traces of policies, so that keys are integers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

import numpy as np

from tierflow.schemas.flow_log import ABSENT, EndpointType

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tierflow.inventory.snapshot import Snapshot
    from tierflow.policy.compile import PolicySet
    from tierflow.policy.model import Resources
    from tierflow.policy.trace import Trace

    I32 = NDArray[np.int32]

HIDDEN_LABELS: Final = "projectcalico.org/"
"""Labels with this prefix are the system's own; upstream removes them too, but only where labels were intersected."""

Key = TypeVar("Key")
Aggregate = tuple[str, str, str]
"""Type, namespace, aggregated name."""


class Ends:
    """Interned ends: the aggregated identity, the exact name and the labels of endpoint versions and network sets."""

    __slots__ = (
        "_aggregate_ids",
        "_generation",
        "_label_ids",
        "_name_ids",
        "_versions",
        "aggregates",
        "labels",
        "names",
    )

    def __init__(self) -> None:
        self.aggregates: list[Aggregate] = []
        self.names: list[str] = []
        self.labels: list[tuple[str, ...]] = []
        self._aggregate_ids: dict[Aggregate, int] = {}
        self._name_ids: dict[str, int] = {}
        self._label_ids: dict[tuple[str, ...], int] = {}
        self._generation = -1
        self._versions: I32 = np.full((0, 3), -1, np.int32)
        self._aggregate((EndpointType.NET, ABSENT, "pub"))
        self._aggregate((EndpointType.NET, ABSENT, "pvt"))
        self._name(ABSENT)
        self._labels(())

    def columns(self, snapshot: Snapshot, ids: I32, sets: I32, private: NDArray[np.bool_]) -> tuple[I32, I32, I32]:
        """Aggregate, name and label-set number of each end.

        Args:
            snapshot: what ``ids`` and ``sets`` refer to.
            ids: endpoint version, -1 none.
            sets: network set index, -1 none.
            private: whether a bare address counts as private.
        """
        table = self._table(snapshot, ids)
        known = ids >= 0
        at = np.where(known, ids, 0)
        if len(table):
            aggregate, name, labels = (np.where(known, table[at, each], 0).astype(np.int32) for each in range(3))
        else:
            aggregate, name, labels = (np.zeros(len(ids), np.int32) for _ in range(3))
        aggregate[~known & private] = 1
        in_set = np.flatnonzero(sets >= 0)
        if len(in_set):
            found, inverse = np.unique(sets[in_set], return_inverse=True)
            entries = [snapshot.network_sets[each] for each in found.tolist()]
            aggregates = [
                self._aggregate((EndpointType.NS, entry.namespace or ABSENT, entry.name)) for entry in entries
            ]
            aggregate[in_set] = np.array(aggregates, np.int32)[inverse]
            labels[in_set] = np.array([self._labels(_shown(entry.labels_list)) for entry in entries], np.int32)[inverse]
        return aggregate, name, labels

    def _table(self, snapshot: Snapshot, ids: I32) -> I32:
        if snapshot.generation != self._generation:
            self._versions = np.full((0, 3), -1, np.int32)
            self._generation = snapshot.generation
        size = len(snapshot.endpoints)
        if len(self._versions) < size:
            grown = np.full((size + size // 2, 3), -1, np.int32)
            grown[: len(self._versions)] = self._versions
            self._versions = grown
        if size:
            missing = np.unique(ids[(ids >= 0) & (self._versions[np.maximum(ids, 0), 0] < 0)])
            for each in missing.tolist():
                version = snapshot.endpoints[each]
                kind = EndpointType(version.kind)
                self._versions[each] = (
                    self._aggregate((kind, version.namespace or ABSENT, version.name_aggr)),
                    self._name(version.endpoint.name if kind is EndpointType.WEP else ABSENT),
                    self._labels(_shown(version.labels_list)),
                )
        return self._versions

    def _aggregate(self, key: Aggregate) -> int:
        return _intern(key, self._aggregate_ids, self.aggregates)

    def _name(self, key: str) -> int:
        return _intern(key, self._name_ids, self.names)

    def _labels(self, key: tuple[str, ...]) -> int:
        return _intern(key, self._label_ids, self.labels)


class Traces:
    """Interned traces over all policy versions; number 0 is the empty trace of a side that no policy judges."""

    __slots__ = ("_by_set", "_ids", "all", "enforced", "holds_deny", "pending", "traces")

    def __init__(self) -> None:
        self.all: list[tuple[str, ...]] = [()]
        self.enforced: list[tuple[str, ...]] = [()]
        self.pending: list[tuple[str, ...]] = [()]
        self.traces: list[Trace | None] = [None]
        self.holds_deny: list[bool] = [False]
        self._ids: dict[tuple[tuple[str, ...], tuple[str, ...]], int] = {((), ()): 0}
        self._by_set: dict[int, tuple[Resources, dict[int, int]]] = {}

    def numbers(self, policy_set: PolicySet, resources: Resources, traces: I32) -> I32:
        """The number of each of a policy set's traces; -1 gives 0."""
        known = self._by_set.setdefault(id(resources), (resources, {}))[1]
        found, inverse = np.unique(traces, return_inverse=True)
        numbers = np.zeros(len(found), np.int32)
        for position, each in enumerate(found.tolist()):
            if each >= 0:
                number = known.get(each)
                if number is None:
                    number = known[each] = self._intern(policy_set.traces[each])
                numbers[position] = number
        return numbers[inverse]

    def _intern(self, trace: Trace) -> int:
        enforced, pending = tuple(trace.enforced_strings()), tuple(trace.pending_strings())
        number = self._ids.get((enforced, pending))
        if number is None:
            number = self._ids[enforced, pending] = len(self.traces)
            self.traces.append(trace)
            self.enforced.append(enforced)
            self.pending.append(pending)
            self.all.append(tuple(trace.all_strings()))
            self.holds_deny.append(bool(trace.holds_deny))
        return number


def _shown(labels: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(each for each in labels if not each.startswith(HIDDEN_LABELS))


def _intern(key: Key, ids: dict[Key, int], values: list[Key]) -> int:
    number = ids.get(key)
    if number is None:
        number = ids[key] = len(values)
        values.append(key)
    return number
