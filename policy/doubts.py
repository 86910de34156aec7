"""What the judge can't know, and the verdicts that hang on it: they are named, not guessed. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from tierflow.policy.labels import entity_selectors, network_set_labels
from tierflow.policy.scalar import ScalarJudge

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from tierflow.policy.model import EntityRule, NetworkSet, Policy, Resources, Rule
    from tierflow.policy.scalar import Flow

SERVICE: Final = "service"
DOMAIN: Final = "domain"
NETWORK_SET: Final = "network-set"
HTTP: Final = "http"
KINDS: Final = (SERVICE, DOMAIN, NETWORK_SET, HTTP)
"""What may be unknown."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """Something that policies depend on and that isn't known here.

    Attributes:
        kind: one of :data:`KINDS`.
        what: the thing, as the subject of "... are unknown".
        why: the reason.
        resources: that depend on it, if any does.
        known: a rule as it is with the thing known, the same where that is no matter; None: it doesn't match then.
        outside: whether it concerns only flows whose destination is no endpoint of ours.
    """

    kind: str
    what: str
    why: str
    resources: Resources
    known: Callable[[Policy, Rule], Rule | None]
    outside: bool = False

    @property
    def users(self) -> tuple[str, ...]:
        """Trace names of the policies whose rules depend on it."""
        return tuple(
            policy.trace_name
            for policy in self.resources.policies
            if any(self.known(policy, rule) is not rule for rule in (*policy.ingress, *policy.egress))
        )

    @property
    def otherwise(self) -> Resources:
        """The resources with those rules as if it concerned every flow."""
        policies = (
            replace(policy, ingress=self._kept(policy, policy.ingress), egress=self._kept(policy, policy.egress))
            for policy in self.resources.policies
        )
        return replace(self.resources, policies=tuple(policies))

    def _kept(self, policy: Policy, rules: Iterable[Rule]) -> tuple[Rule, ...]:
        return tuple(known for rule in rules if (known := self.known(policy, rule)) is not None)

    def __str__(self) -> str:
        return f"{self.what} are unknown: {self.why}"


def unknowns(resources: Resources) -> list[Unknown]:
    """All that rules depend on and that isn't known, each thing once."""
    return [*_services(resources), *_domains(resources), *_sets(resources), *_http(resources)]


class Doubts:
    """Finds the unknowns that could turn a verdict; one of these serves many flows."""

    def __init__(self, resources: Resources) -> None:
        self._judge = ScalarJudge(resources)
        self._others = [(each, ScalarJudge(each.otherwise)) for each in unknowns(resources)]

    def about(self, flow: Flow) -> tuple[str, ...]:
        """One sentence for each unknown with which the flow, or what is pending for it, would be judged otherwise."""
        if not self._others:
            return ()
        verdict = self._judge.verdict(flow)
        found = []
        for unknown, judge in self._others:
            if unknown.outside and flow.destination.endpoint is not None:
                continue
            other = judge.verdict(flow)
            if other.action != verdict.action:
                found.append(f"{unknown}; it may be {other.action}")
            elif other.pending_action != verdict.pending_action:
                found.append(f"{unknown}; with staged policies it may be {other.pending_action}")
        return tuple(found)


def _services(resources: Resources) -> Iterator[Unknown]:
    without = {(each.namespace, each.name) for each in resources.services if each.unknown}
    named = {
        (side.service.namespace, side.service.name)
        for policy in resources.policies
        for rule in (*policy.ingress, *policy.egress)
        for side in (rule.source, rule.destination)
        if side.service is not None
    }
    for namespace, name in sorted(without & named):

        def known(entity: EntityRule, wanted: tuple[str, str] = (namespace, name)) -> EntityRule:
            service = entity.service
            is_it = service is not None and (service.namespace, service.name) == wanted
            return replace(entity, service=None) if is_it else entity

        what = f"the backends of service {namespace}/{name}"
        yield Unknown(SERVICE, what, "it has no selector, and no EndpointSlice names it", resources, _both_sides(known))


def _domains(resources: Resources) -> Iterator[Unknown]:
    if resources.domains:
        return
    rules = [rule for policy in resources.policies for rule in policy.egress]
    for domains in sorted({rule.destination.domains for rule in rules if rule.destination.domains}):

        def known(entity: EntityRule, wanted: tuple[str, ...] = domains) -> EntityRule:
            return replace(entity, domains=()) if entity.domains == wanted else entity

        what = f"the addresses of {', '.join(domains)}"
        yield Unknown(DOMAIN, what, "no domain names are learnt", resources, _both_sides(known), outside=True)


def _sets(resources: Resources) -> Iterator[Unknown]:
    for each in resources.network_sets:
        if each.allowed_egress_domains:
            name = each.name if each.namespace is None else f"{each.namespace}/{each.name}"
            what = f"the addresses that network set {name} has by allowedEgressDomains"
            known = _destination_in(resources, each)
            yield Unknown(NETWORK_SET, what, "no domain names are learnt", resources, known, outside=True)


def _http(resources: Resources) -> Iterator[Unknown]:
    if any(rule.http for policy in resources.policies for rule in (*policy.ingress, *policy.egress)):
        why = "packets don't tell them, and rules are judged without them"
        yield Unknown(HTTP, "HTTP methods and paths", why, resources, lambda _, rule: None if rule.http else rule)


def _both_sides(known: Callable[[EntityRule], EntityRule]) -> Callable[[Policy, Rule], Rule]:
    def otherwise(_: Policy, rule: Rule) -> Rule:
        source, destination = known(rule.source), known(rule.destination)
        if source is rule.source and destination is rule.destination:
            return rule
        return replace(rule, source=source, destination=destination)

    return otherwise


def _destination_in(resources: Resources, network_set: NetworkSet) -> Callable[[Policy, Rule], Rule | None]:
    """Rules as if every destination were in the set."""
    labels = network_set_labels(resources, network_set)

    def otherwise(policy: Policy, rule: Rule) -> Rule | None:
        selected, excluded = entity_selectors(rule.destination, policy.namespace)
        if excluded is not None and excluded.matches(labels):
            return None
        if selected is None or not selected.matches(labels):
            return rule
        return replace(
            rule,
            destination=replace(
                rule.destination, selector="", not_selector="", namespace_selector="", service_account_names=(),
                service_account_selector="",
            ),
        )  # fmt: skip

    return otherwise
