"""A denied connection to a Service's address finds its destination without conntrack."""

from __future__ import annotations

import pytest

from tests.streams.scene import CLUSTER_IP, START_NS, Run, inventory, message, pod, record
from tierflow.schemas.clock import NS_PER_S
from tierflow.schemas.inventory import ENDPOINT, ENDPOINT_SLICE, SERVICE, ObjectVersion
from tierflow.streams.core.groups import Levels

BEGIN_NS = START_NS - 3600 * NS_PER_S


def service(selector: dict[str, str] | None, target: int | str = 8080) -> ObjectVersion:
    manifest = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "backend", "namespace": "shop"},
        "spec": {"clusterIP": CLUSTER_IP, "ports": [{"name": "http", "port": 80, "targetPort": target}]},
    }
    if selector is not None:
        manifest["spec"]["selector"] = selector
    ports = [{"name": "http", "protocol": 6, "port": 80, "node_port": 0}]
    return ObjectVersion(
        SERVICE,
        "Service/shop/backend",
        BEGIN_NS + 1,
        None,
        {"name": "backend", "namespace": "shop", "addresses": [CLUSTER_IP], "manifest": manifest, "ports": ports},
    )


def logs(*versions: ObjectVersion) -> dict[str, dict[str, object]]:
    run = Run(Levels(), history=inventory(*versions))
    tried = record("rogue", CLUSTER_IP, ports=(41_000, 80), packets=(1, 0), size=(60, 0))
    run.feed(message(0, [tried], end_s=15), message(1, [], end_s=40))
    return {log["reporter"]: log for log in run.all_logs()}


def test_the_destination_is_the_pod_that_the_selector_names_and_its_denial_is_derived() -> None:
    found = logs(service({"app": "backend"}))
    assert (found["src"]["dest_name_aggr"], found["src"]["dest_port"]) == ("backend-7c9-*", 8080)
    assert found["src"]["dest_service_name"] == "backend"
    assert (found["dst"]["action"], found["dst"]["derived"]) == ("deny", True)
    assert found["dst"]["policies"]["enforced_policies"] == ["0|default|shop/default.backend|deny|1"]


def test_a_named_target_port_is_the_pods_own() -> None:
    named = pod("backend-1") | {"named_ports": [["web", 6, 9090]]}
    found = logs(
        service({"app": "backend"}, "web"), ObjectVersion(ENDPOINT, "Pod/shop/backend-1", BEGIN_NS + 2, None, named)
    )
    assert found["dst"]["dest_port"] == 9090


@pytest.mark.parametrize("selector", [None, {}, {"app": "nobody"}, {"app": "backend", "more": "x"}])
def test_an_address_stays_where_no_pod_is_selected(selector: dict[str, str] | None) -> None:
    found = logs(service(selector))
    assert found.keys() == {"src"}
    assert (found["src"]["dest_name_aggr"], found["src"]["dest_port"]) == ("pvt", 80)


def test_an_address_stays_where_the_pods_have_several_names() -> None:
    other = pod("frontend-1") | {"labels": {"app": "backend"}}
    found = logs(service({"app": "backend"}), ObjectVersion(ENDPOINT, "Pod/shop/frontend-1", BEGIN_NS + 2, None, other))
    assert found["src"]["dest_name_aggr"] == "pvt"


def test_a_pod_that_joins_a_service_later_changes_what_its_address_stands_for() -> None:
    run = Run(Levels(), history=inventory(service({"app": "backend"})))
    tried = {"ports": (41_000, 80), "packets": (1, 0), "size": (60, 0)}
    run.feed(message(0, [record("rogue", CLUSTER_IP, **tried)], end_s=15), message(1, [], end_s=40))
    assert {log["dest_name_aggr"] for log in run.all_logs()} == {"backend-7c9-*"}
    other = pod("backend-1") | {"name": "other", "name_aggr": "other-*", "addresses": ["10.0.0.88"]}
    run.history.apply(ObjectVersion(ENDPOINT, "Pod/shop/other", START_NS + 42 * NS_PER_S, None, other))
    run.stage.use(run.history.snapshot())
    run.logs.clear()
    run.feed(message(2, [record("rogue", CLUSTER_IP, at_s=46, **tried)], end_s=50), message(3, [], end_s=80))
    assert "backend-7c9-*" not in {log["dest_name_aggr"] for log in run.all_logs()}


def test_a_pod_that_had_gone_is_no_backend() -> None:
    gone = ObjectVersion(ENDPOINT, "Pod/shop/backend-1", BEGIN_NS, BEGIN_NS + 2, pod("backend-1"))
    too = ObjectVersion(ENDPOINT, "Pod/shop/backend-2", BEGIN_NS, BEGIN_NS + 2, pod("backend-2"))
    assert logs(service({"app": "backend"}), gone, too)["src"]["dest_name_aggr"] == "pvt"


def endpoint_slice(*backends: str, port: int = 8080, name: str = "http", end: int | None = None) -> ObjectVersion:
    ports = [{"name": name, "protocol": 6, "port": port}]
    content = {"namespace": "shop", "service": "backend", "backends": sorted(backends), "ports": ports}
    return ObjectVersion(ENDPOINT_SLICE, f"EndpointSlice/shop/{backends}", BEGIN_NS + 1, end, content)


BACKEND = pod("backend-1")["addresses"][0]
FRONTEND = pod("frontend-1")["addresses"][0]


@pytest.mark.parametrize("selector", [None, {"app": "nobody"}])
def test_with_slices_the_backend_is_theirs_with_or_without_a_selector(selector: dict[str, str] | None) -> None:
    found = logs(service(selector), endpoint_slice(BACKEND, port=9090))
    assert (found["src"]["dest_name_aggr"], found["src"]["dest_port"]) == ("backend-7c9-*", 9090)
    assert (found["dst"]["action"], found["dst"]["derived"]) == ("deny", True)


def test_a_single_backend_outside_the_cluster_is_the_destination() -> None:
    found = logs(service(None), endpoint_slice("198.51.100.7", port=5432))
    assert (found["src"]["dest_name_aggr"], found["src"]["dest_port"]) == ("pub", 5432)
    assert found["src"]["dest_ip"] in ("198.51.100.7", None)


@pytest.mark.parametrize(
    "slices",
    [
        [endpoint_slice(BACKEND), endpoint_slice(FRONTEND)],
        [endpoint_slice(BACKEND, "198.51.100.7")],
        [endpoint_slice(BACKEND, name="other")],
        [endpoint_slice(BACKEND, end=START_NS - NS_PER_S)],
        [endpoint_slice("fd00::7")],
        [endpoint_slice()],
    ],
    ids=["two names", "a pod and a stranger", "another port", "gone by then", "the other family", "nobody ready"],
)
def test_with_slices_that_name_no_single_backend_the_address_stays_whatever_the_selector_says(slices) -> None:
    found = logs(service({"app": "backend"}), *slices)
    assert found.keys() == {"src"}
    assert (found["src"]["dest_name_aggr"], found["src"]["dest_port"]) == ("pvt", 80)
