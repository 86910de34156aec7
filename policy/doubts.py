"""What the judge can't know, and the verdicts that hang on it: they are named, not guessed. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tierflow.policy.labels import entity_selectors, network_set_labels
from tierflow.policy.scalar import ScalarJudge

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from tierflow.policy.model import EntityRule, NetworkSet, Policy, Resources, Rule
    from tierflow.policy.scalar import Flow


@dataclass(frozen=True, slots=True)
class Unknown:
    """Something that policies depend on and that isn't known here.

    Attributes:
        what: the thing, as the subject of "... are unknown".
        why: the reason.
        users: trace names of the policies whose rules depend on it.
        otherwise: the resources with those rules as if it concerned every flow.
        outside: whether it concerns only flows whose destination is no endpoint of ours.
    """

    what: str
    why: str
    users: tuple[str, ...]
    otherwise: Resources
    outside: bool = False

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
        yield _unknown(resources, what, "it has no selector, and no EndpointSlice names it", _both_sides(known))


def _domains(resources: Resources) -> Iterator[Unknown]:
    if resources.domains:
        return
    rules = [rule for policy in resources.policies for rule in policy.egress]
    for domains in sorted({rule.destination.domains for rule in rules if rule.destination.domains}):

        def known(entity: EntityRule, wanted: tuple[str, ...] = domains) -> EntityRule:
            return replace(entity, domains=()) if entity.domains == wanted else entity

        what = f"the addresses of {', '.join(domains)}"
        yield _unknown(resources, what, "no domain names are learnt", _both_sides(known), outside=True)


def _sets(resources: Resources) -> Iterator[Unknown]:
    for each in resources.network_sets:
        if each.allowed_egress_domains:
            name = each.name if each.namespace is None else f"{each.namespace}/{each.name}"
            what = f"the addresses that network set {name} has by allowedEgressDomains"
            yield _unknown(
                resources, what, "no domain names are learnt", _destination_in(resources, each), outside=True
            )


def _http(resources: Resources) -> Iterator[Unknown]:
    if any(rule.http for policy in resources.policies for rule in (*policy.ingress, *policy.egress)):
        why = "packets don't tell them, and rules are judged without them"
        yield _unknown(resources, "HTTP methods and paths", why, lambda _, rule: None if rule.http else rule)


def _unknown(
    resources: Resources,
    what: str,
    why: str,
    otherwise: Callable[[Policy, Rule], Rule | None],
    *,
    outside: bool = False,
) -> Unknown:
    """``otherwise`` gives a rule as it is with the thing known; None: such a rule doesn't match then."""
    policies = tuple(
        replace(
            policy,
            ingress=tuple(_kept(policy, policy.ingress, otherwise)),
            egress=tuple(_kept(policy, policy.egress, otherwise)),
        )
        for policy in resources.policies
    )
    users = tuple(
        before.trace_name for before, after in zip(resources.policies, policies, strict=True) if before != after
    )
    return Unknown(what, why, users, replace(resources, policies=policies), outside)


def _kept(policy: Policy, rules: Iterable[Rule], otherwise: Callable[[Policy, Rule], Rule | None]) -> Iterator[Rule]:
    return (changed for rule in rules if (changed := otherwise(policy, rule)) is not None)


def _both_sides(known: Callable[[EntityRule], EntityRule]) -> Callable[[Policy, Rule], Rule]:
    return lambda _, rule: replace(rule, source=known(rule.source), destination=known(rule.destination))


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
