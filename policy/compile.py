"""Resources to a policy set: endpoint classes, address classes, and verdicts over arrays of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from tierflow.policy.addresses import AddressClasses, address_classes
from tierflow.policy.carried import Carried, Compiled, PolicyKey, shared_tables
from tierflow.policy.columns import LabelColumns
from tierflow.policy.direction import Direction, PolicyBits, reserve
from tierflow.policy.labels import network_set_labels, policy_selector, profile_names
from tierflow.policy.masks import AddressMasks
from tierflow.policy.model import EGRESS, INGRESS, Policy
from tierflow.policy.order import ordered_tiers
from tierflow.policy.program import Names, rule_bits
from tierflow.policy.scalar import profile_hit
from tierflow.policy.trace import DEFAULT_RULE, NO_MATCH, Trace
from tierflow.policy.uses import has_names, used_nets, used_port_names

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from tierflow.policy.model import Endpoint, Profile, Resources, Rule, Tier
    from tierflow.policy.selector import Node
    from tierflow.policy.trace import Hit

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
    """The policies as of one moment. Classes and traces are only ever added, so their numbers stay valid.

    Endpoint classes are shared with the set that this one was made from, so their numbers stay valid there too; side
    numbers and trace numbers belong to one set.
    """

    def __init__(self, resources: Resources, carried: Carried | None = None) -> None:
        self.resources = resources
        self._tables, self._classes = shared_tables(resources, carried)
        self._live = carried.live if carried is not None and carried.tables is self._tables else 0
        self._written = frozenset(profile.name for profile in resources.profiles)
        self._services = {(service.namespace, service.name): service for service in resources.services}
        nets: frozenset[str] = frozenset(used_nets(resources))
        if carried is not None and carried.nets == nets:
            self._addresses: AddressClasses = carried.addresses
        else:
            self._addresses = address_classes(nets)
        self._nets = nets
        self._port_names = frozenset(used_port_names(resources))
        self._known_ports: dict[str, frozenset[tuple[int, int]]] = {}
        self._compiled: dict[PolicyKey, Compiled] = {}
        self._profile_lists: list[tuple[str, ...]] = []
        self._profile_of: list[tuple[int, Hit]] = []
        self._take_over(carried)
        self._traces: list[Trace] = []
        self._trace_ids: dict[Trace, int] = {}
        self._actions: NDArray[np.uint8] = np.zeros(1, dtype=np.uint8)
        self._take_in_classes()
        self._build()

    def _take_over(self, carried: Carried | None) -> None:
        """Start from what the previous set found out, where that means the same here."""
        if carried is None or carried.tables is not self._tables:
            return
        before, after = carried.resources, self.resources
        if carried.port_names == self._port_names:
            self._known_ports = dict(carried.known_ports)
            self._profile_lists, self._profile_of = list(carried.profile_lists), list(carried.profile_of)
        same_names = (
            carried.port_names == self._port_names
            and before.services == after.services
            and before.domains == after.domains
        )
        self._compiled = {key: each for key, each in carried.compiled.items() if same_names or not has_names(each[0])}

    @property
    def traces(self) -> Sequence[Trace]:
        """All traces seen so far; grows as flows are judged."""
        return self._traces

    def with_resources(self, resources: Resources) -> PolicySet:
        """The policy set of changed resources; what didn't change is not compiled again."""
        carried = Carried(
            self.resources,
            self._tables,
            self._classes,
            self._addresses,
            self._nets,
            self._compiled,
            self._live,
            self._port_names,
            self._known_ports,
            self._profile_lists,
            self._profile_of,
        )
        return PolicySet(resources, carried)

    def endpoint_class(self, endpoint: Endpoint) -> int:
        """The number of the endpoint's class; endpoints that no policy could tell apart share it."""
        return self._classes.number(endpoint)

    def endpoint_classes(self, endpoints: Iterable[Endpoint]) -> NDArray[np.int32]:
        """``endpoint_class`` of many, int32[n]."""
        return np.fromiter((self._classes.number(endpoint) for endpoint in endpoints), dtype=np.int32)

    def select(self, selector: Node) -> NDArray[np.bool_]:
        """Which endpoint classes a selector selects, bool[classes]."""
        return self._classes.select(selector)

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
        """Judge n flows; ``dst_side`` is the backend after destination translation.

        Best with distinct flows: group first, judge the groups, gather the answers.
        """
        if self._take_in_classes():
            self._build()
        src, dst = np.asarray(src_side, dtype=np.int64), np.asarray(dst_side, dtype=np.int64)
        proto_port = (np.asarray(proto, dtype=np.int64) << 16) | np.asarray(dst_port, dtype=np.int64)
        ports = np.asarray(src_port, dtype=np.int64)
        egress = self._judge(self._egress, src, src, dst, proto_port, ports)
        ingress = self._judge(self._ingress, dst, src, dst, proto_port, ports)
        if len(self._actions) != len(self._traces) + 1:
            # The last entry is what -1 picks.
            verdicts = [ALLOW if trace.action == "allow" else DENY for trace in self._traces]
            self._actions = np.array([*verdicts, NOT_JUDGED], dtype=np.uint8)
        return Judgement(self._actions[egress], self._actions[ingress], egress, ingress)

    def _judge(
        self,
        direction: Direction,
        owner_side: NDArray[np.int64],
        src: NDArray[np.int64],
        dst: NDArray[np.int64],
        proto_port: NDArray[np.int64],
        src_port: NDArray[np.int64],
    ) -> NDArray[np.int32]:
        owner = owner_side // len(self._addresses) - 1
        ours = self._classes.governed[owner]
        traces = np.full(len(owner), NO_TRACE, dtype=np.int32)
        if ours.all():
            chosen: NDArray[np.int64] | slice = slice(None)
        else:
            chosen = np.flatnonzero(ours)
            if not len(chosen):
                return traces
        if not len(owner):
            return traces
        enforced, pending = direction.judge(
            owner[chosen], src[chosen], dst[chosen], proto_port[chosen], src_port[chosen]
        )
        span = int(pending.max()) + 1
        keys = enforced * span + pending
        distinct, inverse = np.unique(keys, return_inverse=True)
        numbers = np.array(
            [
                self._trace_id(Trace(direction.path_hits(key // span), direction.path_hits(key % span)))
                for key in distinct.tolist()
            ],
            dtype=np.int32,
        )
        traces[chosen] = numbers[inverse.reshape(-1)]
        return traces

    def _trace_id(self, trace: Trace) -> int:
        found = self._trace_ids.get(trace)
        if found is None:
            found = self._trace_ids[trace] = len(self._traces)
            self._traces.append(trace)
        return found

    def _take_in_classes(self) -> bool:
        """Take in the named ports and profiles of new classes; whether rules must be laid out anew for them."""
        found: dict[str, set[tuple[int, int]]] = {}
        known_lists = len(self._profile_lists)
        for endpoint in self._classes.endpoints[len(self._profile_of) :]:
            self._profile_of.append(self._profiles(endpoint))
            for name, protocol, port in endpoint.named_ports:
                if name in self._port_names and (protocol, port) not in self._known_ports.get(name, ()):
                    found.setdefault(name, set()).add((protocol, port))
        for name, pairs in found.items():
            self._known_ports[name] = self._known_ports.get(name, frozenset()) | pairs
        if found:
            self._compiled = {key: each for key, each in self._compiled.items() if not has_names(each[0])}
        return bool(found) or len(self._profile_lists) != known_lists

    def _profiles(self, endpoint: Endpoint) -> tuple[int, Hit]:
        """Which list of written profiles an endpoint has (-1: none), and the hit without a match there."""
        names: list[str] = []
        default = profile_hit(NO_MATCH, "deny", DEFAULT_RULE)
        for name in profile_names(self.resources, endpoint):
            if name in self._written:
                names.append(name)
            elif name.startswith("kns."):
                default = profile_hit(name, "allow", 0)
                break
        if not names:
            return -1, default
        if tuple(names) not in self._profile_lists:
            self._profile_lists.append(tuple(names))
        return self._profile_lists.index(tuple(names)), default

    def _build(self) -> None:
        resources = self.resources
        names = Names(self._known_ports, self._services, resources.domains)
        tiers: dict[str, list[tuple[Tier, tuple[PolicyBits, ...]]]] = {EGRESS: [], INGRESS: []}
        position = 0
        compiled: dict[PolicyKey, Compiled] = {}
        for ordered in ordered_tiers(resources):
            members: dict[str, list[PolicyBits]] = {EGRESS: [], INGRESS: []}
            for policy in ordered.policies:
                key = (policy.kind, policy.namespace, policy.name)
                each = self._compiled.get(key)
                if each is None or (each[0] is not policy and each[0] != policy):
                    each = self._compile(policy, names)
                compiled[key] = each
                if not policy.not_judged:
                    for direction in policy.types:
                        members[direction].append(PolicyBits(policy, each[1], position, each[2][direction]))
                position += 1
            for direction, found in members.items():
                tiers[direction].append((ordered.tier, tuple(found)))
        self._compiled = compiled
        written = {profile.name: profile for profile in resources.profiles}
        profiles = {
            direction: tuple(
                tuple(
                    (name, bit)
                    for name in lists
                    if name in written
                    for bit in rule_bits(_profile_rules(written[name], direction), None, self._tables, names)
                )
                for lists in self._profile_lists
            )
            for direction in (EGRESS, INGRESS)
        }
        reserve(self._tables)
        self._live = self._live or len(self._tables.matchers)
        masks = self._address_masks()
        self._egress, self._ingress = (
            Direction(
                direction,
                tiers[direction],
                profiles[direction],
                self._profile_of.__getitem__,
                self._tables,
                self._classes,
                masks,
            )
            for direction in (EGRESS, INGRESS)
        )

    def _compile(self, policy: Policy, names: Names) -> Compiled:
        matcher = self._tables.matchers.number(policy_selector(policy))
        bits = {
            direction: rule_bits(policy.rules(direction), policy.namespace, self._tables, names)
            for direction in policy.types
        }
        return policy, matcher, bits

    def _address_masks(self) -> AddressMasks:
        sets = self.resources.network_sets
        columns = LabelColumns([network_set_labels(self.resources, each) for each in sets])
        selected = np.zeros((len(self._tables.matchers), len(sets)), dtype=np.bool_)
        if sets:
            for row, node in enumerate(self._tables.matchers.values):
                selected[row] = columns.select(node)
        of_net: dict[str, list[int]] = {}
        for number, each in enumerate(sets):
            for net in each.nets:
                of_net.setdefault(net, []).append(number)
        covering = [
            sorted({number for net in members for number in of_net.get(net, ())}) for members in self._addresses.members
        ]
        return AddressMasks(self._addresses, self._tables, selected, covering)


def _profile_rules(profile: Profile, direction: str) -> tuple[Rule, ...]:
    return profile.egress if direction == EGRESS else profile.ingress
