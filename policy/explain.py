"""Why a flow is allowed or denied: every tier and policy in order, each rule's outcome, and what would change it."""

from __future__ import annotations

import dataclasses
import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from tierflow.policy.labels import endpoint_labels, entity_selectors, network_set_labels, policy_selector
from tierflow.policy.model import EGRESS, INGRESS, EntityRule, PortRange
from tierflow.policy.reasons import Change, changes, failure, selector_text
from tierflow.policy.scalar import Flow, ScalarJudge, Side, icmp_matches
from tierflow.policy.trace import DEFAULT_RULE
from tierflow.schemas.record import protocol_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tierflow.policy.model import Endpoint, Policy, Resources, Rule
    from tierflow.policy.order import OrderedTier
    from tierflow.policy.trace import Hit, Trace

_TRIED: Final = 400
"""Changes that are tried, at most."""


@dataclass(frozen=True, slots=True)
class RuleStep:
    """One rule: ``outcome`` is ``matches``, ``no match`` or ``not reached``; ``why`` says why it doesn't match."""

    index: int
    action: str
    conditions: str
    outcome: str
    why: str


@dataclass(frozen=True, slots=True)
class PolicyStep:
    """One policy: whether it governs the endpoint, and its rules if it does."""

    name: str
    kind: str
    staged: bool
    applies: bool
    why: str
    rules: tuple[RuleStep, ...]


@dataclass(frozen=True, slots=True)
class TierStep:
    """One tier: ``outcome`` in words."""

    name: str
    order: float | None
    default_action: str
    applies: bool
    outcome: str
    policies: tuple[PolicyStep, ...]


@dataclass(frozen=True, slots=True)
class DirectionStep:
    """One direction, seen from the endpoint that it governs."""

    direction: str
    endpoint: str
    labels: dict[str, str]
    action: str
    pending_action: str
    decided_by: str
    enforced: tuple[str, ...]
    pending: tuple[str, ...]
    tiers: tuple[TierStep, ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """One flow; ``nearest_change`` is empty where nothing tried would flip the verdict."""

    source: str
    destination: str
    protocol: str
    dest_port: int
    verdict: str
    pending_verdict: str
    egress: DirectionStep | None
    ingress: DirectionStep | None
    nearest_change: str

    def as_json(self) -> dict[str, Any]:
        """The explanation as plain mappings and lists."""
        return dataclasses.asdict(self)


def explain(resources: Resources, flow: Flow) -> Explanation:
    """Judge one flow and say why."""
    judge = ScalarJudge(resources)
    egress, ingress = judge.trace(flow, EGRESS), judge.trace(flow, INGRESS)
    found = (egress, ingress)
    return Explanation(
        source=side_name(flow.source),
        destination=side_name(flow.destination),
        protocol=protocol_name(flow.protocol),
        dest_port=flow.dest_port,
        verdict=_verdict(found),
        pending_verdict="deny" if any(each and each.pending_action == "deny" for each in found) else "allow",
        egress=_direction(judge, flow, EGRESS, egress),
        ingress=_direction(judge, flow, INGRESS, ingress),
        nearest_change=_nearest_change(resources, flow, _verdict(found)),
    )


def side_name(side: Side) -> str:
    """How a side is called: pod, node, or its address."""
    if side.endpoint is None:
        return side.address
    return f"{side.endpoint.namespace}/{side.endpoint.name}" if side.endpoint.namespace else side.endpoint.name


def _verdict(traces: tuple[Trace | None, Trace | None]) -> str:
    return "deny" if any(each and each.action == "deny" for each in traces) else "allow"


def _direction(judge: ScalarJudge, flow: Flow, direction: str, trace: Trace | None) -> DirectionStep | None:
    subject = flow.source if direction == EGRESS else flow.destination
    if trace is None or subject.endpoint is None:
        return None
    decided = trace.enforced[-1]
    tiers: list[TierStep] = []
    ended = False
    for ordered in judge.tiers:
        if ordered.policies:
            hit = next((each for each in trace.enforced if each.tier == ordered.tier.name), None)
            tiers.append(_tier(judge, flow, direction, ordered, subject.endpoint, hit, ended=ended))
            ended = ended or (hit is not None and hit.action != "pass")
    return DirectionStep(
        direction=direction.lower(),
        endpoint=side_name(subject),
        labels=dict(subject.endpoint.labels),
        action=trace.action,
        pending_action=trace.pending_action,
        decided_by=_decision(decided),
        enforced=trace.enforced_strings(),
        pending=trace.pending_strings(),
        tiers=tuple(tiers),
    )


def _decision(hit: Hit) -> str:
    if hit.policy.kind == "Profile":
        return f"profile {hit.policy.name}: no policy decided, and a namespace allows by default"
    if hit.rule_index == DEFAULT_RULE:
        return f"the default action of tier {hit.tier}: policies such as {hit.trace_name} apply, and no rule matched"
    return f"rule {hit.rule_index} of {hit.trace_name} in tier {hit.tier}"


def _tier(
    judge: ScalarJudge,
    flow: Flow,
    direction: str,
    ordered: OrderedTier,
    subject: Endpoint,
    hit: Hit | None,
    *,
    ended: bool,
) -> TierStep:
    applying = list(judge.applying(subject, direction, ordered))
    labels = endpoint_labels(judge.resources, subject)
    steps: list[PolicyStep] = []
    for policy in ordered.policies:
        applies = any(each is policy for each in applying)
        why = "" if applies else _not_applying(policy, direction, labels)
        rules = tuple(_rules(judge, policy, flow, direction)) if applies else ()
        steps.append(PolicyStep(policy.trace_name, policy.kind, policy.staged, applies, why, rules))
    enforced = [each for each in applying if not each.staged]
    if ended:
        outcome = "not reached"
    elif not enforced:
        outcome = "skipped: " + ("only staged policies apply" if applying else "no policy applies")
    elif hit is not None and hit.rule_index == DEFAULT_RULE:
        outcome = f"no rule matched, so the tier's default action: {hit.action}"
    elif hit is not None:
        outcome = f"{hit.action} by rule {hit.rule_index} of {hit.trace_name}"
    else:
        outcome = "not reached"
    tier = ordered.tier
    return TierStep(tier.name, tier.order, tier.default_action, bool(enforced), outcome, tuple(steps))


def _not_applying(policy: Policy, direction: str, labels: dict[str, str]) -> str:
    if policy.not_judged:
        return f"not judged: {policy.not_judged}"
    if direction not in policy.types:
        return f"it has no {direction.lower()} type"
    return failure(policy_selector(policy), labels)


def _rules(judge: ScalarJudge, policy: Policy, flow: Flow, direction: str) -> Iterator[RuleStep]:
    decided = False
    for index, rule in enumerate(policy.rules(direction)):
        conditions = describe_rule(rule, policy.namespace)
        if decided:
            yield RuleStep(index, rule.action, conditions, "not reached", "")
        elif judge.rule_matches(rule, policy.namespace, flow):
            yield RuleStep(index, rule.action, conditions, "matches", "")
            decided = rule.action != "Log"
        else:
            yield RuleStep(index, rule.action, conditions, "no match", _mismatch(judge, rule, policy.namespace, flow))


def describe_rule(rule: Rule, namespace: str | None) -> str:
    """The conditions of a rule in words; ``anything`` when it has none."""
    parts: list[str] = []
    if rule.protocol is not None:
        parts.append(protocol_name(rule.protocol).upper())
    if rule.not_protocol is not None:
        parts.append(f"not {protocol_name(rule.not_protocol).upper()}")
    if rule.ip_version is not None:
        parts.append(f"IPv{rule.ip_version}")
    for name, icmp in (("ICMP", rule.icmp), ("not ICMP", rule.not_icmp)):
        if icmp is not None:
            parts.append(f"{name} type {icmp.type} code {icmp.code}")
    if rule.http:
        parts.append("HTTP conditions (not judged)")
    for word, entity in (("from", rule.source), ("to", rule.destination)):
        text = _describe_side(entity, namespace)
        if text:
            parts.append(f"{word} {text}")
    return " ".join(parts) or "anything"


def _describe_side(entity: EntityRule, namespace: str | None) -> str:
    selected, excluded = entity_selectors(entity, namespace)
    parts: list[str] = []
    if selected is not None:
        parts.append(f"[{selector_text(selected)}]")
    if excluded is not None:
        parts.append(f"not [{selector_text(excluded)}]")
    if entity.nets:
        parts.append("nets " + ", ".join(entity.nets))
    if entity.not_nets:
        parts.append("not nets " + ", ".join(entity.not_nets))
    if entity.service is not None:
        parts.append(f"service {entity.service.namespace}/{entity.service.name}")
    if entity.domains:
        parts.append("domains " + ", ".join(entity.domains))
    if entity.ports:
        parts.append("ports " + ", ".join(map(str, entity.ports)))
    if entity.not_ports:
        parts.append("not ports " + ", ".join(map(str, entity.not_ports)))
    return " ".join(parts)


def _mismatch(judge: ScalarJudge, rule: Rule, namespace: str | None, flow: Flow) -> str:
    reasons: list[str] = []
    if rule.protocol not in (None, flow.protocol) or rule.not_protocol == flow.protocol:
        reasons.append(f"the protocol is {protocol_name(flow.protocol).upper()}")
    elif not icmp_matches(rule, flow.protocol, flow.dest_port):
        reasons.append(f"ICMP type {flow.dest_port >> 8} code {flow.dest_port & 255}")
    version = ipaddress.ip_address(flow.source.address).version
    if rule.ip_version not in (None, version):
        reasons.append(f"the flow is IPv{version}")
    for word, entity, side, port, with_ports in (
        ("source", rule.source, flow.source, flow.source_port, False),
        ("destination", rule.destination, flow.destination, flow.dest_port, True),
    ):
        if not judge.side_matches(entity, namespace, side, flow.protocol, port, with_ports=with_ports):
            reasons.append(f"{word} {side_name(side)}: {_side_mismatch(judge, entity, namespace, side, port)}")
    return "; ".join(reasons)


def _side_mismatch(judge: ScalarJudge, entity: EntityRule, namespace: str | None, side: Side, port: int) -> str:
    reasons: list[str] = []
    selected, excluded = entity_selectors(entity, namespace)
    address = ipaddress.ip_address(side.address)
    around = {
        each.name: network_set_labels(judge.resources, each)
        for each in judge.resources.network_sets
        if any(address in ipaddress.ip_network(net) for net in each.nets)
    }
    own = endpoint_labels(judge.resources, side.endpoint) if side.endpoint is not None else None
    holders = [*([own] if own is not None else []), *around.values()]
    if selected is not None and not any(selected.matches(each) for each in holders):
        if own is not None:
            reasons.append(failure(selected, own))
        elif around:
            reasons += [f"network set {name}: {failure(selected, labels)}" for name, labels in around.items()]
        else:
            reasons.append("no pod and no network set holds this address")
    if excluded is not None and any(excluded.matches(each) for each in holders):
        reasons.append(f"it is selected by [{selector_text(excluded)}], which is excluded")
    if entity.nets and not any(address in ipaddress.ip_network(net) for net in entity.nets):
        reasons.append(f"{address} is in none of the nets")
    if any(address in ipaddress.ip_network(net) for net in entity.not_nets):
        reasons.append(f"{address} is in one of the excluded nets")
    if entity.domains and not judge.domain_matches(entity, side.address):
        known = "the names of this address are unknown" if not judge.resources.domains else "no learnt name fits"
        reasons.append(known)
    if entity.service is not None:
        reasons.append(f"not a backend of service {entity.service.namespace}/{entity.service.name}")
    if (entity.ports or entity.not_ports) and not reasons:
        reasons.append(f"port {port}")
    return "; ".join(reasons)


def _nearest_change(resources: Resources, flow: Flow, verdict: str) -> str:
    """The smallest change of one end's labels, or of the port, that gives the other verdict; tried, not guessed."""
    judge = ScalarJudge(resources)
    wanted = "allow" if verdict == "deny" else "deny"
    for change, end in sorted(_candidates(judge, flow), key=_rank)[:_TRIED]:
        side = flow.source if end == "source" else flow.destination
        if side.endpoint is None or not change:
            continue
        changed = Side(side.address, _changed(side.endpoint, change))
        source, destination = (changed, flow.destination) if end == "source" else (flow.source, changed)
        other = dataclasses.replace(flow, source=source, destination=destination)
        if _verdict((judge.trace(other, EGRESS), judge.trace(other, INGRESS))) == wanted:
            return f"{_in_words(side, change)}, the verdict would be {wanted}"
    for port in sorted(set(_ports(judge))):
        other = dataclasses.replace(flow, dest_port=port)
        if port != flow.dest_port and _verdict((judge.trace(other, EGRESS), judge.trace(other, INGRESS))) == wanted:
            return f"with destination port {port}, the verdict would be {wanted}"
    return ""


def _rank(candidate: tuple[Change, str]) -> tuple[int, bool, int, str]:
    """Few changes before many, the source's before the destination's, labels added before labels taken away."""
    change, end = candidate
    removals = sum(value is None for _, value in change)
    return len(change), end != "source", removals, repr(sorted(change, key=str))


def _candidates(judge: ScalarJudge, flow: Flow) -> set[tuple[Change, str]]:
    found: set[tuple[Change, str]] = set()
    labels = {
        end: endpoint_labels(judge.resources, side.endpoint)
        for end, side in (("source", flow.source), ("destination", flow.destination))
        if side.endpoint is not None
    }
    for policy in judge.resources.policies:
        if policy.staged or policy.not_judged:
            continue
        for end, own in labels.items():
            found |= {
                (each, end)
                for each in changes(policy_selector(policy), own, selected=not policy_selector(policy).matches(own))
            }
            for rule in (*policy.ingress, *policy.egress):
                selected, _ = entity_selectors(rule.source if end == "source" else rule.destination, policy.namespace)
                if selected is not None:
                    found |= {(each, end) for each in changes(selected, own, selected=not selected.matches(own))}
    return found


def _changed(endpoint: Endpoint, change: Change) -> Endpoint:
    labels = dict(endpoint.labels)
    for label, value in change:
        if value is None:
            labels.pop(label, None)
        else:
            labels[label] = value
    return dataclasses.replace(endpoint, labels=labels)


def _in_words(side: Side, change: Change) -> str:
    own = side.endpoint.labels if side.endpoint is not None else {}
    parts: list[str] = []
    for label, value in sorted(change, key=str):
        now = f'{label}="{own[label]}"' if label in own else f"no label {label}"
        parts.append(f"{now}; " + (f"without {label}" if value is None else f'with {label}="{value}"'))
    return f"{side_name(side)} has {', '.join(parts)}"


def _ports(judge: ScalarJudge) -> Iterator[int]:
    for policy in judge.resources.policies:
        for rule in (*policy.ingress, *policy.egress):
            for port in rule.destination.ports:
                if isinstance(port, PortRange):
                    yield port.low
