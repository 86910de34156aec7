"""The NetworkPolicy of Kubernetes' documentation ("The NetworkPolicy resource") as a table."""

from __future__ import annotations

import pytest

from tierflow.policy import Endpoint, Flow, Side, judge_flow, parse_documents

DATABASE = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "NetworkPolicy",
    "metadata": {"name": "test-network-policy", "namespace": "default"},
    "spec": {
        "podSelector": {"matchLabels": {"role": "db"}},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [
            {
                "from": [
                    {"ipBlock": {"cidr": "172.17.0.0/16", "except": ["172.17.1.0/24"]}},
                    {"namespaceSelector": {"matchLabels": {"project": "myproject"}}},
                    {"podSelector": {"matchLabels": {"role": "frontend"}}},
                ],
                "ports": [{"protocol": "TCP", "port": 6379}],
            }
        ],
        "egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.0/24"}}], "ports": [{"protocol": "TCP", "port": 5978}]}],
    },
}
PROJECT = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "p", "labels": {"project": "myproject"}}}


def pod(namespace: str, role: str, address: str) -> Side:
    return Side(address, Endpoint("wep", namespace, role, {"role": role}))


DB = pod("default", "db", "192.168.0.1")


@pytest.mark.parametrize(
    ("source", "port", "last"),
    [
        (Side("172.17.5.5"), 6379, "0|default|default/knp.default.test-network-policy|allow|0"),
        (Side("172.17.1.5"), 6379, "0|default|default/knp.default.test-network-policy|deny|-1"),
        (pod("p", "any", "192.168.0.2"), 6379, "0|default|default/knp.default.test-network-policy|allow|1"),
        (pod("default", "frontend", "192.168.0.3"), 6379, "0|default|default/knp.default.test-network-policy|allow|2"),
        (pod("other", "frontend", "192.168.0.4"), 6379, "0|default|default/knp.default.test-network-policy|deny|-1"),
        (pod("default", "frontend", "192.168.0.3"), 80, "0|default|default/knp.default.test-network-policy|deny|-1"),
    ],
)
def test_ingress_of_the_database(source: Side, port: int, last: str) -> None:
    resources, problems = parse_documents([("a.yaml", 0, DATABASE), ("a.yaml", 1, PROJECT)])
    assert problems == []
    trace = judge_flow(resources, Flow(source, DB, 6, 40000, port)).ingress
    assert trace is not None
    assert trace.enforced_strings() == (last,)


@pytest.mark.parametrize(("address", "port", "action"), [("10.0.0.9", 5978, "allow"), ("10.0.1.9", 5978, "deny")])
def test_egress_of_the_database(address: str, port: int, action: str) -> None:
    resources, _ = parse_documents([("a.yaml", 0, DATABASE)])
    trace = judge_flow(resources, Flow(DB, Side(address), 6, 40000, port)).egress
    assert trace is not None
    assert trace.action == action
