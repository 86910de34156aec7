"""Resources to a policy set: endpoint classes, address classes, and verdicts over arrays of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from tierflow.policy.addresses import address_classes, address_text
from tierflow.policy.model import EGRESS, INGRESS, Endpoint
from tierflow.policy.scalar import Flow, ScalarJudge, Side

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from tierflow.policy.model import EntityRule, Policy, Profile, Resources
    from tierflow.policy.trace import Trace

NOT_JUDGED: Final = 0
ALLOW: Final = 1
DENY: Final = 2
NO_TRACE: Final = -1


@dataclass(frozen=True, slots=True)
class Judgement:
    """Verdicts of n flows.

    Attributes:
        egress_action, ingress_action: uint8[n]: 0 not judged (not ours), 1 allow, 2 deny.
        egress_trace, ingress_trace: int32[n]: index into ``PolicySet.traces``; -1 not judged.
    """

    egress_action: NDArray[np.uint8]
    ingress_action: NDArray[np.uint8]
    egress_trace: NDArray[np.int32]
    ingress_trace: NDArray[np.int32]


def compile_policies(resources: Resources) -> PolicySet:
    """Compile resources; they are taken as valid, see ``parse_documents``."""
    return PolicySet(resources)


class PolicySet:
    """The policies as of one moment. Classes and traces are only ever added, so their numbers stay valid."""

    def __init__(self, resources: Resources) -> None:
        self.resources = resources
        self._scalar = ScalarJudge(resources)
        self._addresses = address_classes(_nets(resources))
        self._classes: dict[object, int] = {}
        self._endpoints: list[Endpoint] = []
        self._traces: list[Trace] = []
        self._trace_ids: dict[Trace, int] = {}
        self._memo: dict[tuple[int, ...], tuple[int, int]] = {}

    @property
    def traces(self) -> Sequence[Trace]:
        """All traces seen so far; grows as flows are judged."""
        return self._traces

    def with_resources(self, resources: Resources) -> PolicySet:
        """The policy set of changed resources; what didn't change is not compiled again."""
        return PolicySet(resources)

    def endpoint_class(self, endpoint: Endpoint) -> int:
        """The number of the endpoint's class; endpoints that no policy could tell apart share it."""
        key = (
            endpoint.kind,
            endpoint.namespace,
            endpoint.service_account,
            frozenset(endpoint.labels.items()),
            endpoint.named_ports,
            endpoint.name if endpoint.kind == "hep" else "",
        )
        found = self._classes.get(key)
        if found is None:
            found = self._classes[key] = len(self._endpoints)
            self._endpoints.append(endpoint)
        return found

    def endpoint_classes(self, endpoints: Iterable[Endpoint]) -> NDArray[np.int32]:
        """``endpoint_class`` of many, int32[n]."""
        return np.fromiter((self.endpoint_class(endpoint) for endpoint in endpoints), dtype=np.int32)

    def sides(
        self, endpoint_class: NDArray[np.int32], hi: NDArray[np.uint64], lo: NDArray[np.uint64]
    ) -> NDArray[np.int32]:
        """Side number of each (endpoint class or -1, address), int32[n]."""
        classes = self._addresses.lookup(hi, lo)
        sides: NDArray[np.int32] = (np.asarray(endpoint_class, dtype=np.int32) + 1) * len(self._addresses) + classes
        return sides.astype(np.int32, copy=False)

    def judge(
        self,
        src_side: NDArray[np.int32],
        dst_side: NDArray[np.int32],
        proto: NDArray[np.uint8],
        src_port: NDArray[np.uint16],
        dst_port: NDArray[np.uint16],
    ) -> Judgement:
        """Judge n flows; ``dst_side`` is the backend after destination translation."""
        rows = np.stack([np.asarray(each, dtype=np.int64) for each in (src_side, dst_side, proto, src_port, dst_port)])
        pairs = np.array([self._judge_one(tuple(row)) for row in rows.T.tolist()], dtype=np.int32).reshape(-1, 2)
        actions = np.array(
            [*(ALLOW if t.action == "allow" else DENY for t in self._traces), NOT_JUDGED], dtype=np.uint8
        )
        return Judgement(actions[pairs[:, 0]], actions[pairs[:, 1]], pairs[:, 0].copy(), pairs[:, 1].copy())

    def _judge_one(self, row: tuple[int, ...]) -> tuple[int, int]:
        found = self._memo.get(row)
        if found is None:
            src, dst, proto, src_port, dst_port = row
            flow = Flow(self._side(src), self._side(dst), proto, src_port, dst_port)
            found = self._memo[row] = (
                self._trace_id(self._scalar.trace(flow, EGRESS)),
                self._trace_id(self._scalar.trace(flow, INGRESS)),
            )
        return found

    def _side(self, side: int) -> Side:
        owner, address = divmod(side, len(self._addresses))
        return Side(address_text(self._addresses.example[address]), self._endpoints[owner - 1] if owner else None)

    def _trace_id(self, trace: Trace | None) -> int:
        if trace is None:
            return NO_TRACE
        if trace not in self._trace_ids:
            self._trace_ids[trace] = len(self._traces)
            self._traces.append(trace)
        return self._trace_ids[trace]


def _nets(resources: Resources) -> Iterable[str]:
    for network_set in resources.network_sets:
        yield from network_set.nets
    for nets in resources.domains.values():
        yield from nets
    governing: tuple[Policy | Profile, ...] = (*resources.policies, *resources.profiles)
    for policy in governing:
        for rule in (*policy.ingress, *policy.egress):
            for entity in (rule.source, rule.destination):
                yield from _entity_nets(entity)


def _entity_nets(entity: EntityRule) -> Iterable[str]:
    yield from entity.nets
    yield from entity.not_nets
