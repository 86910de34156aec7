"""How many endpoints each policy applies to at the end of a window: one record per policy and direction.

The count is the cluster's, as of the window's end, whichever node's window closes first. Every worker that closes one
writes the same content under the same id, so that it is there once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import orjson

from tierflow.policy.labels import policy_selector
from tierflow.schemas.clock import NS_PER_S
from tierflow.schemas.flow_log import ABSENT
from tierflow.streams.core.counters import SUMS
from tierflow.streams.core.documents import document_id

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tierflow.inventory.snapshot import Snapshot
    from tierflow.policy.model import Policy, Resources
    from tierflow.policy.selector import Node
    from tierflow.streams.core.documents import Slot
    from tierflow.streams.core.join import Judges

DirectionKey = tuple[str, str, str]
"""Tier, policy as in traces, direction."""

_NOTHING: Final = dict.fromkeys(SUMS, 0)
_COUNTED_KEPT: Final = 4096
"""Windows that are known to have been counted; one that is forgotten would be counted again, to the same content."""


class EndpointCounts:
    """Counts endpoints for windows that nobody here has counted yet, in whatever order nodes close them.

    ``latest`` is what the newest window counted, for metrics.
    """

    __slots__ = ("_counted", "_newest_s", "_selectors", "latest")

    def __init__(self) -> None:
        # In the order in which they were counted.
        self._counted: dict[tuple[str, int], None] = {}
        self._newest_s = 0
        self._selectors: tuple[Resources, list[tuple[Policy, Node]]] | None = None
        self.latest: dict[DirectionKey, int] = {}

    def encode(self, slots: Sequence[Slot], snapshot: Snapshot, judges: Judges) -> Iterator[tuple[str, bytes]]:
        """``(message key, JSON)`` for each window of ``slots`` that is over by the inventory's watermark too.

        A window that the inventory has not reached is left out: what was in force at its end is not known yet. The
        next window tells.
        """
        windows = {(slot.cluster, slot.start_s, slot.end_s) for slot in slots if not slot.late}
        for cluster, start_s, end_s in sorted(windows):
            if (cluster, end_s) in self._counted or snapshot.watermark_ns < end_s * NS_PER_S:
                continue
            self._remember(cluster, end_s)
            counts: dict[DirectionKey, int] = {}
            for policy, count in self._count(snapshot, judges, end_s * NS_PER_S):
                for direction in map(str.lower, policy.types):
                    counts[policy.tier, policy.trace_name, direction] = count
                    yield cluster or ABSENT, _document(cluster, start_s, end_s, policy, direction, count)
            if end_s >= self._newest_s:
                self._newest_s, self.latest = end_s, counts

    def _remember(self, cluster: str, end_s: int) -> None:
        self._counted[cluster, end_s] = None
        if len(self._counted) > _COUNTED_KEPT:
            del self._counted[next(iter(self._counted))]

    def _count(self, snapshot: Snapshot, judges: Judges, at_ns: int) -> Iterator[tuple[Policy, int]]:
        version = int(snapshot.policy_version(np.array([at_ns], np.int64))[0])
        if version >= len(snapshot.policy_versions):
            return
        resources = snapshot.policy_versions[version]
        alive = [
            number
            for number, each in enumerate(snapshot.endpoints)
            if each.policed and each.valid_from_ns <= at_ns and (each.valid_to_ns is None or at_ns < each.valid_to_ns)
        ]
        classes = judges.classes(snapshot, resources, np.array(alive, np.int32))
        policy_set = judges.policy_set(resources)
        counted: dict[Node, int] = {}
        for policy, selector in self._selected_by(resources):
            if selector not in counted:
                mask = policy_set.select(selector)
                counted[selector] = int(np.count_nonzero(mask[classes])) if len(mask) else 0
            yield policy, counted[selector]

    def _selected_by(self, resources: Resources) -> list[tuple[Policy, Node]]:
        if self._selectors is None or self._selectors[0] is not resources:
            self._selectors = (resources, [(policy, policy_selector(policy)) for policy in resources.policies])
        return self._selectors[1]


def _document(cluster: str, start_s: int, end_s: int, policy: Policy, direction: str, count: int) -> bytes:
    return orjson.dumps({
        "id": document_id("endpoints", cluster, start_s, end_s, policy.tier, policy.trace_name, policy.kind, direction),
        "record": "endpoints",
        "start_time": start_s,
        "end_time": end_s,
        "@timestamp": end_s * 1000,
        "cluster": cluster,
        "host": ABSENT,
        "late": False,
        "tier": policy.tier,
        "policy": policy.trace_name,
        "kind": policy.kind,
        "namespace": policy.namespace or ABSENT,
        "name": policy.name,
        "staged": policy.staged,
        "rule_index": None,
        "rule_direction": direction,
        "action": None,
        **_NOTHING,
        "endpoints": count,
    })  # fmt: skip
