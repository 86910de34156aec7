"""Rules that name a Service: its EndpointSlices written by hand are what they match, as of the record's time."""

from __future__ import annotations

import urllib.error
from dataclasses import replace
from itertools import permutations
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.inventory.follower import Follower
from tests.inventory.test_kubernetes import definition, pod
from tests.services.kubernetes import ADMIN_TOKEN, Cluster
from tests.services.kubernetes import cluster as cluster
from tierflow.inventory.history import History
from tierflow.policy import Endpoint, Flow, ScalarJudge, Side
from tierflow.schemas.inventory import ENDPOINT_SLICE, POLICY, SERVICE, Heartbeat, ObjectVersion

if TYPE_CHECKING:
    from tierflow.inventory.snapshot import Snapshot

WEB = Side("10.0.0.1", Endpoint("wep", "shop", "web", {"app": "web"}))
LEDGER, OTHER, SERVER = "198.51.100.7", "198.51.100.8", "192.0.2.10"


def policy(*services: str, group: str = "projectcalico.org/v3") -> dict[str, Any]:
    to = [{"action": "Allow", "destination": {"services": {"name": each, "namespace": "shop"}}} for each in services]
    return {
        "apiVersion": group, "kind": "GlobalNetworkPolicy", "metadata": {"name": "to-services"},
        "spec": {"types": ["Egress"], "egress": to},
    }  # fmt: skip


def endpoint_slice(begin: int, end: int | None, *addresses: str, service: str = "ledger") -> ObjectVersion:
    content = {
        "namespace": "shop", "service": service, "backends": [], "rule_addresses": list(addresses),
        "ports": [{"name": "", "protocol": 6, "port": 8443}],
    }  # fmt: skip
    return ObjectVersion(ENDPOINT_SLICE, f"discovery.k8s.io/EndpointSlice/shop/{service}-1", begin, end, content)


def service(begin: int, name: str = "ledger") -> ObjectVersion:
    manifest = {
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "shop"},
        "spec": {"ports": [{"port": 443}]},
    }  # fmt: skip
    ports = [{"name": "", "protocol": 6, "port": 443, "node_port": 0}]
    content = {"name": name, "namespace": "shop", "addresses": [], "ports": ports, "manifest": manifest}
    return ObjectVersion(SERVICE, f"Service/shop/{name}", begin, None, content)


def allowed(snapshot: Snapshot, at_ns: int, source: Side, address: str, port: int = 8443) -> bool:
    """Whether the policies in force at a time let a pod reach an address."""
    resources = snapshot.policy_versions[int(snapshot.policy_version(np.array([at_ns]))[0])]
    return ScalarJudge(resources).verdict(Flow(source, Side(address), 6, 40000, port)).action == "allow"


def test_a_slice_written_by_hand_decides_as_of_the_records_time_in_whatever_order_it_became_known() -> None:
    rule = ObjectVersion(POLICY, "projectcalico.org/GlobalNetworkPolicy//to-services", 30, None, policy("ledger"))
    messages = [service(10), endpoint_slice(20, 50, LEDGER), endpoint_slice(50, None, OTHER), rule]
    for order in permutations(messages):
        history = History()
        for message in order:
            history.apply(message)
            history.snapshot()
        snapshot = history.snapshot()
        assert snapshot.policy_from_ns.tolist() == [0, 10, 20, 30, 50], "a snapshot must not hang on when it was taken"
        told = [(at, each) for at in (30, 49, 50, 99) for each in (LEDGER, OTHER) if allowed(snapshot, at, WEB, each)]
        assert told == [(30, LEDGER), (49, LEDGER), (50, OTHER), (99, OTHER)]
        assert not allowed(snapshot, 99, WEB, OTHER, 443)


def test_slices_that_no_rule_depends_on_make_no_policy_version() -> None:
    rule = ObjectVersion(POLICY, "projectcalico.org/GlobalNetworkPolicy//to-services", 30, None, policy("ledger"))
    history = History(retention_ns=1000)
    written_before = endpoint_slice(70, None, OTHER)
    del written_before.object["rule_addresses"]
    for message in (rule, service(10), endpoint_slice(60, None, LEDGER, service="till"), written_before):
        history.apply(message)
    snapshot = history.snapshot()
    assert snapshot.policy_from_ns.tolist() == [0, 10, 30]
    assert [each.unknown for each in snapshot.policy_versions[-1].services] == [True]
    assert not allowed(snapshot, 99, WEB, OTHER)
    history.apply(replace(rule, valid_to_ns=90))
    history.apply(Heartbeat(5000, "test", 1))
    history.snapshot()
    assert not [which for which in history._read if which[0] == POLICY], "what was read of it takes memory for ever"
    history.apply(endpoint_slice(5001, None, LEDGER))
    assert 5001 not in history.snapshot().policy_from_ns.tolist(), "the rule left the retained past"


@pytest.mark.service("kubernetes")
@pytest.mark.timeout(600)
def test_rules_that_name_a_service_match_what_the_api_server_and_people_write_into_its_slices(cluster: Cluster) -> None:
    group = "crd.projectcalico.org"
    cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}})
    cluster.create(definition(group, "v1", "GlobalNetworkPolicy", "globalnetworkpolicies", namespaced=False))
    cluster.create(pod("web", {"app": "web"}))
    status = {"phase": "Running", "podIP": "10.244.0.2", "podIPs": [{"ip": "10.244.0.2"}]}
    cluster.call("PATCH", "/api/v1/namespaces/shop/pods/web/status", {"status": status})
    cluster.create(
        {
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "ledger", "namespace": "shop"},
            "spec": {"ports": [{"port": 443}]},
        }
    )  # fmt: skip
    cluster.create(
        {
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": "ledger-1", "namespace": "shop", "labels": {"kubernetes.io/service-name": "ledger"}},
            "endpoints": [{"addresses": [LEDGER], "conditions": {"ready": False}}], "ports": [{"port": 8443}],
        }
    )  # fmt: skip
    written = policy("ledger", group=f"{group}/v1")
    written["spec"]["egress"].append(
        {"action": "Allow", "destination": {"services": {"name": "kubernetes", "namespace": "default"}}}
    )
    # Without these the server leaves the slice of its own Service to others.
    cluster.flags = ("--endpoint-reconciler-type=master-count", f"--advertise-address={SERVER}")
    cluster.kill_server()
    cluster.start_server()
    with Follower(cluster.kubeconfig("admin", ADMIN_TOKEN)) as follower:
        follower.until(
            lambda: ("default", "kubernetes") in follower.history.snapshot().slices, "the server's own slice"
        )
        [slice_of_server] = follower.history.snapshot().slices["default", "kubernetes"]
        [(_, _, port)] = slice_of_server.ports

        def created() -> bool:
            follower.step()
            try:
                cluster.create(written)
            except urllib.error.HTTPError:
                return False
            return True

        def reached(address: str, number: int = 8443) -> bool:
            found = follower.holder("10.244.0.2")
            assert found is not None
            snapshot, now = follower.history.snapshot(), follower.clock.now_ns()
            return allowed(snapshot, now, Side("10.244.0.2", found.endpoint), address, number)

        follower.until(created, "the kind is served")
        follower.until(lambda: not reached(OTHER), "the policy is in force")
        assert reached(LEDGER), "ready or not, as in Felix"
        assert not reached(LEDGER, 443)
        assert reached(SERVER, port)
        assert not reached(SERVER, port + 1)
        path = "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices/ledger-1"
        before = follower.clock.now_ns()
        cluster.call("PATCH", path, {"endpoints": [{"addresses": [OTHER]}]})
        follower.until(lambda: reached(OTHER) and not reached(LEDGER), "the slice has another address")
        found = follower.holder("10.244.0.2")
        assert found is not None
        assert allowed(follower.history.snapshot(), before, Side("10.244.0.2", found.endpoint), LEDGER)
