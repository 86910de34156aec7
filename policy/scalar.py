"""The plain judge: one flow, rule after rule, as the documentation words it. Slow, and the oracle of the fast one."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from tierflow.policy.labels import endpoint_labels, entity_selectors, network_set_labels, policy_selector, profile_names
from tierflow.policy.model import EGRESS, INGRESS, EntityRule, PortRange, Profile, Rule
from tierflow.policy.order import ordered_tiers
from tierflow.policy.trace import DEFAULT_RULE, NO_MATCH, PROFILE_TIER, Hit, PolicyRef, Trace

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from tierflow.policy.model import Endpoint, Policy, Resources, Service
    from tierflow.policy.order import OrderedTier

ICMP: Final = (1, 58)

_network = lru_cache(maxsize=65536)(ipaddress.ip_network)
_address = lru_cache(maxsize=65536)(ipaddress.ip_address)

_ACTIONS: Final = {"Allow": "allow", "Deny": "deny", "Pass": "pass"}


@dataclass(frozen=True, slots=True)
class Side:
    """One end of a flow: its address, and the endpoint that holds it if it is ours."""

    address: str
    endpoint: Endpoint | None = None


@dataclass(frozen=True, slots=True)
class Flow:
    """What is judged; ``dest_port`` is type << 8 | code for ICMP, ``source_port`` then means nothing."""

    source: Side
    destination: Side
    protocol: int
    source_port: int
    dest_port: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """Egress where the source is ours, ingress where the destination is; None elsewhere."""

    egress: Trace | None
    ingress: Trace | None

    @property
    def judged(self) -> bool:
        """Whether policies govern either end."""
        return self.egress is not None or self.ingress is not None

    @property
    def action(self) -> str:
        """``allow`` or ``deny``: allowed where no direction denies."""
        return _together(each.action for each in (self.egress, self.ingress) if each is not None)

    @property
    def pending_action(self) -> str:
        """The same, were staged policies enforced."""
        return _together(each.pending_action for each in (self.egress, self.ingress) if each is not None)


def _together(actions: Iterable[str]) -> str:
    return "deny" if "deny" in actions else "allow"


def judge_flow(resources: Resources, flow: Flow) -> Verdict:
    """Judge one flow from scratch."""
    return ScalarJudge(resources).verdict(flow)


class ScalarJudge:
    """Judges flows one at a time against the same resources."""

    def __init__(self, resources: Resources) -> None:
        self.resources = resources
        self.tiers: tuple[OrderedTier, ...] = ordered_tiers(resources)
        self._positions: dict[int, int] = {}
        for ordered in self.tiers:
            for policy in ordered.policies:
                self._positions[id(policy)] = len(self._positions)
        self._sets = [
            (tuple(_network(net) for net in each.nets), network_set_labels(resources, each))
            for each in resources.network_sets
        ]
        self._profiles = {profile.name: profile for profile in resources.profiles}
        self._services = {(service.namespace, service.name): service for service in resources.services}
        self._host_endpoints = {each.name for each in resources.host_endpoints}

    def verdict(self, flow: Flow) -> Verdict:
        """Both directions of a flow."""
        return Verdict(self.trace(flow, EGRESS), self.trace(flow, INGRESS))

    def trace(self, flow: Flow, direction: str) -> Trace | None:
        """Both traces of one direction; None where the endpoint that would be governed isn't ours."""
        subject = (flow.source if direction == EGRESS else flow.destination).endpoint
        if subject is None or (subject.kind == "hep" and subject.name not in self._host_endpoints):
            return None
        return Trace(
            self._walk(flow, direction, subject, staged=False), self._walk(flow, direction, subject, staged=True)
        )

    def applying(self, subject: Endpoint, direction: str, tier: OrderedTier) -> Iterator[Policy]:
        """The policies of a tier that govern this endpoint in this direction, in order."""
        labels = endpoint_labels(self.resources, subject)
        for policy in tier.policies:
            if not policy.not_judged and direction in policy.types and policy_selector(policy).matches(labels):
                yield policy

    def _walk(self, flow: Flow, direction: str, subject: Endpoint, *, staged: bool) -> tuple[Hit, ...]:
        hits: list[Hit] = []
        for ordered in self.tiers:
            policies = [each for each in self.applying(subject, direction, ordered) if staged or not each.staged]
            if not policies:
                continue
            hit = next((found for each in policies if (found := self._first_match(each, flow, direction))), None)
            if hit is None:
                named = policies[0] if staged else policies[-1]
                action = _ACTIONS[ordered.tier.default_action]
                hit = self._hit(named, action, DEFAULT_RULE)
            hits.append(hit)
            if hit.action != "pass":
                return tuple(hits)
        hits.append(self._profile_hit(flow, direction, subject))
        return tuple(hits)

    def _first_match(self, policy: Policy, flow: Flow, direction: str) -> Hit | None:
        for index, rule in enumerate(policy.rules(direction)):
            if rule.action != "Log" and self.rule_matches(rule, policy.namespace, flow):
                return self._hit(policy, _ACTIONS[rule.action], index)
        return None

    def _hit(self, policy: Policy, action: str, index: int) -> Hit:
        ref = PolicyRef.of(policy)
        trigger = ref if index == DEFAULT_RULE else None
        return Hit(policy.tier, ref, policy.trace_name, action, index, trigger, self._positions[id(policy)])

    def _profile_hit(self, flow: Flow, direction: str, subject: Endpoint) -> Hit:
        names = profile_names(self.resources, subject)
        for name in names:
            index, action = self._profile_match(name, flow, direction)
            if action:
                return profile_hit(name, action, index)
        return profile_hit(NO_MATCH, "deny", DEFAULT_RULE)

    def _profile_match(self, name: str, flow: Flow, direction: str) -> tuple[int, str]:
        profile: Profile | None = self._profiles.get(name)
        if profile is None:
            # A namespace's profile allows everything, a service account's has no rules.
            return (0, "allow") if name.startswith("kns.") else (0, "")
        for index, rule in enumerate(profile.egress if direction == EGRESS else profile.ingress):
            if rule.action != "Log" and self.rule_matches(rule, None, flow):
                return index, "allow" if rule.action == "Allow" else "deny"
        return 0, ""

    def rule_matches(self, rule: Rule, namespace: str | None, flow: Flow) -> bool:
        """Whether all conditions of a rule hold."""
        versions = {_address(side.address).version for side in (flow.source, flow.destination)}
        if rule.ip_version is not None and versions != {rule.ip_version}:
            return False
        if rule.protocol is not None and flow.protocol != rule.protocol:
            return False
        if rule.not_protocol is not None and flow.protocol == rule.not_protocol:
            return False
        return (
            icmp_matches(rule, flow.protocol, flow.dest_port)
            and self.side_matches(
                rule.source, namespace, flow.source, flow.protocol, flow.source_port, with_ports=False
            )
            and self.side_matches(
                rule.destination, namespace, flow.destination, flow.protocol, flow.dest_port, with_ports=True
            )
        )

    def side_matches(
        self, entity: EntityRule, namespace: str | None, side: Side, protocol: int, port: int, *, with_ports: bool
    ) -> bool:
        """Whether one side of a rule holds; ``with_ports``: a service brings its ports, as at the destination."""
        address = _address(side.address)
        if entity.nets and not any(address in _network(net) for net in entity.nets):
            return False
        if any(address in _network(net) for net in entity.not_nets):
            return False
        own = endpoint_labels(self.resources, side.endpoint) if side.endpoint is not None else None
        selected, excluded = entity_selectors(entity, namespace)
        covering = [labels for nets, labels in self._sets if any(address in net for net in nets)]
        holders: list[Mapping[str, str]] = [*covering, *([own] if own is not None else [])]
        if excluded is not None and any(excluded.matches(labels) for labels in holders):
            return False
        by_holder = selected is None or any(selected.matches(labels) for labels in holders)
        by_endpoint = own is not None and (selected is None or selected.matches(own))
        if entity.ports:
            numeric = by_holder and any(isinstance(each, PortRange) and _within(each, port) for each in entity.ports)
            if not numeric and not (by_endpoint and _named(entity.ports, side.endpoint, protocol, port)):
                return False
        elif not by_holder:
            return False
        if any(isinstance(each, PortRange) and _within(each, port) for each in entity.not_ports):
            return False
        if by_endpoint and _named(entity.not_ports, side.endpoint, protocol, port):
            return False
        if entity.service is not None and not self._in_service(entity, side, protocol, port, with_ports=with_ports):
            return False
        return not entity.domains or self.domain_matches(entity, side.address)

    def domain_matches(self, entity: EntityRule, address: str) -> bool:
        """Whether the address was learnt for one of the names."""
        parsed = _address(address)
        return any(
            parsed in _network(net)
            for pattern in entity.domains
            for name, nets in self.resources.domains.items()
            if domain_covers(pattern, name)
            for net in nets
        )

    def _in_service(self, entity: EntityRule, side: Side, protocol: int, port: int, *, with_ports: bool) -> bool:
        name = entity.service
        service = self._services.get((name.namespace, name.name)) if name is not None else None
        if service is None:
            return False
        if backs(service, side.address, (protocol, port) if with_ports else None):
            return True
        if side.endpoint is None or not in_service(service, side.endpoint):
            return False
        return not with_ports or (protocol, port) in service_ports(service, side.endpoint)


def profile_hit(name: str, action: str, index: int) -> Hit:
    """The hit of a profile; it comes after all policies."""
    return Hit(PROFILE_TIER, PolicyRef("Profile", None, name), f"{PROFILE_TIER}.{name}", action, index, None, 2**31 - 1)


def icmp_matches(rule: Rule, protocol: int, dest_port: int) -> bool:
    """Whether the ICMP conditions hold."""
    kind, code = dest_port >> 8, dest_port & 0xFF
    if rule.icmp is not None and (
        protocol not in ICMP or rule.icmp.type not in (None, kind) or rule.icmp.code not in (None, code)
    ):
        return False
    return rule.not_icmp is None or not (
        protocol in ICMP and rule.not_icmp.type in (None, kind) and rule.not_icmp.code in (None, code)
    )


def in_service(service: Service, endpoint: Endpoint) -> bool:
    """Whether a Service selects a pod."""
    return (
        endpoint.kind == "wep"
        and endpoint.namespace == service.namespace
        and bool(service.selector)
        and all(endpoint.labels.get(key) == value for key, value in service.selector)
    )


def backs(service: Service, address: str, pair: tuple[int, int] | None) -> bool:
    """Whether an address is one of a Service's backends, on this (protocol, port) unless None."""
    text = str(_address(address))
    return any(text in each.addresses and (pair is None or pair in each.pairs) for each in service.backends or ())


def service_ports(service: Service, endpoint: Endpoint) -> frozenset[tuple[int, int]]:
    """(protocol, port) that a Service forwards to on a pod."""
    found: set[tuple[int, int]] = set()
    for _, protocol, _, target in service.ports:
        if isinstance(target, int):
            found.add((protocol, target))
        else:
            found |= {(each, port) for name, each, port in endpoint.named_ports if name == target and each == protocol}
    return frozenset(found)


def domain_covers(pattern: str, name: str) -> bool:
    """Whether a domain of a rule covers a learnt name; ``*`` stands for one part of a name or more."""
    name = name.lower()
    before, star, after = pattern.partition("*")
    if not star:
        return name == pattern
    return len(name) > len(before) + len(after) and name.startswith(before) and name.endswith(after)


def _within(each: PortRange, port: int) -> bool:
    return each.low <= port <= each.high


def _named(ports: tuple[PortRange | str, ...], endpoint: Endpoint | None, protocol: int, port: int) -> bool:
    if endpoint is None:
        return False
    names = {each for each in ports if isinstance(each, str)}
    return any(name in names and each == protocol and number == port for name, each, number in endpoint.named_ports)
