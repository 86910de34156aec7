"""Kubernetes objects reduced: names, addresses of nodes and Services, EndpointSlices, and odd fields."""

from __future__ import annotations

import contextlib
import copy
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.inventory.test_manifests import pod, reduced
from tierflow.inventory.fields import MalformedObject
from tierflow.inventory.kinds import kind_of
from tierflow.inventory.kubernetes.api import Api
from tierflow.inventory.kubernetes.watch import KindWatch
from tierflow.inventory.names import NAMINGS
from tierflow.inventory.objects import reduce
from tierflow.schemas.clock import SystemClock
from tierflow.schemas.metrics import Metrics


def owned(kind: str, owner: str, **metadata: Any) -> dict[str, Any]:
    owners = [{"kind": "Other", "name": "x"}, {"kind": kind, "name": owner, "controller": True}]
    return pod("web", metadata={"ownerReferences": owners} | metadata)


@pytest.mark.parametrize(
    ("manifest", "calico", "owner"),
    [
        (pod("alone"), "alone", "alone"),
        (owned("ReplicaSet", "web-6d99", name="web-6d99-x", generateName="web-6d99-"), "web-6d99-*", "web-6d99-*"),
        (owned("StatefulSet", "db", name="db-0", generateName="db-"), "db-*", "db-*"),
        (owned("StatefulSet", "db", name="db-0"), "db-0", "db-*"),
        (owned("DaemonSet", "agent", name="agent-x7", generateName="agent-"), "agent-*", "agent-*"),
        (owned("PodSet", "kafka", name="kafka-2"), "kafka-2", "kafka-*"),
        (owned("Job", "migrate", name="migrate-q", generateName="migrate-"), "migrate-*", "migrate-*"),
        # The second index of an indexed Job, and one run of a CronJob.
        (owned("Job", "train", name="train-1-q", generateName="train-1-"), "train-1-*", "train-*"),
        (owned("Job", "dump-29401230", generateName="dump-29401230-"), "dump-29401230-*", "dump-*"),
        (owned("Node", "node-1", name="etcd-node-1"), "etcd-node-1", "etcd-*"),
        (owned("Node", "node-1", name="etcd"), "etcd", "etcd"),
        (pod("w", metadata={"ownerReferences": [{"kind": "StatefulSet", "name": "db"}]}), "w", "w"),
    ],
)
def test_the_aggregated_name_is_calicos_or_the_owners_as_chosen(manifest: dict[str, Any], calico, owner) -> None:
    kind = kind_of("v1", "Pod")
    assert kind is not None
    found = {word: reduce(kind, manifest, naming).object for word, naming in NAMINGS.items()}
    assert {word: content["name_aggr"] for word, content in found.items()} == {"calico": calico, "owner": owner}


def test_a_node_has_its_own_addresses_and_those_of_its_tunnels_and_of_the_gateway_in_its_pods_network() -> None:
    annotations = {
        "projectcalico.org/IPv4Address": "192.0.2.1/24",
        "projectcalico.org/IPv4IPIPTunnelAddr": "10.1.0.1",
        "projectcalico.org/IPv4VXLANTunnelAddr": "10.1.0.2",
        "projectcalico.org/IPv6VXLANTunnelAddr": "fd00:1::2",
        "projectcalico.org/IPv4WireguardInterfaceAddr": "10.1.0.3",
        "projectcalico.org/IPv6WireguardInterfaceAddr": "fd00:1::3",
    }
    node = {
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1", "annotations": annotations},
        "spec": {"podCIDR": "10.244.3.0/24", "podCIDRs": ["10.244.3.0/24", "fd00:244:3::/64"]},
        "status": {"addresses": [
            {"type": "InternalIP", "address": "192.0.2.1"}, {"type": "ExternalIP", "address": "198.51.100.1"},
            {"type": "Hostname", "address": "n1"},
        ]},
    }  # fmt: skip
    assert reduced(node)["addresses"] == [
        "192.0.2.1", "198.51.100.1", "10.1.0.1", "10.1.0.2", "fd00:1::2", "10.1.0.3", "fd00:1::3",
        "10.244.3.1", "fd00:244:3::1",
    ]  # fmt: skip
    annotations["flannel.alpha.coreos.com/backend-type"] = "vxlan"
    assert {"10.244.3.0", "fd00:244:3::"} <= set(reduced(node)["addresses"])
    node["spec"] = {"podCIDR": "10.244.3/24"}
    with pytest.raises(MalformedObject, match=r"spec.podCIDRs\[0\] is '10.244.3/24'; accepted: an IPv4 or IPv6 prefix"):
        reduced(node)


def test_a_service_is_found_by_cluster_external_and_balancer_addresses_and_a_headless_one_by_none() -> None:
    service = {
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "shop"},
        "spec": {
            "clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1", "fd00:96::1"], "externalIPs": ["198.51.100.7"],
            "ports": [{"port": 80, "nodePort": 30080}],
        },
        "status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.9"}, {"hostname": "lb.example.com"}]}},
    }  # fmt: skip
    assert reduced(service)["addresses"] == ["10.96.0.1", "fd00:96::1", "198.51.100.7", "203.0.113.9"]
    service["spec"] = {"clusterIP": "None", "clusterIPs": ["None"], "ports": [{"port": 80}]}
    service["status"] = {}
    assert reduced(service)["addresses"] == []


def endpoint_slice(*endpoints: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": "web-abc", "namespace": "shop", "labels": {"kubernetes.io/service-name": "web"}},
        "endpoints": list(endpoints), "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
    } | more  # fmt: skip


def endpoint(address: str, **conditions: bool) -> dict[str, Any]:
    return {"addresses": [address], "conditions": conditions, "targetRef": {"kind": "Pod", "name": "x"}}


def test_an_endpoint_slice_names_the_backends_that_kube_proxy_would_take() -> None:
    ready, unknown = endpoint("10.0.0.2", ready=True), endpoint("10.0.0.1")
    leaving, gone = endpoint("10.0.0.3", ready=False, serving=True), endpoint("10.0.0.4", ready=False, serving=False)
    found = reduced(endpoint_slice(ready, unknown, leaving, gone))
    assert found == {
        "namespace": "shop", "service": "web", "backends": ["10.0.0.1", "10.0.0.2"],
        "ports": [{"name": "http", "protocol": 6, "port": 8080}],
        "rule_addresses": ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"],
    }  # fmt: skip
    assert reduced(endpoint_slice(leaving, gone))["backends"] == ["10.0.0.3"]
    assert reduced(endpoint_slice(ready, addressType="FQDN")) is None
    assert reduced(endpoint_slice(ready, metadata={"name": "alone", "namespace": "shop"})) is None
    with pytest.raises(
        MalformedObject, match=r"endpoints\[1\].addresses\[0\] is 'x'; accepted: an IPv4 or IPv6 address"
    ):
        reduced(endpoint_slice(ready, endpoint("x")))


def test_rules_match_every_address_of_a_slice_but_what_kubernetes_made_from_the_selector_says_nothing_new() -> None:
    several = {"addresses": ["10.0.0.9", "10.0.0.1"], "conditions": {"ready": True}}
    assert reduced(endpoint_slice(several))["backends"] == ["10.0.0.9"]
    assert reduced(endpoint_slice(several))["rule_addresses"] == ["10.0.0.1", "10.0.0.9"]
    labels = {
        "kubernetes.io/service-name": "web",
        "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
    }
    made = endpoint_slice(several, metadata={"name": "web-abc", "namespace": "shop", "labels": labels})
    assert "rule_addresses" not in reduced(made)


SEEDS = [
    owned("Job", "train", name="train-1-q", generateName="train-1-"),
    pod(
        "web", serviceAccountName="a", nodeName="n", containers=[{"ports": [{"name": "http", "containerPort": 80}]}],
        status={"podIPs": [{"ip": "10.0.0.1"}], "startTime": "2026-01-31T12:00:00Z"},
    ),
    endpoint_slice(endpoint("10.0.0.2", ready=True)),
    {
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": "n", "annotations": {"projectcalico.org/IPv4Address": "192.0.2.1/24"}},
        "spec": {"podCIDRs": ["10.1.0.0/24"]},
        "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.1"}]},
    },
    {
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "labels": {"a": "b"}},
        "spec": {
            "clusterIP": "10.96.0.1", "externalIPs": ["192.0.2.1"],
            "ports": [{"name": "http", "port": 80, "protocol": "TCP"}],
        },
        "status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.9"}]}},
    },
    {
        "apiVersion": "projectcalico.org/v3", "kind": "NetworkSet", "metadata": {"name": "s"},
        "spec": {"nets": ["10.0.0.0/8"]},
    },
    {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n", "creationTimestamp": "2026-01-31T12:00:00Z"}},
]  # fmt: skip
ODD = st.sampled_from([None, True, 0, -1, 1.5, "", "x", "0", [], {}, [None], [1], ["x"], [[]], {"": None}, {"a": 1}])


def paths(node: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inside = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [at, *(path for key, value in inside for path in paths(value, (*at, key)))]


@settings(max_examples=1000)
@given(st.data())
def test_whatever_stands_in_a_field_an_object_is_used_or_refused_by_field(data: st.DataObject) -> None:
    manifest = copy.deepcopy(data.draw(st.sampled_from(SEEDS)))
    kind = kind_of(manifest["apiVersion"], manifest["kind"])
    assert kind is not None
    for _ in range(data.draw(st.integers(1, 2))):
        *parents, last = data.draw(st.sampled_from([path for path in paths(manifest) if path]))
        place = manifest
        for key in parents:
            place = place[key]
        place[last] = copy.deepcopy(data.draw(ODD))
    for naming in NAMINGS.values():
        with contextlib.suppress(MalformedObject):
            orjson.dumps(reduce(kind, manifest, naming).object, option=orjson.OPT_SORT_KEYS)


def test_a_bookmark_moves_the_version_that_a_watch_goes_on_from_and_says_nothing_else() -> None:
    kind, taken = kind_of("v1", "Pod"), []
    assert kind is not None
    api = Api(lambda: pytest.fail("no request is due"), SystemClock())
    watch = KindWatch(kind, "v1", api, SystemClock(), taken.append, Metrics(), NAMINGS["calico"])
    assert watch._event({"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "77"}}}) == "77"
    assert taken == []
