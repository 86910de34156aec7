"""Kubernetes' cluster-wide policies: admin before and baseline after NetworkPolicies, by the network-policy API."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from tierflow.policy import EGRESS, INGRESS, Endpoint, Flow, Policy, Resources, ScalarJudge, Side, parse_documents

NAMESPACES = """
{apiVersion: v1, kind: Namespace, metadata: {name: shop, labels: {team: web}}}
---
{apiVersion: v1, kind: Namespace, metadata: {name: lab, labels: {team: science}}}
---
{apiVersion: v1, kind: Namespace, metadata: {name: ops, labels: {team: ops}}}
"""
NODE = """
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: {name: node-a}
spec: {node: node-a, interfaceName: '*'}
"""
WEB_ONLY = "{namespaces: {matchLabels: {team: web}}}"
SCIENCE = "{namespaces: {matchLabels: {team: science}}}"
OPS = "{namespaces: {matchLabels: {team: ops}}}"


def admin(name: str, priority: int, rules: str, subject: str = WEB_ONLY) -> str:
    head = f"apiVersion: policy.networking.k8s.io/v1alpha1, kind: AdminNetworkPolicy, metadata: {{name: {name}}}"
    return f"{{{head}, spec: {{priority: {priority}, subject: {subject}, {rules}}}}}"


def baseline(rules: str, subject: str = WEB_ONLY) -> str:
    head = "apiVersion: policy.networking.k8s.io/v1alpha1, kind: BaselineAdminNetworkPolicy, metadata: {name: default}"
    return f"{{{head}, spec: {{subject: {subject}, {rules}}}}}"


def cluster(name: str, tier: str, priority: int, rules: str, subject: str = WEB_ONLY) -> str:
    head = f"apiVersion: policy.networking.k8s.io/v1alpha2, kind: ClusterNetworkPolicy, metadata: {{name: {name}}}"
    return f"{{{head}, spec: {{tier: {tier}, priority: {priority}, subject: {subject}, {rules}}}}}"


def network_policy(rules: str) -> str:
    head = "apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: own, namespace: shop}"
    return f"{{{head}, spec: {{podSelector: {{}}, {rules}}}}}"


def resources(*documents: str) -> Resources:
    text = "\n---\n".join([NAMESPACES, NODE, *documents])
    found, problems = parse_documents([("a.yaml", i, each) for i, each in enumerate(yaml.safe_load_all(text))])
    assert [str(each) for each in problems] == []
    return found


PORTS = (("http", 6, 8080), ("dns", 17, 5353), ("metrics", 6, 9090))
SHOP = Side("10.0.0.1", Endpoint("wep", "shop", "cart", {"app": "cart"}, "default", PORTS))
LAB = Side("10.0.0.2", Endpoint("wep", "lab", "probe", {"app": "probe"}, "default", PORTS))
LAB_V6 = Side("fd00::2", Endpoint("wep", "lab", "probe", {"app": "probe"}, "default", PORTS))
OPS_POD = Side("10.0.0.3", Endpoint("wep", "ops", "agent", {"app": "agent"}, "default", PORTS))
A_NODE = Side("10.0.0.4", Endpoint("hep", "", "node-a", {"team": "web"}))
OUTSIDE = Side("198.51.100.7")


def ingress(found: Resources, source: Side, port: int = 80, protocol: int = 6, to: Side = SHOP) -> tuple[str, ...]:
    trace = ScalarJudge(found).trace(Flow(source, to, protocol, 40000, port), INGRESS)
    assert trace is not None
    return trace.enforced_strings()


def egress(found: Resources, to: Side, port: int = 80, protocol: int = 6, source: Side = SHOP) -> tuple[str, ...]:
    trace = ScalarJudge(found).trace(Flow(source, to, protocol, 40000, port), EGRESS)
    assert trace is not None
    return trace.enforced_strings()


def rule(action: str, peer: str, more: str = "") -> str:
    return f"{{action: {action}, from: [{peer}]{more}}}"


def to_rule(action: str, peer: str, more: str = "") -> str:
    return f"{{action: {action}, to: [{peer}]{more}}}"


PROFILE = "__PROFILE__|__PROFILE__.kns.shop|allow|0"


def test_the_lower_priority_number_is_asked_first_whatever_the_order_of_writing() -> None:
    late = admin("late", 50, f"ingress: [{rule('Deny', SCIENCE)}]")
    early = admin("early", 40, f"ingress: [{rule('Allow', SCIENCE)}]")
    assert ingress(resources(late, early), LAB) == ("0|adminnetworkpolicy|kanp.adminnetworkpolicy.early|allow|0",)
    later = admin("early", 60, f"ingress: [{rule('Allow', SCIENCE)}]")
    assert ingress(resources(late, later), LAB) == ("0|adminnetworkpolicy|kanp.adminnetworkpolicy.late|deny|0",)


def test_priority_0_is_the_first_and_equal_priorities_go_by_name() -> None:
    policies = [admin(name, priority, f"ingress: [{rule('Deny', SCIENCE)}]") for name, priority in (("b", 0), ("a", 1))]
    assert ingress(resources(*policies), LAB)[0].split("|")[2] == "kanp.adminnetworkpolicy.b"
    policies = [admin(name, 5, f"ingress: [{rule('Deny', SCIENCE)}]") for name in ("b", "a")]
    assert ingress(resources(*policies), LAB)[0].split("|")[2] == "kanp.adminnetworkpolicy.a"


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        ("Accept", ("0|kube-admin|kcnp.kube-admin.first|allow|0",)),
        ("Deny", ("0|kube-admin|kcnp.kube-admin.first|deny|0",)),
        ("Pass", ("0|kube-admin|kcnp.kube-admin.first|pass|0", "1|default|shop/knp.default.own|deny|-1")),
    ],
)
def test_accept_and_deny_are_final_and_pass_asks_the_network_policies(action: str, expected: tuple[str, ...]) -> None:
    first = cluster("first", "Admin", 1, f"ingress: [{rule(action, SCIENCE)}, {rule('Deny', SCIENCE)}]")
    second = cluster("second", "Admin", 2, f"ingress: [{rule('Accept', SCIENCE)}]")
    assert ingress(resources(first, second, network_policy("policyTypes: [Ingress]")), LAB) == expected


def test_a_pass_without_a_network_policy_asks_the_baseline() -> None:
    documents = [
        cluster("first", "Admin", 1, f"ingress: [{rule('Pass', SCIENCE)}]"),
        cluster("last", "Baseline", 1, f"ingress: [{rule('Deny', SCIENCE)}]"),
    ]
    assert ingress(resources(*documents), LAB) == (
        "0|kube-admin|kcnp.kube-admin.first|pass|0",
        "1|kube-baseline|kcnp.kube-baseline.last|deny|0",
    )


def test_a_network_policy_that_selects_the_pod_decides_before_the_baseline() -> None:
    documents = [network_policy("ingress: [{}]"), baseline(f"ingress: [{rule('Deny', SCIENCE)}]")]
    assert ingress(resources(*documents), LAB) == ("0|default|shop/knp.default.own|allow|0",)


def test_what_no_tier_decides_is_allowed() -> None:
    documents = [
        admin("first", 1, f"ingress: [{rule('Deny', SCIENCE)}]"),
        baseline(f"ingress: [{rule('Deny', SCIENCE)}]"),
    ]
    assert ingress(resources(*documents), OPS_POD) == (
        "0|adminnetworkpolicy|kanp.adminnetworkpolicy.first|pass|-1",
        "1|baselineadminnetworkpolicy|kbanp.baselineadminnetworkpolicy.default|pass|-1",
        f"2|{PROFILE}",
    )


def test_a_policy_without_rules_of_a_direction_leaves_that_direction_alone() -> None:
    found = resources(admin("first", 1, f"ingress: [{rule('Deny', SCIENCE)}]"), admin("none", 2, "egress: []"))
    assert egress(found, LAB) == (f"0|{PROFILE}",)
    assert [policy.types for policy in found.policies] == [(INGRESS,), ()]


def test_the_subject_is_pods_of_namespaces_and_never_a_node() -> None:
    everything = "{namespaces: {}}"
    found = resources(admin("all", 1, f"ingress: [{rule('Deny', SCIENCE)}]", everything))
    assert ingress(found, LAB, to=OPS_POD)[0].endswith("|deny|0")
    assert ingress(found, LAB, to=A_NODE)[0] == "0|__PROFILE__|__PROFILE__.__NO_MATCH__|deny|-1"


def test_the_subject_can_be_chosen_pods_of_chosen_namespaces() -> None:
    subject = "{pods: {namespaceSelector: {matchLabels: {team: web}}, podSelector: {matchLabels: {app: cart}}}}"
    found = resources(admin("some", 1, f"ingress: [{rule('Deny', SCIENCE)}]", subject))
    other = Side("10.0.0.9", Endpoint("wep", "shop", "till", {"app": "till"}))
    assert ingress(found, LAB)[0].endswith("|deny|0")
    assert ingress(found, LAB, to=other) == (f"0|{PROFILE}",)


def test_peers_are_pods_of_namespaces_with_both_selectors_at_once() -> None:
    peer = "{pods: {namespaceSelector: {matchLabels: {team: science}}, podSelector: {matchLabels: {app: agent}}}}"
    found = resources(admin("peer", 1, f"ingress: [{rule('Deny', peer)}]"))
    agent = Side("10.0.0.8", Endpoint("wep", "lab", "agent", {"app": "agent"}))
    assert ingress(found, agent)[0].endswith("|deny|0")
    assert ingress(found, LAB)[0].endswith("|pass|-1")
    assert ingress(found, OPS_POD)[0].endswith("|pass|-1")


@pytest.mark.parametrize("side", [A_NODE, OUTSIDE])
def test_a_peer_of_all_namespaces_is_no_node_and_nobody_outside(side: Side) -> None:
    found = resources(admin("pods", 1, f"ingress: [{rule('Deny', '{namespaces: {}}')}]"))
    assert ingress(found, side)[0].endswith("|pass|-1")


@pytest.mark.parametrize(
    ("protocol", "port", "action"),
    [(6, 80, "deny"), (17, 80, "pass"), (6, 8080, "deny"), (6, 8081, "pass"), (17, 100, "deny"), (17, 201, "pass")],
)
def test_ports_are_numbers_ranges_and_names(protocol: int, port: int, action: str) -> None:
    ports = (
        "{portNumber: {port: 80, protocol: TCP}}, {portRange: {protocol: UDP, start: 100, end: 200}}, {namedPort: http}"
    )
    found = resources(admin("ports", 1, f"ingress: [{rule('Deny', SCIENCE, f', ports: [{ports}]')}]"))
    assert ingress(found, LAB, port, protocol)[0].split("|")[3] == action


def test_a_named_port_has_the_protocol_that_the_pod_gives_it() -> None:
    more = ", protocols: [{destinationNamedPort: dns}]"
    found = resources(cluster("named", "Admin", 1, f"ingress: [{rule('Accept', SCIENCE, more)}]"))
    assert ingress(found, LAB, 5353, 17)[0].endswith("|allow|0")
    assert ingress(found, LAB, 5353, 6)[0].endswith("|pass|-1")


def test_rules_are_counted_per_protocol_and_peer_names_first() -> None:
    more = (
        ", protocols: [{udp: {destinationPort: {number: 53}}}, {tcp: {}}, {destinationNamedPort: metrics}, {sctp: {}}]"
    )
    both = f"{SCIENCE}, {OPS}"
    found = resources(cluster("many", "Admin", 1, f"ingress: [{rule('Accept', both, more)}]"))
    assert [each.protocol for each in found.policies[0].ingress] == [None, None, 132, 132, 6, 6, 17, 17]
    assert ingress(found, OPS_POD, 9090)[0].endswith("|allow|1")
    assert ingress(found, OPS_POD, 22)[0].endswith("|allow|5")
    assert ingress(found, LAB, 53, 17)[0].endswith("|allow|6")


def test_every_port_of_a_protocol_takes_in_the_single_ones() -> None:
    ports = "{destinationPort: {number: 80}}", "{}", "{destinationPort: {range: {start: 1, end: 2}}}"
    more = f", protocols: [{', '.join(f'{{tcp: {each}}}' for each in ports)}]"
    found = resources(cluster("wide", "Admin", 1, f"ingress: [{rule('Accept', SCIENCE, more)}]"))
    assert [each.destination.ports for each in found.policies[0].ingress] == [()]


def test_networks_match_whoever_holds_the_address() -> None:
    peer = "{networks: [10.0.0.0/30, 'fd00::/16', 198.51.100.0/24]}"
    found = resources(admin("nets", 1, f"egress: [{to_rule('Deny', peer)}]"))
    for side in (LAB, OPS_POD, LAB_V6, OUTSIDE):
        assert egress(found, side)[0].endswith("|deny|0")
    assert egress(found, Side("203.0.113.1"))[0].endswith("|pass|-1")


def test_pods_are_passed_before_a_rule_of_all_networks() -> None:
    rules = f"egress: [{to_rule('Pass', '{namespaces: {}}')}, {to_rule('Deny', '{networks: [0.0.0.0/0]}')}]"
    found = resources(cluster("outside", "Admin", 1, rules))
    assert egress(found, LAB) == ("0|kube-admin|kcnp.kube-admin.outside|pass|0", f"1|{PROFILE}")
    assert egress(found, OUTSIDE) == ("0|kube-admin|kcnp.kube-admin.outside|deny|1",)


def test_a_destination_is_still_asked_when_the_source_may_send() -> None:
    sends = admin("sends", 1, f"egress: [{to_rule('Allow', SCIENCE)}]")
    refuses = admin("refuses", 1, f"ingress: [{rule('Deny', WEB_ONLY)}]", SCIENCE)
    found = resources(sends, refuses)
    assert egress(found, LAB)[0].endswith("|allow|0")
    assert ingress(found, SHOP, to=LAB)[0].endswith("|deny|0")


def test_domain_names_match_learnt_addresses_only() -> None:
    peer = "{domainNames: ['*.example.com']}"
    documents = [cluster("names", "Admin", 1, f"egress: [{to_rule('Accept', peer)}]")]
    found = resources(*documents)
    assert egress(found, OUTSIDE)[0].endswith("|pass|-1")
    learnt = Resources(policies=found.policies, domains={"api.example.com": ("198.51.100.7/32",)})
    assert egress(learnt, OUTSIDE)[0].endswith("|allow|0")


def test_admin_tiers_stand_before_written_tiers_and_baselines_behind_the_default() -> None:
    written = "{apiVersion: projectcalico.org/v3, kind: Tier, metadata: {name: security}, spec: {order: 2000}}"
    passes = (
        "{apiVersion: projectcalico.org/v3, kind: GlobalNetworkPolicy, metadata: {name: security.pass}, "
        "spec: {tier: security, ingress: [{action: Pass}]}}"
    )
    documents = [
        written,
        passes,
        admin("first", 1, f"ingress: [{rule('Pass', SCIENCE)}]"),
        baseline(f"ingress: [{rule('Allow', SCIENCE)}]"),
    ]
    assert [entry.split("|")[1] for entry in ingress(resources(*documents), LAB)] == [
        "adminnetworkpolicy",
        "security",
        "baselineadminnetworkpolicy",
    ]


@pytest.mark.parametrize("version", ["v1alpha2", "v1beta1", "v1"])
def test_newer_versions_of_a_cluster_network_policy_read_the_same(version: str) -> None:
    text = cluster("x", "Admin", 1, f"ingress: [{rule('Deny', SCIENCE)}]")
    manifest: dict[str, Any] = yaml.safe_load(text.replace("v1alpha2", version))
    found, problems = parse_documents([("a", 0, manifest)])
    assert problems == []
    assert found.policies == resources(text).policies


def test_the_default_of_policy_types_counts_egress_only_with_rules() -> None:
    def types(rules: str) -> tuple[str, ...]:
        policy: Policy = resources(network_policy(rules)).policies[0]
        return policy.types

    assert types("ingress: []") == (INGRESS,)
    assert types("egress: []") == (INGRESS,)
    assert types("egress: [{}]") == (INGRESS, EGRESS)
    assert types("policyTypes: [Egress]") == (EGRESS,)
