"""What an enforcer needs, without knowing the policy language: per endpoint and direction, tiers of resolved rules."""

from __future__ import annotations

import dataclasses
import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tierflow.policy.labels import endpoint_labels, entity_selectors, network_set_labels, profile_names
from tierflow.policy.model import EGRESS, INGRESS, PortRange
from tierflow.policy.ports import PORT_PROTOCOLS
from tierflow.policy.program import learnt_nets
from tierflow.policy.scalar import ScalarJudge, in_service, service_ports
from tierflow.policy.trace import PROFILE_TIER, PolicyRef

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tierflow.policy.compile import PolicySet
    from tierflow.policy.model import Endpoint, EntityRule, Icmp, Policy, Rule, Service


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
    """One rule, or its part for one protocol; ``action`` is ``allow``, ``deny``, ``pass`` or ``log``."""

    action: str
    policy: PolicyRef
    trace_name: str
    rule_index: int
    protocol: int | None
    not_protocols: tuple[int, ...]
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
        self.rules: dict[tuple[int, str, int], tuple[ResolvedRule, ...]] = {}
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
            for index, rule in enumerate(own):
                rules += self._rules(rule, None, ref, f"{PROFILE_TIER}.{name}", index)
        return ResolvedTier(PROFILE_TIER, tuple(rules), "deny", f"{PROFILE_TIER}.__NO_MATCH__")

    def _policy(self, policy: Policy, direction: str) -> list[ResolvedRule]:
        rules: list[ResolvedRule] = []
        for index, rule in enumerate(policy.rules(direction)):
            key = (id(policy), direction, index)
            if key not in self.rules:
                self.rules[key] = self._rules(rule, policy.namespace, PolicyRef.of(policy), policy.trace_name, index)
            rules += self.rules[key]
        return rules

    def _rules(
        self, rule: Rule, namespace: str | None, ref: PolicyRef, name: str, index: int
    ) -> tuple[ResolvedRule, ...]:
        """A rule; where names or a service stand for several protocols, one part each, and one for the other ones."""
        both = (rule.source, rule.destination)
        service = rule.destination.service is not None
        named = service or any(_names(each.ports) | _names(each.not_ports) for each in both)
        if rule.protocol is not None or not named:
            return (self._rule(rule, namespace, ref, name, index),)
        parts = [
            self._rule(dataclasses.replace(rule, protocol=each), namespace, ref, name, index)
            for each in sorted(PORT_PROTOCOLS)
        ]
        if not service and not any(each.ports for each in both):
            source, destination = (
                dataclasses.replace(each, not_ports=tuple(port for port in each.not_ports if not isinstance(port, str)))
                for each in both
            )
            rest = self._rule(
                dataclasses.replace(rule, source=source, destination=destination), namespace, ref, name, index
            )
            parts.append(dataclasses.replace(rest, not_protocols=(*rest.not_protocols, *sorted(PORT_PROTOCOLS))))
        return tuple(parts)

    def _rule(self, rule: Rule, namespace: str | None, ref: PolicyRef, name: str, index: int) -> ResolvedRule:
        return ResolvedRule(
            # Behind a profile there is nothing to pass to: upstream denies.
            action="deny" if rule.action == "Pass" and ref.kind == "Profile" else rule.action.lower(),
            policy=ref,
            trace_name=name,
            rule_index=index,
            protocol=rule.protocol,
            not_protocols=() if rule.not_protocol is None else (rule.not_protocol,),
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
        chosen = [each for each in self.endpoints if selected is None or selected.matches(each[1])]
        limits = [entity.nets] if entity.nets else []
        if entity.domains:
            limits.append(learnt_nets(entity.domains, self.resources.domains))
        cidrs: tuple[str, ...] | None = None
        if selected is not None:
            own = [cidr for _, _, addresses in chosen for cidr in addresses]
            cidrs = (*own, *(net for nets, labels in self.sets if selected.matches(labels) for net in nets))
        cidrs = _narrowed(cidrs, limits)
        alternatives: list[PeerPorts] = []
        if entity.service is not None:
            alternatives = self._service(entity, protocol, with_ports=with_ports)
        else:
            numeric = _ranges(entity.ports)
            if (cidrs is None or cidrs) and (numeric or not entity.ports):
                alternatives.append(PeerPorts(cidrs or (), numeric if entity.ports else None))
            alternatives += self._named(chosen, _names(entity.ports), protocol, limits)
        not_cidrs = list(entity.not_nets)
        if excluded is not None:
            not_cidrs += [cidr for _, labels, own in self.endpoints if excluded.matches(labels) for cidr in own]
            not_cidrs += [net for nets, labels in self.sets if excluded.matches(labels) for net in nets]
        return ResolvedSide(
            any_address=cidrs is None and entity.service is None,
            alternatives=tuple(alternatives),
            not_cidrs=tuple(not_cidrs),
            not_ports=_ranges(entity.not_ports),
            not_named=tuple(self._named(chosen, _names(entity.not_ports), protocol, [])),
        )

    def _named(
        self,
        chosen: Sequence[tuple[Endpoint, Mapping[str, str], tuple[str, ...]]],
        names: frozenset[str],
        protocol: int | None,
        limits: Sequence[tuple[str, ...]],
    ) -> list[PeerPorts]:
        found: list[PeerPorts] = []
        for endpoint, _, own in chosen:
            ports = _named_ports(endpoint, names, protocol)
            cidrs = _narrowed(own, limits)
            if ports and cidrs:
                found.append(PeerPorts(cidrs, ports))
        return found

    def _service(self, entity: EntityRule, protocol: int | None, *, with_ports: bool) -> list[PeerPorts]:
        name = entity.service
        service = self.services.get((name.namespace, name.name)) if name is not None else None
        if service is None:
            return []
        found: list[PeerPorts] = []
        for endpoint, _, own in self.endpoints:
            if not in_service(service, endpoint) or not own:
                continue
            ports: tuple[PortRange, ...] | None = None
            if with_ports:
                pairs = sorted(service_ports(service, endpoint))
                ports = tuple(PortRange(port, port) for each, port in pairs if protocol in (None, each))
            elif entity.ports:
                ports = _ranges(entity.ports) + _named_ports(endpoint, _names(entity.ports), protocol)
            found.append(PeerPorts(own, ports))
        return [*found, *self._backends(entity, service, protocol, with_ports=with_ports)]

    def _backends(
        self, entity: EntityRule, service: Service, protocol: int | None, *, with_ports: bool
    ) -> Iterator[PeerPorts]:
        for each in service.backends or ():
            if with_ports:
                ports = tuple(PortRange(port, port) for kind, port in each.pairs if protocol in (None, kind))
                yield PeerPorts(each.nets, ports)
            else:
                yield PeerPorts(each.nets, _ranges(entity.ports) if entity.ports else None)
                yield from self._named(self.endpoints, _names(entity.ports), protocol, [each.nets])


def _names(ports: Sequence[PortRange | str]) -> frozenset[str]:
    return frozenset(port for port in ports if isinstance(port, str))


def _ranges(ports: Sequence[PortRange | str]) -> tuple[PortRange, ...]:
    return tuple(port for port in ports if isinstance(port, PortRange))


def _named_ports(endpoint: Endpoint, names: frozenset[str], protocol: int | None) -> tuple[PortRange, ...]:
    return tuple(
        PortRange(port, port) for name, each, port in endpoint.named_ports if name in names and each == protocol
    )


def _cidrs(endpoint: Endpoint) -> tuple[str, ...]:
    return tuple(str(ipaddress.ip_network(address)) for address in endpoint.addresses)


def _narrowed(cidrs: tuple[str, ...] | None, limits: Sequence[tuple[str, ...]]) -> tuple[str, ...] | None:
    """The addresses in ``cidrs`` and in each of the limits; None stands for all addresses."""
    for limit in limits:
        cidrs = limit if cidrs is None else _common(cidrs, limit)
    return cidrs


def _common(cidrs: tuple[str, ...], nets: tuple[str, ...]) -> tuple[str, ...]:
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
