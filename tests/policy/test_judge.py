"""The vectorised judge and the plain one agree on everything."""

from __future__ import annotations

import itertools
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.policy.clusters import ADDRESSES, PORTS, Maker

from tierflow.policy import (
    ALLOW,
    DENY,
    EGRESS,
    INGRESS,
    NOT_JUDGED,
    Flow,
    PolicySet,
    Resources,
    ScalarJudge,
    Side,
    compile_policies,
    parse_documents,
)
from tierflow.policy.model import Endpoint
from tierflow.policy.scalar import domain_covers
from tierflow.schemas.record import address_halves

FLOWS = 200


def sides_of(policy_set: PolicySet, sides: list[Side]) -> np.ndarray:
    classes = np.array([policy_set.endpoint_class(s.endpoint) if s.endpoint else -1 for s in sides], np.int32)
    halves = np.array([address_halves(s.address) for s in sides], dtype=np.uint64).reshape(-1, 2)
    return policy_set.sides(classes, halves[:, 0], halves[:, 1])


def random_flows(maker: Maker, count: int) -> list[Flow]:
    pick = maker.random.choice
    ends = [
        Side(address, maker.endpoint(index) if maker.chance(0.7) else None) for index, address in enumerate(ADDRESSES)
    ]
    ends += [Side(pick(ADDRESSES), maker.endpoint(20 + index)) for index in range(6)]
    flows = []
    for _ in range(count):
        destination = pick(ends)
        protocol, port = maker.traffic(destination)
        flows.append(Flow(pick(ends), destination, protocol, pick(PORTS), port))
    return flows


def assert_agree(policy_set: PolicySet, flows: list[Flow]) -> None:
    judge = ScalarJudge(policy_set.resources)
    answer = policy_set.judge(
        sides_of(policy_set, [flow.source for flow in flows]),
        sides_of(policy_set, [flow.destination for flow in flows]),
        np.array([flow.protocol for flow in flows], np.uint8),
        np.array([flow.source_port for flow in flows], np.uint16),
        np.array([flow.dest_port for flow in flows], np.uint16),
    )
    for direction, actions, traces in (
        (EGRESS, answer.egress_action, answer.egress_trace),
        (INGRESS, answer.ingress_action, answer.ingress_trace),
    ):
        for flow, action, number in zip(flows, actions.tolist(), traces.tolist(), strict=True):
            expected = judge.trace(flow, direction)
            if expected is None:
                assert (action, number) == (NOT_JUDGED, -1)
                continue
            assert policy_set.traces[number] == expected, (direction, flow)
            assert action == (ALLOW if expected.action == "allow" else DENY)


@settings(max_examples=100)
@given(st.integers(0, 2**32 - 1))
def test_the_vectorised_judge_equals_the_plain_one(seed: int) -> None:
    maker = Maker(seed)
    policy_set = compile_policies(maker.resources())
    assert_agree(policy_set, random_flows(maker, FLOWS))


@settings(max_examples=15)
@given(st.integers(0, 2**32 - 1))
def test_a_changed_policy_set_equals_one_compiled_afresh(seed: int) -> None:
    maker = Maker(seed)
    policy_set = compile_policies(maker.resources())
    assert_agree(policy_set, random_flows(maker, 40))
    for _ in range(3):
        policy_set = policy_set.with_resources(maker.resources())
        assert_agree(policy_set, random_flows(maker, 40))


@settings(max_examples=15)
@given(st.integers(0, 2**32 - 1))
def test_a_policy_set_with_one_kind_changed_equals_one_compiled_afresh(seed: int) -> None:
    """What didn't change isn't compiled again: it must not have hung on what did."""
    maker = Maker(seed)
    resources = maker.resources()
    policy_set = compile_policies(resources)
    flows = random_flows(maker, 60)
    assert_agree(policy_set, flows)
    for kind in fields(resources):
        resources = replace(resources, **{kind.name: getattr(maker.resources(), kind.name)})
        policy_set = policy_set.with_resources(resources)
        assert_agree(policy_set, flows)


def test_a_service_that_selects_others_changes_what_a_rule_that_names_it_means() -> None:
    def resources(selected: str) -> Resources:
        policy = {
            "apiVersion": "projectcalico.org/v3", "kind": "NetworkPolicy",
            "metadata": {"name": "to-api", "namespace": "shop"},
            "spec": {"selector": "app == 'web'", "types": ["Egress"],
                     "egress": [{"action": "Allow", "destination": {"services": {"name": "api", "namespace": "shop"}}},
                                {"action": "Deny"}]},
        }  # fmt: skip
        service = {
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "api", "namespace": "shop"},
            "spec": {"selector": {"app": selected}, "ports": [{"port": 80}]},
        }  # fmt: skip
        found, problems = parse_documents([("policy", 0, policy), ("service", 0, service)])
        assert problems == []
        return found

    def pod(app: str, address: str) -> Side:
        return Side(address, Endpoint("wep", "shop", app, {"app": app}, "default", (), (address,)))

    flow = Flow(pod("web", "10.0.0.1"), pod("api", "10.0.0.2"), 6, 40_000, 80)
    policy_set = compile_policies(resources("api"))
    for selected, expected in (("api", "allow"), ("other", "deny"), ("api", "allow")):
        policy_set = policy_set.with_resources(resources(selected))
        assert ScalarJudge(policy_set.resources).verdict(flow).action == expected
        assert_agree(policy_set, [flow])


def test_one_policy_replaced_keeps_the_numbers_of_classes() -> None:
    maker = Maker(1)
    first = compile_policies(maker.resources())
    endpoints = [maker.endpoint(index) for index in range(40)]
    before = first.endpoint_classes(endpoints)
    second = first.with_resources(maker.resources())
    assert np.array_equal(second.endpoint_classes(endpoints), before)


def test_equal_endpoints_share_a_class_and_different_ones_do_not() -> None:
    maker = Maker(2)
    policy_set = compile_policies(maker.resources())
    endpoints = [maker.endpoint(index) for index in range(60)]
    classes = policy_set.endpoint_classes(endpoints).tolist()
    for (left, a), (right, b) in itertools.combinations(zip(endpoints, classes, strict=True), 2):
        same = (left.kind, left.namespace, left.labels, left.service_account, left.named_ports) == (
            right.kind,
            right.namespace,
            right.labels,
            right.service_account,
            right.named_ports,
        )
        if left.kind == "wep":
            assert (a == b) == same


@pytest.mark.parametrize("count", [0, 1])
def test_no_flow_and_one_flow_are_judged(count: int) -> None:
    policy_set = compile_policies(Maker(3).resources())
    sides = sides_of(policy_set, [Side("8.8.8.8")] * count)
    answer = policy_set.judge(
        sides, sides, np.zeros(count, np.uint8), np.zeros(count, np.uint16), np.zeros(count, np.uint16)
    )
    assert answer.egress_trace.tolist() == [-1] * count


@pytest.mark.parametrize(
    ("pattern", "name", "covered"),
    [
        ("tigera.io", "Tigera.io", True),
        ("tigera.io", "www.tigera.io", False),
        ("*.google.com", "www.google.com", True),
        ("*.google.com", "www.ipv6.google.com", True),
        ("*.google.com", "google.com", False),
        ("www.*.com", "www.sun.com", True),
        ("www.*.com", "www.com", False),
        ("update.*.corp.com", "update.secure.suite.corp.com", True),
        ("update.*.corp.com", "update.corp.com", False),
    ],
)
def test_an_asterisk_stands_for_one_part_of_a_domain_or_more(pattern: str, name: str, covered: bool) -> None:
    assert domain_covers(pattern, name) is covered
