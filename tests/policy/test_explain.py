"""Explanations agree with the judge, leave nothing without a reason, and name changes that do what they say."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.policy.clusters import Maker
from tests.policy.test_judge import random_flows
from tests.policy.test_selector import labels, nodes, values

from tierflow.policy import (
    Endpoint,
    EntityRule,
    Flow,
    Policy,
    PortRange,
    Resources,
    Rule,
    ScalarJudge,
    Side,
)
from tierflow.policy.explain import explain
from tierflow.policy.reasons import changes, failure
from tierflow.policy.selector import Compare, Has, Or
from tierflow.policy.trace import DEFAULT_RULE

if TYPE_CHECKING:
    from tierflow.policy import Hit, Trace
    from tierflow.policy.explain import DirectionStep
    from tierflow.policy.selector import Node


def assert_says_why(step: DirectionStep, trace: Trace) -> None:
    assert step.enforced == trace.enforced_strings()
    assert (step.action, step.pending_action) == (trace.action, trace.pending_action)
    hits: dict[str, Hit] = {hit.tier: hit for hit in trace.enforced}
    for tier in step.tiers:
        matching = [
            (policy.name, rule.index)
            for policy in tier.policies
            if policy.applies and not policy.staged
            for rule in policy.rules
            if rule.outcome == "matches" and rule.action != "Log"
        ]
        if tier.name in hits and hits[tier.name].rule_index != DEFAULT_RULE:
            assert matching[0] == (hits[tier.name].trace_name, hits[tier.name].rule_index)
        elif tier.name in hits:
            assert matching == []
        for policy in tier.policies:
            assert policy.why
            assert all(rule.why for rule in policy.rules if rule.outcome == "no match"), policy


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1))
def test_an_explanation_agrees_with_the_judge_and_gives_every_reason(seed: int) -> None:
    maker = Maker(seed)
    resources = maker.resources()
    judge = ScalarJudge(resources)
    for flow in random_flows(maker, 8):
        found = explain(resources, flow)
        verdict = judge.verdict(flow)
        assert found.verdict == verdict.action
        assert json.dumps(found.as_json())
        for step, trace in ((found.egress, verdict.egress), (found.ingress, verdict.ingress)):
            assert (step is None) == (trace is None)
            if step is not None and trace is not None:
                assert_says_why(step, trace)


@example(Or((Has("app"), Compare("app", "!=", ""))), {}, False)
@given(nodes, st.dictionaries(labels, values, max_size=4), st.booleans())
def test_every_change_named_makes_the_selector_select_or_not(node: Node, own: dict[str, str], selected: bool) -> None:
    for change in changes(node, own, selected=selected):
        after = own | {label: value for label, value in change if value is not None}
        for label, value in change:
            if value is None:
                after.pop(label, None)
        assert node.matches(after) == selected
    if not node.matches(own):
        assert failure(node, own)


POD = Side("10.0.0.1", Endpoint("wep", "shop", "cart", {"app": "cart"}, "", (), ("10.0.0.1",)))
OTHER = Side("10.0.0.2", Endpoint("wep", "shop", "till", {"app": "till"}, "", (), ("10.0.0.2",)))


@pytest.mark.parametrize(
    ("rule", "port", "nearest"),
    [
        (
            Rule("Allow", source=EntityRule(selector="zone == 'a'")),
            80,
            'shop/cart has no label zone; with zone="a", the verdict would be allow',
        ),
        (
            Rule("Allow", protocol=6, destination=EntityRule(ports=(PortRange(443, 450),))),
            80,
            "with destination port 443, the verdict would be allow",
        ),
        (
            Rule("Allow", source=EntityRule(selector="app != 'cart'")),
            80,
            'shop/cart has app="cart"; without app, the verdict would be allow',
        ),
        (Rule("Allow", source=EntityRule(nets=("192.0.2.0/24",))), 80, ""),
    ],
)
def test_the_nearest_change_is_named(rule: Rule, port: int, nearest: str) -> None:
    resources = Resources(policies=(Policy("NetworkPolicy", "shop", "in", ingress=(rule,)),))
    found = explain(resources, Flow(POD, OTHER, 6, 40000, port))
    assert (found.verdict, found.nearest_change) == ("deny", nearest)


def test_a_deny_at_the_end_of_a_tier_names_its_policies_and_what_they_would_allow() -> None:
    policies = tuple(
        Policy("NetworkPolicy", "shop", name, ingress=(Rule("Allow", source=EntityRule(selector=f"zone == '{name}'")),))
        for name in ("a", "b")
    )
    step = explain(Resources(policies=policies), Flow(POD, OTHER, 6, 40000, 80)).ingress
    assert step is not None
    assert step.decided_by == (
        "the end of tier default: a policy there applies, no rule matched, and the default is deny"
    )
    assert step.because == (
        *(f'shop/default.{name} applies: it is for [namespace == "shop"]' for name in "ab"),
        *(
            f'rule 0 of shop/default.{name} would Allow from [namespace == "shop" && zone == "{name}"]; '
            f'but source shop/cart: no label zone, wanted "{name}"'
            for name in "ab"
        ),
    )


def test_the_verdict_stays_where_an_address_was_learnt_for_no_name() -> None:
    rule = Rule("Allow", destination=EntityRule(domains=("*.example.com",)))
    policy = Policy("NetworkPolicy", "shop", "out", types=("Egress",), egress=(rule,))
    flow = Flow(POD, Side("198.51.100.7"), 6, 40000, 443)
    for domains, said in (
        ({}, "the names of this address are unknown"),
        ({"www.example.org": ("198.51.100.7/32",)}, "no learnt name fits"),
    ):
        step = explain(Resources(policies=(policy,), domains=domains), flow).egress
        assert step is not None
        assert said in step.because[-1]
