"""Join and judge address pairs: which network set stood at an end that was no endpoint, what the policies say.

Works on pairs, not records: a pair's span holds no change of hands, so one time stands for all of its records.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from tierflow.inventory.snapshot import Snapshot
    from tierflow.policy.compile import PolicySet
    from tierflow.policy.model import Resources
    from tierflow.streams.core.flows import Pairs

    U64 = NDArray[np.uint64]
    I64 = NDArray[np.int64]
    I32 = NDArray[np.int32]
    U8 = NDArray[np.uint8]


Compiler = Callable[["Resources"], "PolicySet"]
"""Makes a policy set; :func:`tierflow.policy.compile_policies`."""

NOT_JUDGED: Final = 0
ALLOW: Final = 1
DENY: Final = 2


@dataclass(frozen=True, slots=True)
class Joined:
    """Columns of joined rows, all of one length.

    Attributes:
        src_set: network set index, -1 none or an endpoint.
        dst_set: network set index, -1 none or an endpoint.
        src_private: whether an address that is nothing else counts as private.
        dst_private: likewise.
        policy: index of the policy version in force.
        egress_action: 0 not judged, 1 allow, 2 deny.
        ingress_action: likewise.
        egress_trace: index into the policy set's traces, -1 not judged.
        ingress_trace: likewise.
    """

    src_set: I32
    dst_set: I32
    src_private: NDArray[np.bool_]
    dst_private: NDArray[np.bool_]
    policy: I32
    egress_action: U8
    ingress_action: U8
    egress_trace: I32
    ingress_trace: I32


class Judges:
    """Compiled policy sets by policy version, and the class of each endpoint version under each."""

    __slots__ = ("_classes", "_compile", "_generation", "_sets")

    def __init__(self, compiler: Compiler) -> None:
        self._compile = compiler
        self._sets: dict[int, tuple[Resources, PolicySet]] = {}
        self._classes: dict[int, I32] = {}
        self._generation = -1

    def policy_set(self, resources: Resources) -> PolicySet:
        """The compiled set of a policy version; versions no longer used are dropped by :meth:`keep`."""
        found = self._sets.get(id(resources))
        if found is None:
            found = self._sets[id(resources)] = (resources, self._compile(resources))
        return found[1]

    def keep(self, versions: Iterable[Resources]) -> None:
        """Forget all policy versions but these."""
        alive = {id(each) for each in versions}
        for key in [each for each in self._sets if each not in alive]:
            del self._sets[key]
            self._classes.pop(key, None)

    def classes(self, snapshot: Snapshot, resources: Resources, ids: I32) -> I32:
        """Endpoint class of each endpoint version, -1 where no policy applies."""
        if snapshot.generation != self._generation:
            self._classes.clear()
            self._generation = snapshot.generation
        policy_set = self.policy_set(resources)
        table = self._classes.get(id(resources))
        size = len(snapshot.endpoints)
        if table is None or len(table) < size:
            grown = np.full(max(size + size // 2, 64), -2, np.int32)
            if table is not None:
                grown[: len(table)] = table
            table = self._classes[id(resources)] = grown
        known = ids >= 0
        missing = np.unique(ids[known & (table[np.maximum(ids, 0)] == -2)])
        for each in missing.tolist():
            version = snapshot.endpoints[each]
            table[each] = policy_set.endpoint_class(version.endpoint) if version.policed else -1
        return np.where(known, table[np.maximum(ids, 0)], np.int32(-1)).astype(np.int32)


def join(pairs: Pairs, rows: I64, snapshot: Snapshot, judges: Judges) -> Joined:
    """Join and judge located pairs."""
    count = len(rows)
    src, dst = pairs.src[rows], pairs.dst[rows]
    src_hi, src_lo, dst_hi, dst_lo = pairs.src_hi[rows], pairs.src_lo[rows], pairs.end_hi[rows], pairs.end_lo[rows]
    times = pairs.seen_ns[rows]
    src_set, src_private = _elsewhere(snapshot, src_hi, src_lo, times, src, dst)
    dst_set, dst_private = _elsewhere(snapshot, dst_hi, dst_lo, times, dst, src)
    policy = snapshot.policy_version(times)
    proto, src_port, dst_port = pairs.proto(rows), pairs.src_port(rows), pairs.end_port[rows]

    actions = np.zeros((2, count), np.uint8)
    traces = np.full((2, count), -1, np.int32)
    versions = np.unique(policy).tolist() if len(snapshot.policy_versions) else []
    for version in versions:
        at = np.flatnonzero(policy == version) if len(versions) > 1 else slice(None)
        resources = snapshot.policy_versions[version]
        policy_set = judges.policy_set(resources)
        judgement = policy_set.judge(
            policy_set.sides(judges.classes(snapshot, resources, src[at]), src_hi[at], src_lo[at]),
            policy_set.sides(judges.classes(snapshot, resources, dst[at]), dst_hi[at], dst_lo[at]),
            proto[at],
            src_port[at],
            dst_port[at],
        )
        actions[0, at], actions[1, at] = judgement.egress_action, judgement.ingress_action
        traces[0, at], traces[1, at] = judgement.egress_trace, judgement.ingress_trace
    return Joined(
        src_set, dst_set, src_private, dst_private, policy, actions[0], actions[1], traces[0], traces[1]
    )  # fmt: skip


def _elsewhere(
    snapshot: Snapshot, hi: U64, lo: U64, times: U64, ids: I32, others: I32
) -> tuple[I32, NDArray[np.bool_]]:
    sets = np.full(len(ids), -1, np.int32)
    private = np.zeros(len(ids), bool)
    at = np.flatnonzero(ids < 0)
    if len(at):
        beside = others[at]
        namespaces = np.full(len(at), -1, np.int32)
        known = beside >= 0
        namespaces[known] = snapshot.endpoint_namespace[beside[known]]
        sets[at] = snapshot.network_set(hi[at], lo[at], times[at], namespaces)
        private[at] = snapshot.private(hi[at], lo[at], times[at])
    return sets, private
