"""The board and one policy from what is in force and what the counters say; pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import yaml

from tierflow.console.server.sentence import rule_sentence
from tierflow.policy.labels import (
    NAMESPACE,
    NAMESPACE_PREFIX,
    SERVICE_ACCOUNT_PREFIX,
    endpoint_labels,
    entity_selectors,
    network_set_labels,
    policy_selector,
)
from tierflow.policy.model import EGRESS, INGRESS, Endpoint, Policy, Resources
from tierflow.policy.order import ordered_tiers
from tierflow.policy.trace import PROFILE_TIER

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from tierflow.policy.model import EntityRule
    from tierflow.sinks.read.interface import RuleStatistics

SPARK_BUCKETS: Final = 30
ENDS: Final = ("source_namespace", "source_name_aggr", "dest_namespace", "dest_name_aggr")
INHERITED: Final = (f"{NAMESPACE.partition('/')[0]}/", NAMESPACE_PREFIX, SERVICE_ACCOUNT_PREFIX)
"""Prefixes of labels that an endpoint doesn't carry itself."""
_ACTIONS: Final = {"allow": "allowed", "deny": "denied", "pass": "passed"}


@dataclass(frozen=True, slots=True)
class InForce:
    """What is in force now: policies, the endpoints alive, and each policy's manifest where it is known."""

    resources: Resources
    endpoints: tuple[Endpoint, ...]
    manifests: Mapping[str, Mapping[str, Any]]
    names: tuple[str, ...] = ()
    """Aggregated names of the endpoints, in their order."""

    def labels(self) -> list[dict[str, str]]:
        """The labels of each endpoint, inherited ones included, in the order of ``endpoints``."""
        return [endpoint_labels(self.resources, endpoint) for endpoint in self.endpoints]


def rates(rows: Iterable[RuleStatistics], covered_s: int) -> dict[str, Any]:
    """Rates per second of a policy's or rule's counters; in and out as its endpoint sees them."""
    totals: dict[tuple[str, str, str], float] = defaultdict(float)
    for row in rows:
        way = "in" if row.rule_direction == "ingress" else "out"
        totals["connections", "", way] += row.connections
        name = _ACTIONS.get(row.action)
        if name is None:
            continue
        for unit in ("packets", "bytes"):
            for side in ("in", "out"):
                totals[name, unit, side] += getattr(row, f"{unit}_{side}")

    def both(name: str, unit: str) -> dict[str, float]:
        return {side: totals[name, unit, side] / covered_s for side in ("in", "out")}

    traffic = {name: {unit: both(name, unit) for unit in ("packets", "bytes")} for name in _ACTIONS.values()}
    return {"connections": both("connections", ""), **traffic}


def board(now: InForce, counters: Sequence[RuleStatistics], range_s: int, covered_s: int) -> list[dict[str, Any]]:
    """Tiers in order with their policies in order.

    Args:
        now: what is in force.
        counters: sums per rule over the range, with :data:`SPARK_BUCKETS` buckets.
        range_s: width of the range.
        covered_s: how much of it is stored, which rates are over.
    """
    by_policy = _by_policy(counters)
    alike = _alike(now.labels())
    return [
        {
            "name": each.tier.name,
            "order": each.tier.order,
            "default_action": each.tier.default_action,
            "policies": [
                {
                    **_identity(policy),
                    "endpoints": _selected(policy, alike),
                    "rates": rates(by_policy[policy.trace_name], covered_s),
                    "spark": _spark(by_policy[policy.trace_name], range_s),
                }
                for policy in each.policies
            ],
        }
        for each in ordered_tiers(now.resources)
    ]


def policy_page(now: InForce, policy: Policy, counters: Sequence[RuleStatistics], covered_s: int) -> dict[str, Any]:
    """One policy with its rules, what each did, and the endpoints it selects."""
    mine = _by_policy(counters)[policy.trace_name]
    labels = now.labels()
    selects = policy_selector(policy)
    chosen = [endpoint for endpoint, own in zip(now.endpoints, labels, strict=True) if selects.matches(own)]
    return {
        **_identity(policy),
        "tier": policy.tier,
        "last_evaluated_s": max((row.last_evaluated_s for row in mine), default=None),
        "ingress": _rules(now, policy, INGRESS, mine, labels, covered_s),
        "egress": _rules(now, policy, EGRESS, mine, labels, covered_s),
        "selected": [{"namespace": each.namespace or "-", "name": each.name, "type": each.kind} for each in chosen],
        "yaml": _text(now.manifests.get(policy.trace_name)),
    }


def _text(manifest: Mapping[str, Any] | None) -> str:
    return "" if manifest is None else yaml.safe_dump(dict(manifest), sort_keys=False, allow_unicode=True)


def find_policy(now: InForce, identity: str) -> Policy | None:
    """The policy whose name in a trace is ``identity``."""
    return next((policy for policy in now.resources.policies if policy.trace_name == identity), None)


def _identity(policy: Policy) -> dict[str, Any]:
    return {
        "id": policy.trace_name,
        "name": policy.base_name,
        "namespace": policy.namespace,
        "kind": policy.kind,
        "staged": policy.staged,
        "order": policy.order,
        "selector": _applies_to(policy),
    }


def _applies_to(policy: Policy) -> str:
    parts = [policy.selector or "all()"]
    if policy.namespace_selector:
        parts.append(f"in namespaces {policy.namespace_selector}")
    if policy.service_account_selector:
        parts.append(f"with service accounts {policy.service_account_selector}")
    return ", ".join(parts)


def _rules(
    now: InForce,
    policy: Policy,
    direction: str,
    counters: Sequence[RuleStatistics],
    labels: Sequence[Mapping[str, str]],
    covered_s: int,
) -> list[dict[str, Any]]:
    mine = [row for row in counters if row.rule_direction == direction.lower()]
    told = [
        {
            "index": index,
            "action": rule.action.lower(),
            "sentence": rule_sentence(rule, direction),
            "endpoints": {
                "in": _peers(now, rule.source, policy, labels) if direction == INGRESS else 0,
                "out": _peers(now, rule.destination, policy, labels) if direction == EGRESS else 0,
            },
            **_done([row for row in mine if row.rule_index == index], covered_s),
        }
        for index, rule in enumerate(policy.rules(direction))
    ]
    at_end = [row for row in mine if row.rule_index == -1]
    if at_end:
        action = at_end[0].action
        words = {"text": f"End of the tier: {action} what no rule of the tier matched", "strong": False}
        told.append(
            {
                "index": -1,
                "action": action,
                "sentence": [words],
                "endpoints": {"in": None, "out": None},
                **_done(at_end, covered_s),
            }
        )
    return told


def _done(rows: Sequence[RuleStatistics], covered_s: int) -> dict[str, Any]:
    """What a rule did, and when it was last hit."""
    return {
        "rates": rates(rows, covered_s),
        "last_evaluated_s": max((row.last_evaluated_s for row in rows), default=None),
    }


def applied(now: InForce, namespace: str, name: str) -> dict[str, Any]:
    """The policies that apply to the endpoints of an aggregated name, in the order of evaluation."""
    found = [
        labels
        for endpoint, each, labels in zip(now.endpoints, now.names, now.labels(), strict=True)
        if each == name and (endpoint.namespace or "-") == namespace
    ]
    policies = [
        {
            "id": policy.trace_name,
            "name": policy.base_name,
            "tier": tier.tier.name,
            "staged": policy.staged,
            "directions": [way.lower() for way in (INGRESS, EGRESS) if way in policy.types],
        }
        for tier in ordered_tiers(now.resources)
        for policy in tier.policies
        if any(policy_selector(policy).matches(labels) for labels in found)
    ]
    shared = set.intersection(*(set(labels.items()) for labels in found)) if found else set()
    own = sorted(f"{key}={value}" for key, value in shared if not key.startswith(INHERITED))
    return {"endpoints": len(found), "labels": own, "policies": policies}


def _peers(now: InForce, entity: EntityRule, policy: Policy, labels: Sequence[Mapping[str, str]]) -> int:
    """Endpoints and network sets that a side of a rule selects; 0 where it selects by nothing."""
    selected, _ = entity_selectors(entity, policy.namespace)
    if selected is None:
        return 0
    sets = (network_set_labels(now.resources, each) for each in now.resources.network_sets)
    return sum(selected.matches(each) for each in (*labels, *sets))


def _alike(labels: Iterable[Mapping[str, str]]) -> list[tuple[dict[str, str], int]]:
    """Each set of labels once, with how many endpoints have it: replicas are asked about together."""
    counted = Counter(frozenset(each.items()) for each in labels)
    return [(dict(items), endpoints) for items, endpoints in counted.items()]


def _selected(policy: Policy, alike: Sequence[tuple[Mapping[str, str], int]]) -> int:
    selects = policy_selector(policy)
    return sum(endpoints for labels, endpoints in alike if selects.matches(labels))


def _by_policy(rows: Iterable[RuleStatistics]) -> defaultdict[str, list[RuleStatistics]]:
    found: defaultdict[str, list[RuleStatistics]] = defaultdict(list)
    for row in rows:
        found[row.policy].append(row)
    return found


def _spark(rows: Iterable[RuleStatistics], range_s: int) -> list[float]:
    """Bytes per second over the range, oldest first."""
    buckets = [0.0] * SPARK_BUCKETS
    for row in rows:
        for at, size in enumerate(row.bucket_bytes[:SPARK_BUCKETS]):
            buckets[at] += size * SPARK_BUCKETS / range_s
    return buckets


def no_policy(counters: Sequence[RuleStatistics], covered_s: int) -> dict[str, float]:
    """Rates of what no tier decided: the profile did. A flow that both its ends report counts once."""
    totals = {"ingress": [0, 0, 0], "egress": [0, 0, 0]}
    for row in counters:
        if row.tier == PROFILE_TIER:
            total = totals[row.rule_direction]
            total[0] += row.connections
            total[1] += row.packets_in + row.packets_out
            total[2] += row.bytes_in + row.bytes_out
    most = max(totals.values())
    return dict(zip(("connections", "packets", "bytes"), (value / covered_s for value in most), strict=True))


def denials(logs: Sequence[dict[str, Any]], name: str, most: int) -> list[dict[str, Any]]:
    """Who is denied by a policy, most packets first.

    Args:
        logs: flat flow logs that were denied.
        name: the policy's name in a trace.
        most: rows answered.
    """
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for log in logs:
        last = max(log["policies.enforced_policies"] or ("0||||-2",), key=lambda hit: int(hit.partition("|")[0] or 0))
        _, _, policy, action, *rule = last.split("|")
        if policy != name or action != "deny":
            continue
        direction = "ingress" if log["reporter"] == "dst" else "egress"
        ends = {each: log[each] for each in ENDS}
        source = f"{log['source_namespace']}:{log['source_name_aggr']}"
        dest = f"{log['dest_namespace']}:{log['dest_name_aggr']}"
        index = int(rule[0]) if rule else -2
        entry = found.setdefault(
            (direction, index, source, dest),
            {
                "direction": direction,
                "rule_index": index,
                "source": source,
                "dest": dest,
                "packets": 0,
                "connections": 0,
                "filter": ["action:deny", f"reporter:{log['reporter']}", *(f"{k}:{v}" for k, v in ends.items())],
            },
        )
        entry["packets"] += log["packets_in"] + log["packets_out"]
        entry["connections"] += log["num_flows_started"]
    ranked = sorted(found.values(), key=lambda entry: (-entry["packets"], entry["source"], entry["dest"]))
    return ranked[:most]
