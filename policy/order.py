"""The order of evaluation: tiers by order then name, policies by order then name, namespace, kind."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tierflow.policy.model import DEFAULT_TIER, DEFAULT_TIER_ORDER, Tier

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tierflow.policy.model import Policy, Resources

BUILT_IN: Final = (
    Tier(DEFAULT_TIER, DEFAULT_TIER_ORDER, "Deny"),
    Tier("kube-admin", 1_000.0, "Pass"),
    Tier("kube-baseline", 10_000_000.0, "Pass"),
    Tier("adminnetworkpolicy", 1_000.0, "Pass"),
    Tier("baselineadminnetworkpolicy", 10_000_000.0, "Pass"),
)
"""Tiers that exist without being written, when a policy names them; tier ``default`` always."""


@dataclass(frozen=True, slots=True)
class OrderedTier:
    """A tier with its policies in the order of evaluation."""

    tier: Tier
    policies: tuple[Policy, ...]


def ordered_tiers(resources: Resources) -> tuple[OrderedTier, ...]:
    """All tiers in order, with their policies in order.

    A tier that policies name but nobody wrote comes last, as upstream; parsing has reported it.
    """
    tiers = {tier.name: tier for tier in resources.tiers}
    members: dict[str, list[Policy]] = {name: [] for name in tiers}
    for policy in resources.policies:
        members.setdefault(policy.tier, []).append(policy)
    for tier in BUILT_IN:
        if tier.name == DEFAULT_TIER or tier.name in members:
            tiers.setdefault(tier.name, tier)
    for name in members:
        tiers.setdefault(name, Tier(name, None))
    ranked = sorted(tiers.values(), key=lambda tier: (math.inf if tier.order is None else tier.order, tier.name))
    return tuple(OrderedTier(tier, ordered_policies(members.get(tier.name, ()))) for tier in ranked)


def ordered_policies(policies: Iterable[Policy]) -> tuple[Policy, ...]:
    """Policies of one tier in order; no order comes last."""
    return tuple(
        sorted(
            policies,
            key=lambda policy: (
                math.inf if policy.order is None else policy.order,
                f"{policy.name}/{policy.namespace or ''}/{policy.kind}",
            ),
        )
    )
