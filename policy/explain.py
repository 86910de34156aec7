"""Why a flow is allowed or denied: every tier and policy in order, each rule's outcome, and what would change it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from tierflow.policy.describe import describe_rule, mismatch, side_name
from tierflow.policy.doubts import Doubts
from tierflow.policy.labels import endpoint_labels, policy_selector
from tierflow.policy.model import EGRESS, INGRESS
from tierflow.policy.nearest import nearest_change
from tierflow.policy.reasons import failure, selector_text
from tierflow.policy.scalar import Flow, ScalarJudge
from tierflow.policy.trace import DEFAULT_RULE
from tierflow.schemas.record import protocol_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tierflow.policy.model import Endpoint, Policy, Resources
    from tierflow.policy.order import OrderedTier
    from tierflow.policy.trace import Hit, Trace

_REASONS: Final = 5
"""Rules that would have decided otherwise, at most so many in the short answer."""


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
    """One policy: whether it governs the endpoint and why, and its rules if it does."""

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
    """One direction, seen from the endpoint that it governs.

    Attributes:
        decided_by: the rule, tier or profile that decides.
        because: why that one: which policy applies to the endpoint, and which of its earlier rules don't match.
    """

    direction: str
    endpoint: str
    labels: dict[str, str]
    action: str
    pending_action: str
    decided_by: str
    because: tuple[str, ...]
    enforced: tuple[str, ...]
    pending: tuple[str, ...]
    tiers: tuple[TierStep, ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """One flow.

    Attributes:
        uncertain: what isn't known here and would change the verdict; empty when nothing would.
        nearest_change: empty where nothing tried would flip the verdict.
    """

    source: str
    destination: str
    protocol: str
    dest_port: int
    verdict: str
    pending_verdict: str
    egress: DirectionStep | None
    ingress: DirectionStep | None
    uncertain: tuple[str, ...]
    nearest_change: str

    def as_json(self) -> dict[str, Any]:
        """The explanation as plain mappings and lists."""
        return dataclasses.asdict(self)


def explain(resources: Resources, flow: Flow) -> Explanation:
    """Judge one flow and say why."""
    judge = ScalarJudge(resources)
    verdict = judge.verdict(flow)
    return Explanation(
        source=side_name(flow.source),
        destination=side_name(flow.destination),
        protocol=protocol_name(flow.protocol),
        dest_port=flow.dest_port,
        verdict=verdict.action,
        pending_verdict=verdict.pending_action,
        egress=_direction(judge, flow, EGRESS, verdict.egress),
        ingress=_direction(judge, flow, INGRESS, verdict.ingress),
        uncertain=Doubts(resources).about(flow),
        nearest_change=nearest_change(judge, flow, verdict.action),
    )


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
        because=tuple(_because(decided, tiers)),
        enforced=trace.enforced_strings(),
        pending=trace.pending_strings(),
        tiers=tuple(tiers),
    )


def _decision(hit: Hit) -> str:
    if hit.policy.kind == "Profile" and hit.rule_index == DEFAULT_RULE:
        return "no policy and no profile allowing it"
    if hit.policy.kind == "Profile":
        return f"profile {hit.policy.name}, as no policy decided"
    if hit.rule_index == DEFAULT_RULE:
        return f"the end of tier {hit.tier}: a policy there applies, no rule matched, and the default is {hit.action}"
    return f"rule {hit.rule_index} of {hit.trace_name} in tier {hit.tier}"


def _because(hit: Hit, tiers: list[TierStep]) -> Iterator[str]:
    """Why this hit decides: the policies of its tier that apply, up to it, and their rules that would do otherwise."""
    tier = next((each for each in tiers if each.name == hit.tier), None)
    if tier is None:
        passed = [each.name for each in tiers if each.applies]
        yield f"passed on by tier {', then tier '.join(passed)}" if passed else "no policy of any tier applies"
        return
    others: list[str] = []
    for policy in tier.policies:
        if not policy.applies or policy.staged:
            continue
        decides = policy.name == hit.trace_name and hit.rule_index != DEFAULT_RULE
        if decides or hit.rule_index == DEFAULT_RULE:
            yield f"{policy.name} applies: {policy.why}"
        for rule in policy.rules:
            if rule.outcome == "no match" and rule.action.lower() not in (hit.action, "log"):
                others.append(
                    f"rule {rule.index} of {policy.name} would {rule.action} {rule.conditions}; but {rule.why}"
                )
            if decides and rule.index == hit.rule_index:
                others.append(f"rule {rule.index} of {policy.name} is: {rule.action} {rule.conditions}")
        if decides:
            break
    yield from others[:_REASONS] if len(others) <= _REASONS else (*others[: _REASONS - 1], others[-1])


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
        why = _applying(policy) if applies else _not_applying(policy, direction, labels)
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


def _applying(policy: Policy) -> str:
    text = selector_text(policy_selector(policy))
    return "it is for every endpoint" if text == "all()" else f"it is for [{text}]"


def _not_applying(policy: Policy, direction: str, labels: dict[str, str]) -> str:
    if policy.not_judged:
        return f"not judged: {policy.not_judged}"
    if direction not in policy.types:
        return "it governs ingress only" if direction == EGRESS else "it governs egress only"
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
            yield RuleStep(index, rule.action, conditions, "no match", mismatch(judge, rule, policy.namespace, flow))
