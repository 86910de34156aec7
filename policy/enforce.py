"""What an enforcer needs, without knowing the policy language: per endpoint and direction, tiers of resolved rules."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tierflow.policy.labels import endpoint_labels, entity_selectors, network_set_labels, profile_names
from tierflow.policy.model import EGRESS, INGRESS, PortRange
from tierflow.policy.scalar import ScalarJudge, domain_covers, in_service, service_ports
from tierflow.policy.trace import PROFILE_TIER, PolicyRef

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tierflow.policy.compile import PolicySet
    from tierflow.policy.model import Endpoint, EntityRule, Icmp, Policy, Rule


@dataclass(frozen=True, slots=True)
class PeerPorts:
    """Addresses that match on these ports only; ``ports`` None matches any."""

    cidrs: tuple[str, ...]
    ports: tuple[PortRange, ...] | None


@dataclass(frozen=True, slots=True)
class ResolvedSide:
    """One side of a rule as addresses and ports.

    Attributes:
        any_address: no address condition stands; ``alternatives`` then has ports only, with no CIDRs.
        alternatives: any of these matches; empty and not ``any_address``: nothing matches.
        not_cidrs: and the address is in none of these.
        not_ports: and the port is in none of these.
        not_named: and (address, port) is in none of these.
    """

    any_address: bool
    alternatives: tuple[PeerPorts, ...]
    not_cidrs: tuple[str, ...] = ()
    not_ports: tuple[PortRange, ...] = ()
    not_named: tuple[PeerPorts, ...] = ()


@dataclass(frozen=True, slots=True)
class ResolvedRule:
    """One rule; ``action`` is ``allow``, ``deny``, ``pass`` or ``log``."""

    action: str
    policy: PolicyRef
    trace_name: str
    rule_index: int
    protocol: int | None
    not_protocol: int | None
    icmp: Icmp | None
    not_icmp: Icmp | None
    ip_version: int | None
    source: ResolvedSide
    destination: ResolvedSide


@dataclass(frozen=True, slots=True)
class ResolvedTier:
    """What a tier does to one endpoint and direction: rules in order, then ``default_action``, named by ``last``."""

    name: str
    rules: tuple[ResolvedRule, ...]
    default_action: str
    last: str


@dataclass(frozen=True, slots=True)
class EndpointPlan:
    """What holds for one endpoint; after the last tier that passes, everything is allowed."""

    endpoint: Endpoint
    ingress: tuple[ResolvedTier, ...]
    egress: tuple[ResolvedTier, ...]


def enforcement_plan(policy_set: PolicySet, endpoints: Sequence[Endpoint]) -> tuple[EndpointPlan, ...]:
    """Resolve all enforced policies against these endpoints' addresses; staged policies are absent.

    Args:
        policy_set: the policies.
        endpoints: all endpoints of the cluster, with addresses: they are the subjects and the peers.
    """
    resolver = _Resolver(policy_set, endpoints)
    return tuple(EndpointPlan(each, resolver.tiers(each, INGRESS), resolver.tiers(each, EGRESS)) for each in endpoints)


class _Resolver:
    def __init__(self, policy_set: PolicySet, endpoints: Sequence[Endpoint]) -> None:
        self.resources = policy_set.resources
        self.judge = ScalarJudge(self.resources)
        self.endpoints = [(each, endpoint_labels(self.resources, each), _cidrs(each)) for each in endpoints]
        self.sets = [(each.nets, network_set_labels(self.resources, each)) for each in self.resources.network_sets]
        self.rules: dict[tuple[int, str, int], ResolvedRule] = {}
        self.services = {(each.namespace, each.name): each for each in self.resources.services}

    def tiers(self, subject: Endpoint, direction: str) -> tuple[ResolvedTier, ...]:
        found: list[ResolvedTier] = []
        for ordered in self.judge.tiers:
            policies = [each for each in self.judge.applying(subject, direction, ordered) if not each.staged]
            if not policies:
                continue
            rules = tuple(rule for policy in policies for rule in self._policy(policy, direction))
            default = ordered.tier.default_action.lower()
            found.append(ResolvedTier(ordered.tier.name, rules, default, policies[-1].trace_name))
        return (*found, self._profiles(subject, direction))

    def _profiles(self, subject: Endpoint, direction: str) -> ResolvedTier:
        written = {profile.name: profile for profile in self.resources.profiles}
        rules: list[ResolvedRule] = []
        names = profile_names(self.resources, subject)
        for name in names:
            if name not in written and name.startswith("kns."):
                return ResolvedTier(PROFILE_TIER, tuple(rules), "allow", f"{PROFILE_TIER}.{name}")
            profile = written.get(name)
            own = () if profile is None else (profile.ingress if direction == INGRESS else profile.egress)
            ref = PolicyRef("Profile", None, name)
            rules += [self._rule(rule, None, ref, f"{PROFILE_TIER}.{name}", index) for index, rule in enumerate(own)]
        return ResolvedTier(PROFILE_TIER, tuple(rules), "deny", f"{PROFILE_TIER}.__NO_MATCH__")

    def _policy(self, policy: Policy, direction: str) -> list[ResolvedRule]:
        rules: list[ResolvedRule] = []
        for index, rule in enumerate(policy.rules(direction)):
            key = (id(policy), direction, index)
            if key not in self.rules:
                self.rules[key] = self._rule(rule, policy.namespace, PolicyRef.of(policy), policy.trace_name, index)
            rules.append(self.rules[key])
        return rules

    def _rule(self, rule: Rule, namespace: str | None, ref: PolicyRef, name: str, index: int) -> ResolvedRule:
        return ResolvedRule(
            action=rule.action.lower(),
            policy=ref,
            trace_name=name,
            rule_index=index,
            protocol=rule.protocol,
            not_protocol=rule.not_protocol,
            icmp=rule.icmp,
            not_icmp=rule.not_icmp,
            ip_version=rule.ip_version,
            source=self._side(rule.source, namespace, rule.protocol, with_ports=False),
            destination=self._side(rule.destination, namespace, rule.protocol, with_ports=True),
        )

    def _side(
        self, entity: EntityRule, namespace: str | None, protocol: int | None, *, with_ports: bool
    ) -> ResolvedSide:
        selected, excluded = entity_selectors(entity, namespace)
        numeric = tuple(port for port in entity.ports if isinstance(port, PortRange))
        names = {port for port in entity.ports if isinstance(port, str)}
        not_names = {port for port in entity.not_ports if isinstance(port, str)}
        chosen = [each for each in self.endpoints if selected is None or selected.matches(each[1])]
        cidrs: tuple[str, ...] | None = None
        if selected is not None:
            own = [cidr for _, _, addresses in chosen for cidr in addresses]
            cidrs = (*own, *(net for nets, labels in self.sets if selected.matches(labels) for net in nets))
        cidrs = _narrowed(cidrs, entity.nets or None)
        if entity.domains:
            learnt = tuple(
                net
                for pattern in entity.domains
                for name, nets in self.resources.domains.items()
                if domain_covers(pattern, name)
                for net in nets
            )
            cidrs = _narrowed(cidrs, learnt)
        alternatives: list[PeerPorts] = []
        if cidrs is None or cidrs:
            ports = None if not entity.ports else numeric
            if ports is None or ports:
                alternatives.append(PeerPorts(cidrs or (), ports))
        alternatives += self._named(chosen, names, protocol, entity.nets)
        if entity.service is not None:
            alternatives = self._service(entity, with_ports=with_ports)
        not_cidrs = list(entity.not_nets)
        if excluded is not None:
            not_cidrs += [cidr for _, labels, own in self.endpoints if excluded.matches(labels) for cidr in own]
            not_cidrs += [net for nets, labels in self.sets if excluded.matches(labels) for net in nets]
        return ResolvedSide(
            any_address=cidrs is None and entity.service is None,
            alternatives=tuple(alternatives),
            not_cidrs=tuple(not_cidrs),
            not_ports=tuple(port for port in entity.not_ports if isinstance(port, PortRange)),
            not_named=tuple(self._named(chosen, not_names, protocol, ())),
        )

    def _named(
        self,
        chosen: Sequence[tuple[Endpoint, Mapping[str, str], tuple[str, ...]]],
        names: set[str],
        protocol: int | None,
        nets: tuple[str, ...],
    ) -> list[PeerPorts]:
        found: list[PeerPorts] = []
        for endpoint, _, own in chosen:
            ports = tuple(
                PortRange(port, port) for name, each, port in endpoint.named_ports if name in names and each == protocol
            )
            cidrs = _narrowed(own, nets or None)
            if ports and cidrs:
                found.append(PeerPorts(cidrs, ports))
        return found

    def _service(self, entity: EntityRule, *, with_ports: bool) -> list[PeerPorts]:
        name = entity.service
        service = self.services.get((name.namespace, name.name)) if name is not None else None
        if service is None:
            return []
        found: list[PeerPorts] = []
        for endpoint, _, own in self.endpoints:
            if in_service(service, endpoint) and own:
                ports = tuple(PortRange(port, port) for _, port in sorted(service_ports(service, endpoint)))
                found.append(PeerPorts(own, ports if with_ports else None))
        return found


def _cidrs(endpoint: Endpoint) -> tuple[str, ...]:
    return tuple(str(ipaddress.ip_network(address)) for address in endpoint.addresses)


def _narrowed(cidrs: tuple[str, ...] | None, nets: tuple[str, ...] | None) -> tuple[str, ...] | None:
    """The addresses in both lists; None stands for all addresses."""
    if nets is None:
        return cidrs
    if cidrs is None:
        return nets
    found: list[str] = []
    for left in cidrs:
        for right in nets:
            inner, outer = ipaddress.ip_network(left), ipaddress.ip_network(right)
            if inner.version != outer.version:
                continue
            if inner.prefixlen < outer.prefixlen:
                inner, outer = outer, inner
            if inner.network_address in outer:
                found.append(str(inner))
    return tuple(dict.fromkeys(found))
