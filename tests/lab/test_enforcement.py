"""nftables rules from compiled policies."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest
import yaml
from tests.lab.test_manifests import storefront

from tierflow.lab import enforcement, pods, services
from tierflow.lab.manifests import Service, ServicePort
from tierflow.policy import Endpoint, compile_policies, enforcement_plan, parse_documents
from tierflow.schemas.clock import ManualClock

if TYPE_CHECKING:
    from tests.lab.conftest import Node

POLICIES = """
apiVersion: projectcalico.org/v3
kind: Tier
metadata: {name: first}
spec: {order: 1}
---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: first.every-condition}
spec:
  tier: first
  order: 1
  selector: app == "a"
  types: [Ingress, Egress]
  ingress:
    - {action: Log, protocol: TCP}
    - {action: Allow, protocol: TCP, source: {selector: app == "b"}, destination: {ports: [80, "1000:2000", http]}}
    - {action: Deny, protocol: ICMP, icmp: {type: 8, code: 0}}
    - {action: Deny, protocol: ICMP, notICMP: {type: 8}}
    - {action: Deny, protocol: ICMP, notICMP: {type: 8, code: 0}}
    - {action: Pass, notProtocol: UDP, source: {notNets: [10.0.0.0/8, 10.244.0.0/16]}}
    - {action: Deny, protocol: ICMPv6, icmp: {type: 128}}
    - {action: Deny, notICMP: {type: 3, code: 1}}
    - {action: Allow, destination: {ports: [http]}}
  egress:
    - {action: Deny, destination: {nets: [0.0.0.0/0], notSelector: app == "b"}}
    - {action: Allow, protocol: TCP, destination: {notPorts: [22, http, "8000:8005"]}}
    - {action: Allow, ipVersion: 6}
    - {action: Deny, destination: {nets: ["fd00::/8"]}}
    - {action: Deny, destination: {selector: app == "nobody"}}
---
apiVersion: projectcalico.org/v3
kind: StagedGlobalNetworkPolicy
metadata: {name: first.staged}
spec: {tier: first, selector: all(), types: [Ingress, Egress]}
"""


def endpoint(name: str, address: str) -> Endpoint:
    return Endpoint("wep", "ns", name, {"app": name}, "", (("http", 6, 8080),), (address, "fd00::1"))


def rules() -> str:
    documents = [("p.yaml", index, each) for index, each in enumerate(yaml.safe_load_all(POLICIES))]
    resources, problems = parse_documents(documents)
    assert not problems
    members = [endpoint("a", "10.244.0.1"), endpoint("b", "10.244.0.2")]
    plans = enforcement_plan(compile_policies(resources), members)
    return enforcement.ruleset([("tfa", plans[0]), ("tfb", plans[1])])


def rules_of(text: str, comment: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if f'comment "{comment}"' in line]


@pytest.mark.root
def test_nft_accepts_a_rule_of_every_condition(node: Node) -> None:
    done = subprocess.run(
        ["nsenter", f"--net=/run/netns/{node.name}", "nft", "-c", "-f", "-"],
        input=rules(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_pass_goes_to_the_next_tier_allow_returns_and_the_end_of_the_tier_drops() -> None:
    text = rules()
    (passed,) = rules_of(text, "first.every-condition ingress 5")
    assert "goto tfa_ingress_1" in passed
    assert all("counter return" in rule for rule in rules_of(text, "first.every-condition ingress 1"))
    assert rules_of(text, "first.every-condition ingress end of tier") == [
        'counter drop comment "first.every-condition ingress end of tier"'
    ]
    assert rules_of(text, "__PROFILE__.kns.ns ingress end of tier")[0].startswith("counter return")


def test_what_can_not_match_an_ipv4_packet_or_is_staged_has_no_rule() -> None:
    text = rules()
    for index in (2, 3, 4):
        assert rules_of(text, f"first.every-condition egress {index}") == []
    assert "staged" not in text


def test_what_is_not_icmp_is_not_of_the_excluded_type_either() -> None:
    assert rules_of(rules(), "first.every-condition ingress 7") == [
        'icmp type . icmp code != { 3 . 1 } counter drop comment "first.every-condition ingress 7"',
        'meta l4proto != 1 counter drop comment "first.every-condition ingress 7"',
    ]
    assert rules_of(rules(), "first.every-condition ingress 6") == []


def test_a_named_port_without_a_protocol_has_the_one_that_the_pod_gives_it() -> None:
    found = rules_of(rules(), "first.every-condition ingress 8")
    assert found
    assert all(rule.startswith("meta l4proto 6 ") for rule in found)


def test_the_same_addresses_are_one_set() -> None:
    text = rules()
    assert text.count("elements = { 10.244.0.2/32 }") == 1


@pytest.mark.root
def test_a_service_turns_between_its_backends_and_refuses_without_any(node: Node) -> None:
    frontend = storefront()["storefront/frontend"]
    members = [pods.new_pod(frontend, f"10.244.0.{host}", "tierflow-x-", ManualClock()) for host in (8, 9)]
    http = (ServicePort("tcp", 80, 8080),)
    two = Service("storefront", "frontend", "10.96.0.1", {"app": "frontend"}, http)
    none = Service("storefront", "nobody", "10.96.0.2", {"app": "nobody"}, http)
    text = services.ruleset([two, none], members)
    assert "numgen inc mod 2 map { 0 : 10.244.0.8, 1 : 10.244.0.9 }" in text
    assert "ip daddr 10.96.0.2 tcp dport 80 reject" in text
    done = subprocess.run(
        ["nsenter", f"--net=/run/netns/{node.name}", "nft", "-c", "-f", "-"],
        input=text, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
