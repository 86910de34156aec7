"""The policy board: tiers and policies in the order of evaluation, with how many endpoints each governs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tierflow.policy.labels import endpoint_labels, policy_selector
from tierflow.policy.order import ordered_tiers
from tierflow.policy.reasons import selector_text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tierflow.policy.model import Endpoint, Policy, Resources


@dataclass(frozen=True, slots=True)
class BoardPolicy:
    """One policy as a card.

    Attributes:
        selector: as written; ``all()`` when absent.
        applies_to: all that chooses its endpoints, in words.
        endpoints: how many those are.
    """

    kind: str
    namespace: str | None
    name: str
    trace_name: str
    order: float | None
    selector: str
    applies_to: str
    types: tuple[str, ...]
    staged: bool
    ingress_rules: int
    egress_rules: int
    endpoints: int
    not_judged: str


@dataclass(frozen=True, slots=True)
class BoardTier:
    """One tier as a column."""

    name: str
    order: float | None
    default_action: str
    policies: tuple[BoardPolicy, ...]


def board(resources: Resources, endpoints: Iterable[Endpoint]) -> tuple[BoardTier, ...]:
    """All tiers, also those without policies, left to right; their policies top to bottom."""
    labels = [endpoint_labels(resources, endpoint) for endpoint in endpoints]
    return tuple(
        BoardTier(
            ordered.tier.name,
            ordered.tier.order,
            ordered.tier.default_action,
            tuple(_card(policy, labels) for policy in ordered.policies),
        )
        for ordered in ordered_tiers(resources)
    )


def _card(policy: Policy, labels: list[dict[str, str]]) -> BoardPolicy:
    selector = policy_selector(policy)
    return BoardPolicy(
        kind=policy.kind,
        namespace=policy.namespace,
        name=policy.name,
        trace_name=policy.trace_name,
        order=policy.order,
        selector=policy.selector or "all()",
        applies_to=selector_text(selector),
        types=policy.types,
        staged=policy.staged,
        ingress_rules=len(policy.ingress),
        egress_rules=len(policy.egress),
        endpoints=sum(selector.matches(each) for each in labels),
        not_judged=policy.not_judged,
    )
