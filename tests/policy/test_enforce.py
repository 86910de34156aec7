"""The enforcement plan, walked by an enforcer that knows addresses and ports only, equals the plain judge."""

from __future__ import annotations

import dataclasses
import ipaddress
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.policy.clusters import ADDRESSES, PORTS, Maker

from tierflow.policy import (
    EGRESS,
    INGRESS,
    Endpoint,
    EntityRule,
    Flow,
    Policy,
    PortRange,
    ResolvedSide,
    Resources,
    Rule,
    ScalarJudge,
    Service,
    ServiceName,
    Side,
    compile_policies,
    enforcement_plan,
)
from tierflow.policy.enforce import PeerPorts
from tierflow.policy.model import Backends
from tierflow.policy.scalar import icmp_matches

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tierflow.policy import ResolvedRule, ResolvedTier

FLOWS = 150


def inside(address: str, cidrs: Iterable[str]) -> bool:
    parsed = ipaddress.ip_address(address)
    return any(parsed in ipaddress.ip_network(cidr) for cidr in cidrs)


def among(port: int, ranges: tuple[PortRange, ...] | None) -> bool:
    return ranges is None or any(each.low <= port <= each.high for each in ranges)


def peer_matches(peer: PeerPorts, address: str, port: int, *, any_address: bool) -> bool:
    return ((any_address and not peer.cidrs) or inside(address, peer.cidrs)) and among(port, peer.ports)


def side_matches(side: ResolvedSide, address: str, port: int) -> bool:
    if inside(address, side.not_cidrs) or (side.not_ports and among(port, side.not_ports)):
        return False
    if any(peer_matches(each, address, port, any_address=False) for each in side.not_named):
        return False
    return any(peer_matches(each, address, port, any_address=side.any_address) for each in side.alternatives)


def rule_matches(rule: ResolvedRule, flow: Flow) -> bool:
    if rule.protocol not in (None, flow.protocol) or flow.protocol in rule.not_protocols:
        return False
    versions = {ipaddress.ip_address(side.address).version for side in (flow.source, flow.destination)}
    if rule.ip_version is not None and versions != {rule.ip_version}:
        return False
    if not icmp_matches(Rule("Allow", icmp=rule.icmp, not_icmp=rule.not_icmp), flow.protocol, flow.dest_port):
        return False
    return side_matches(rule.source, flow.source.address, flow.source_port) and side_matches(
        rule.destination, flow.destination.address, flow.dest_port
    )


def walked(tiers: tuple[ResolvedTier, ...], flow: Flow) -> list[tuple[str, str]]:
    """(tier, action) of every tier on the way, the last one final."""
    found: list[tuple[str, str]] = []
    for tier in tiers:
        rule = next((each for each in tier.rules if each.action != "log" and rule_matches(each, flow)), None)
        found.append((tier.name, rule.action if rule else tier.default_action))
        if found[-1][1] != "pass":
            return found
    raise AssertionError("the last tier passes")


def assert_plan_equals_judge(resources: Resources, sides: list[Side], flows: list[Flow]) -> int:
    """Compare; the number of verdicts compared."""
    judge = ScalarJudge(resources)
    endpoints = [side.endpoint for side in sides if side.endpoint is not None]
    plans = {id(plan.endpoint): plan for plan in enforcement_plan(compile_policies(resources), endpoints)}
    compared = 0
    for flow in flows:
        for direction, subject in ((EGRESS, flow.source.endpoint), (INGRESS, flow.destination.endpoint)):
            trace = judge.trace(flow, direction)
            if trace is None or subject is None:
                continue
            plan = plans[id(subject)]
            tiers = plan.egress if direction == EGRESS else plan.ingress
            assert walked(tiers, flow) == [(hit.tier, hit.action) for hit in trace.enforced], (direction, flow)
            compared += 1
    return compared


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1))
def test_the_plan_equals_the_plain_judge(seed: int) -> None:
    maker = Maker(seed)
    resources = maker.resources()
    pick = maker.random.choice
    holders = [
        Side(address, dataclasses.replace(maker.endpoint(index), addresses=(address,)))
        for index, address in enumerate(ADDRESSES)
        if maker.chance(0.7)
    ]
    sides = [*holders, *(Side(address) for address in ADDRESSES if address not in {each.address for each in holders})]
    flows = []
    for _ in range(FLOWS):
        destination = pick(sides)
        protocol, port = maker.traffic(destination)
        flows.append(Flow(pick(sides), destination, protocol, pick(PORTS), port))
    assert_plan_equals_judge(resources, sides, flows)


def test_staged_and_not_judged_policies_are_absent_and_a_tier_names_its_last_policy() -> None:
    deny = (Rule("Deny"),)
    resources = Resources(
        policies=(
            Policy("GlobalNetworkPolicy", None, "first", order=1.0, ingress=(Rule("Log"), *deny)),
            Policy("GlobalNetworkPolicy", None, "second", order=2.0, ingress=deny),
            Policy("StagedGlobalNetworkPolicy", None, "third", order=3.0, ingress=deny, staged=True),
            Policy("GlobalNetworkPolicy", None, "fourth", order=4.0, ingress=deny, not_judged="preDNAT"),
        )
    )
    pod = Endpoint("wep", "shop", "cart", {}, "", (), ("10.0.0.1",))
    (plan,) = enforcement_plan(compile_policies(resources), [pod])
    tier, profile = plan.ingress
    assert [(rule.action, rule.trace_name, rule.rule_index) for rule in tier.rules] == [
        ("log", "default.first", 0),
        ("deny", "default.first", 1),
        ("deny", "default.second", 0),
    ]
    assert (tier.last, tier.default_action) == ("default.second", "deny")
    assert (profile.name, profile.default_action, profile.last) == (
        "__PROFILE__",
        "allow",
        "__PROFILE__.kns.shop",
    )
    assert [each.name for each in plan.egress] == ["__PROFILE__"]


def test_a_service_is_its_pods_at_its_ports_by_protocol() -> None:
    to = EntityRule(service=ServiceName("shop", "dns"))
    policy = Policy("NetworkPolicy", "shop", "out", types=(EGRESS,), egress=(Rule("Allow", destination=to),))
    service = Service("shop", "dns", (("app", "dns"),), (("a", 17, 53, "dns"), ("b", 6, 53, 5353)))
    pods = [
        Endpoint("wep", "shop", "dns", {"app": "dns"}, "", (("dns", 17, 5300),), ("10.0.0.1",)),
        Endpoint("wep", "shop", "cart", {}, "", (), ("10.0.0.2",)),
    ]
    resources = Resources(policies=(policy,), services=(service,))
    plan = enforcement_plan(compile_policies(resources), pods)[1]
    found = {rule.protocol: rule.destination.alternatives for rule in plan.egress[0].rules}
    assert {protocol: each[0].ports for protocol, each in found.items()} == {
        6: (PortRange(5353, 5353),),
        17: (PortRange(5300, 5300),),
        132: (),
    }


def test_a_service_that_sends_may_be_held_to_ports() -> None:
    sender = EntityRule(service=ServiceName("shop", "web"), ports=(PortRange(1000, 2000), "http"))
    rule = Rule("Allow", protocol=6, source=sender)
    policy = Policy("NetworkPolicy", "shop", "in", ingress=(rule,))
    service = Service("shop", "web", (("app", "web"),), (("a", 6, 80, 8080),))
    pod = Endpoint("wep", "shop", "web", {"app": "web"}, "", (("http", 6, 8080), ("http", 17, 53)), ("10.0.0.1",))
    resources = Resources(policies=(policy,), services=(service,))
    (plan,) = enforcement_plan(compile_policies(resources), [pod])
    (peer,) = plan.ingress[0].rules[0].source.alternatives
    assert (peer.cidrs, peer.ports) == (("10.0.0.1/32",), (PortRange(1000, 2000), PortRange(8080, 8080)))
    side = Side("10.0.0.1", pod)
    flows = [Flow(side, side, 6, port, 1) for port in (999, 1000, 2000, 8080, 53)]
    assert assert_plan_equals_judge(resources, [side], flows) == 10


def test_a_service_with_a_slice_written_by_hand_is_its_addresses_on_the_slices_ports() -> None:
    ledger = Service("shop", "ledger", (), (), (Backends(("10.0.0.1", "fd00::1"), (("", 6, 8443), ("d", 17, 53))),))
    to = Rule("Allow", destination=EntityRule(service=ServiceName("shop", "ledger")))
    sender = EntityRule(service=ServiceName("shop", "ledger"), ports=(PortRange(1000, 2000), "http"))
    policy = Policy(
        "NetworkPolicy",
        "shop",
        "ledger",
        types=(INGRESS, EGRESS),
        ingress=(Rule("Allow", 6, source=sender),),
        egress=(to,),
    )
    pod = Endpoint("wep", "shop", "web", {}, "", (("http", 6, 80),), ("10.0.0.1",))
    resources = Resources(policies=(policy,), services=(ledger,))
    (plan,) = enforcement_plan(compile_policies(resources), [pod])
    nets = ("10.0.0.1/32", "fd00::1/128")
    found = {rule.protocol: rule.destination.alternatives for rule in plan.egress[0].rules}
    assert found == {
        6: (PeerPorts(nets, (PortRange(8443, 8443),)),),
        17: (PeerPorts(nets, (PortRange(53, 53),)),),
        132: (PeerPorts(nets, ()),),
    }
    assert plan.ingress[0].rules[0].source.alternatives == (
        PeerPorts(nets, (PortRange(1000, 2000),)),
        PeerPorts(("10.0.0.1/32",), (PortRange(80, 80),)),
    )
    sides = [Side("10.0.0.1", pod), Side("fd00::1"), Side("10.0.0.2")]
    flows = [
        Flow(source, destination, protocol, port, number)
        for source in sides for destination in sides for protocol in (6, 17, 132)
        for port in (80, 999, 1000) for number in (53, 8443)
    ]  # fmt: skip
    assert assert_plan_equals_judge(resources, sides, flows) == 108
