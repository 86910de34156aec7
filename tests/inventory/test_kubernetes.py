"""The inventory against a real kube-apiserver and etcd: its history equals a truth that the test keeps."""

from __future__ import annotations

import time
import urllib.error
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from tests.inventory.follower import Follower
from tests.services.kubernetes import ADMIN_TOKEN, Cluster
from tests.services.kubernetes import cluster as cluster
from tierflow.inventory.kinds import KINDS
from tierflow.inventory.kubernetes.api import Api, connect
from tierflow.inventory.kubernetes.lease import Lease
from tierflow.inventory.kubernetes.watch import BREAKS, LISTS, MALFORMED
from tierflow.schemas.clock import NS_PER_S, ManualClock
from tierflow.schemas.record import address_halves

# Nothing here is quick on a busy machine: servers are started up to five times, and 38 rights taken away one by one.
pytestmark = [pytest.mark.service("kubernetes"), pytest.mark.timeout(1200)]

ROLE = Path(__file__).resolve().parents[2] / "deploy" / "rbac" / "inventory-clusterrole.yaml"
CONTAINERS = [{"name": "main", "image": "none", "ports": [{"name": "http", "containerPort": 8080}]}]


def pod(name: str, labels: dict[str, str], **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "shop", "labels": labels},
        "spec": {"containers": CONTAINERS, "nodeName": "node-1", **spec},
    }


def definition(group: str, version: str, kind: str, plural: str, *, namespaced: bool) -> dict[str, Any]:
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{plural}.{group}",
            # The group of Kubernetes' own policy API is protected and wants to know who approved it.
            "annotations": {"api-approved.kubernetes.io": "unapproved, for a test"},
        },
        "spec": {
            "group": group,
            "scope": "Namespaced" if namespaced else "Cluster",
            "names": {"kind": kind, "plural": plural, "singular": kind.lower(), "listKind": f"{kind}List"},
            "versions": [
                {
                    "name": version,
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
                }
            ],
        },
    }


class Truth:
    """Plays kubelet and controllers, and remembers who held which address at every moment looked at."""

    def __init__(self, cluster: Cluster, follower: Follower) -> None:
        self.cluster, self.follower = cluster, follower
        self.now: dict[str, tuple[str, dict[str, str]]] = {}
        self.moments: list[tuple[int, dict[str, tuple[str, dict[str, str]]]]] = []

    def run(self, name: str, addresses: list[str], labels: dict[str, str]) -> None:
        self.cluster.create(pod(name, labels))
        status = {"phase": "Running", "podIP": addresses[0], "podIPs": [{"ip": each} for each in addresses]}
        self.cluster.call("PATCH", f"/api/v1/namespaces/shop/pods/{name}/status", {"status": status})
        self.now |= dict.fromkeys(addresses, (name, labels))

    def relabel(self, name: str, labels: dict[str, str]) -> None:
        self.cluster.call("PATCH", f"/api/v1/namespaces/shop/pods/{name}", {"metadata": {"labels": labels}})
        self.now = {address: (held, labels if held == name else before) for address, (held, before) in self.now.items()}

    def finish(self, name: str, phase: str) -> None:
        self.cluster.call("PATCH", f"/api/v1/namespaces/shop/pods/{name}/status", {"status": {"phase": phase}})
        self._free(name)

    def delete(self, name: str) -> None:
        self.cluster.call("DELETE", f"/api/v1/namespaces/shop/pods/{name}", {"gracePeriodSeconds": 0})
        self._free(name)

    def _free(self, name: str) -> None:
        self.now = {address: held for address, held in self.now.items() if held[0] != name}

    def seen(self, addresses: set[str]) -> None:
        """Wait until the history says of this moment what is true, then remember the moment."""
        self.follower.until(
            lambda: self._at(self.follower.clock.now_ns(), addresses) == self.now, f"history is {self.now}"
        )
        self.moments.append((self.follower.clock.now_ns(), dict(self.now)))

    def _at(self, at_ns: int, addresses: set[str]) -> dict[str, tuple[str, dict[str, str]]]:
        held = {address: self.follower.holder(address, at_ns) for address in addresses}
        return {
            address: (version.endpoint.name, dict(version.endpoint.labels))
            for address, version in held.items()
            if version is not None
        }

    def check(self, addresses: set[str]) -> None:
        for at_ns, truth in self.moments:
            assert self._at(at_ns, addresses) == truth


A, B, C, SIX = "10.244.0.2", "10.244.0.3", "10.244.0.4", "fd00::2"
ALL = {A, B, C, SIX}


def test_history_equals_the_truth_through_reuse_restart_compaction_and_a_rotated_token(cluster: Cluster) -> None:
    cluster.tokens["first"] = 'reader,2,"system:masters"'
    cluster.kill_server()
    cluster.start_server()
    cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}})
    kubeconfig = cluster.kubeconfig("reader", "first")
    with Follower(kubeconfig) as follower:
        truth = Truth(cluster, follower)
        follower.until(lambda: follower.source.watermark_ns, "synced")

        # Two addresses, labels that change, an address that another pod gets.
        truth.run("web-1", [A, SIX], {"app": "web"})
        truth.seen(ALL)
        truth.relabel("web-1", {"app": "web", "track": "canary"})
        truth.seen(ALL)
        truth.delete("web-1")
        truth.seen(ALL)
        truth.run("api-1", [A], {"app": "api"})
        truth.run("job-1", [B], {"app": "job"})
        truth.seen(ALL)
        # A pod that succeeded still exists, and its address is free.
        truth.finish("job-1", "Succeeded")
        truth.seen(ALL)
        truth.run("api-2", [B], {"app": "api"})
        truth.seen(ALL)

        # The server is killed; the watch goes on where it stopped.
        cluster.kill_server()
        follower.until(lambda: follower.metrics.value(BREAKS, reason="connection"), "the break is noticed")
        stood_at = follower.source.watermark_ns
        for _ in range(10):
            follower.step()
        assert follower.source.watermark_ns == stood_at, "the watermark moved without the server"
        cluster.start_server()
        truth.run("web-2", [C], {"app": "web"})
        truth.seen(ALL)
        follower.until(lambda: follower.source.watermark_ns > stood_at, "the watermark moves again")

        # While it is away: a pod vanishes, its address is reused, and etcd forgets how.
        cluster.kill_server()
        with cluster.out_of_sight():
            truth.delete("web-2")
            truth.delete("api-1")
            truth.run("web-3", [C], {"app": "web", "number": "3"})
        truth.seen(ALL)
        assert follower.metrics.value(LISTS, reason="gone") > 0, "no watch met a 410"

        # The token is rotated: the old one is refused from now on.
        del cluster.tokens["first"]
        cluster.tokens["second"] = 'reader,2,"system:masters"'
        cluster.kill_server()
        cluster.start_server()
        truth.delete("api-2")
        truth.run("web-4", [B], {"app": "web"})
        follower.until(lambda: any("401" in text for text in follower.said), "the old token is refused")
        (cluster.folder / "reader.token").write_text("second")
        truth.seen(ALL)
        truth.check(ALL)


def test_a_statefulset_pod_keeps_its_name_and_gets_another_address(cluster: Cluster) -> None:
    cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}})
    with Follower(cluster.kubeconfig("admin", ADMIN_TOKEN)) as follower:
        truth = Truth(cluster, follower)
        truth.run("db-0", [A], {"app": "db"})
        truth.seen(ALL)
        truth.delete("db-0")
        truth.run("db-0", [B], {"app": "db"})
        truth.seen(ALL)
        truth.check(ALL)


def test_host_network_pods_belong_to_the_node_and_services_are_found_by_address_and_node_port(cluster: Cluster) -> None:
    cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}})
    cluster.create(
        {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": "node-1", "annotations": {"projectcalico.org/IPv4VXLANTunnelAddr": "10.244.0.1"}},
        }
    )
    addresses = [{"type": "InternalIP", "address": "192.0.2.10"}, {"type": "Hostname", "address": "node-1"}]
    cluster.call("PATCH", "/api/v1/nodes/node-1/status", {"status": {"addresses": addresses}})
    ports = [{"name": "http", "port": 80, "targetPort": 8080, "nodePort": 30080}]
    cluster.create(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "web", "namespace": "shop"},
            "spec": {"type": "NodePort", "clusterIP": "10.96.0.77", "ports": ports},
        }
    )
    cluster.create(pod("agent", {"app": "agent"}, hostNetwork=True, containers=[{"name": "main", "image": "none"}]))
    status = {"phase": "Running", "podIP": "192.0.2.10", "hostIP": "192.0.2.10"}
    cluster.call("PATCH", "/api/v1/namespaces/shop/pods/agent/status", {"status": status})
    with Follower(cluster.kubeconfig("admin", ADMIN_TOKEN)) as follower:
        follower.until(lambda: follower.source.watermark_ns, "synced")
        for address in ("192.0.2.10", "10.244.0.1"):
            found = follower.holder(address)
            assert found is not None
            assert (found.kind, found.endpoint.name, found.policed) == ("hep", "node-1", False)
        assert {
            (each.namespace, each.name, each.port_name, each.port) for each in follower.history.snapshot().services
        } >= {("shop", "web", "http", 80)}


def test_a_kind_that_is_installed_late_is_picked_up_and_one_removed_is_forgotten(cluster: Cluster) -> None:
    cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}})
    group = "crd.projectcalico.org"
    with Follower(cluster.kubeconfig("admin", ADMIN_TOKEN)) as follower:
        follower.until(lambda: follower.source.watermark_ns, "synced")
        cluster.create(definition(group, "v1", "GlobalNetworkSet", "globalnetworksets", namespaced=False))
        manifest = {
            "apiVersion": f"{group}/v1",
            "kind": "GlobalNetworkSet",
            "metadata": {"name": "office", "labels": {"zone": "office"}},
            "spec": {"nets": ["198.51.100.0/24"]},
        }
        broken = manifest | {"metadata": {"name": "broken"}, "spec": {"nets": ["198.51.100.0/24", "nonsense"]}}

        def created(each: dict[str, Any]) -> bool:
            follower.step()
            try:
                cluster.create(each)
            except urllib.error.HTTPError:
                return False
            return True

        follower.until(lambda: created(manifest), "the kind is served")
        created(broken)
        follower.until(lambda: follower.history.snapshot().network_sets, "the set is there")
        assert set_of(follower, "198.51.100.1") == "office"
        [office] = follower.history.snapshot().network_sets
        assert (office.namespace, office.name, office.labels_list) == (None, "office", ("zone=office",))
        follower.until(lambda: any("broken" in text for text in follower.said), "the malformed set is reported")
        assert "GlobalNetworkSet broken: spec.nets[1] is 'nonsense'; accepted: an IPv4 or IPv6 prefix" in follower.said
        assert follower.metrics.value(MALFORMED, kind="GlobalNetworkSet") >= 1
        cluster.call("DELETE", f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/globalnetworksets.{group}")
        follower.until(lambda: set_of(follower, "198.51.100.1") is None, "the set is gone with its kind")


def set_of(follower: Follower, address: str) -> str | None:
    """The name of the network set that an address is in now."""
    snapshot = follower.history.snapshot()
    columns = [np.array([half], np.uint64) for half in address_halves(address)]
    index = snapshot.network_set(*columns, np.array([follower.clock.now_ns()], np.int64))[0]
    return None if index < 0 else snapshot.network_sets[index].name


def test_the_watch_works_with_the_minimal_role_and_is_refused_without_each_single_verb(cluster: Cluster) -> None:
    cluster.tokens["inventory"] = "inventory,3"
    cluster.kill_server()
    cluster.start_server()
    installed = {}
    for kind in KINDS:
        group, _, version = kind.group_versions[0].rpartition("/")
        if "." in group and group != "networking.k8s.io":
            installed[kind.plural, group] = definition(
                group, version, kind.name, kind.plural, namespaced=kind.namespaced
            )
    for each in installed.values():
        cluster.create(each)
    role = next(yaml.safe_load_all(ROLE.read_text()))
    cluster.create(role)
    cluster.create(
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": "inventory"},
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io",
                "kind": "ClusterRole",
                "name": role["metadata"]["name"],
            },
            "subjects": [{"kind": "User", "name": "inventory", "apiGroup": "rbac.authorization.k8s.io"}],
        }
    )
    kubeconfig = cluster.kubeconfig("inventory", "inventory")
    wait_until_decided(cluster, "", "pods", "list", allowed=True)
    with Follower(kubeconfig) as follower:
        follower.until(lambda: follower.source.watermark_ns and len(follower.source._watches) == len(KINDS), "synced")
        assert follower.said == []
    path = f"/apis/rbac.authorization.k8s.io/v1/clusterroles/{role['metadata']['name']}"
    for kind in KINDS:
        group = kind.group_versions[0].rpartition("/")[0]
        for verb in ("list", "watch"):
            cluster.call("PATCH", path, {"rules": without(role["rules"], group, kind.plural, verb)})
            wait_until_decided(cluster, group, kind.plural, verb, allowed=False)
            with Follower(kubeconfig) as follower:
                wanted = f'cannot {verb} resource "{kind.plural}" in API group "{group}"'
                follower.until(partial(said, follower, wanted), wanted)
                assert follower.source.watermark_ns == 0, "it claims to know everything although a right is missing"


def wait_until_decided(cluster: Cluster, group: str, resource: str, verb: str, *, allowed: bool) -> None:
    """The server's authoriser learns of roles by a watch of its own."""
    asked = {"user": "inventory", "resourceAttributes": {"group": group, "resource": resource, "verb": verb}}
    review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": asked}
    give_up = time.monotonic() + 30
    while (
        cluster.call("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", review)["status"]["allowed"]
        != allowed
    ):
        assert time.monotonic() < give_up


def said(follower: Follower, text: str) -> bool:
    return any(text in each for each in follower.said)


def without(rules: list[dict[str, Any]], group: str, resource: str, verb: str) -> list[dict[str, Any]]:
    """The rules with one verb on one resource taken out."""
    left = []
    for rule in rules:
        for each_group in rule["apiGroups"]:
            for each in rule["resources"]:
                verbs = [v for v in rule["verbs"] if (each_group, each, v) != (group, resource, verb)]
                left.append({"apiGroups": [each_group], "resources": [each], "verbs": verbs})
    return [rule for rule in left if rule["verbs"]]


def test_one_holds_the_lease_until_it_is_silent_or_gives_it_up(cluster: Cluster) -> None:
    clock = ManualClock(1_700_000_000 * NS_PER_S)
    api = Api(lambda: connect(cluster.kubeconfig("admin", ADMIN_TOKEN)), clock)
    first = Lease(api, "default", "inventory", "first", clock)
    second = Lease(api, "default", "inventory", "second", clock)
    assert first.try_hold()
    assert not second.try_hold()
    clock.advance_ns(10 * NS_PER_S)
    assert first.try_hold()
    clock.advance_ns(10 * NS_PER_S)
    assert not second.try_hold(), "the holder renewed ten seconds ago"
    assert not first.held, "two thirds of the lease are over"
    clock.advance_ns(15 * NS_PER_S)
    assert second.try_hold(), "the holder has been silent for the whole duration"
    assert (first.transitions, second.transitions) == (0, 1)
    assert not first.try_hold()
    second.release()
    assert first.try_hold(), "the lease was given up"
    assert first.transitions == 2
