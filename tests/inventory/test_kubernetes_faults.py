"""A real kube-apiserver behind cut connections and with a clock unlike ours; pages, Services, slices."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from tests.inventory.follower import Follower
from tests.inventory.proxy import Proxy
from tests.inventory.test_kubernetes import ALL, SIX, A, B, C, Truth, definition
from tests.services.kubernetes import ADMIN_TOKEN, Cluster, collection
from tests.services.kubernetes import cluster as cluster
from tierflow.inventory.kubernetes import watch
from tierflow.inventory.kubernetes.api import Api
from tierflow.inventory.kubernetes.source import CLOCK_AHEAD
from tierflow.inventory.kubernetes.watch import BREAKS, LISTS, REFUSED
from tierflow.inventory.objects import POLICIES_LEFT_OUT
from tierflow.schemas.clock import NS_PER_S, SystemClock

pytestmark = [pytest.mark.service("kubernetes"), pytest.mark.timeout(600)]

SHOP = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}


class Asked:
    """The requests that the inventory makes, in their order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._lock, self.queries = threading.Lock(), []
        get, open_ = Api.get, Api.open

        def record(path: str, query: dict[str, str] | None) -> None:
            with self._lock:
                self.queries.append((path, dict(query or {})))

        def recorded_get(api: Api, path: str, query: dict[str, str] | None = None) -> dict[str, Any]:
            record(path, query)
            return get(api, path, query)

        def recorded_open(api: Api, path: str, query: dict[str, str], read_timeout_s: float) -> Any:
            record(path, query)
            return open_(api, path, query, read_timeout_s)

        monkeypatch.setattr(Api, "get", recorded_get)
        monkeypatch.setattr(Api, "open", recorded_open)

    def of(self, plural: str) -> list[dict[str, str]]:
        with self._lock:
            return [query for path, query in self.queries if path.endswith(f"/{plural}")]


def test_lists_come_in_pages_and_watches_ask_for_bookmarks(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "PAGE", 3)
    asked = Asked(monkeypatch)
    cluster.create(SHOP)
    for number in range(8):
        cluster.create({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": f"a{number}"}})
    with Follower(cluster.kubeconfig("admin", ADMIN_TOKEN)) as follower:
        follower.until(lambda: follower.source.watermark_ns, "synced")
        found = {each for each in follower.source._versions.keys("service-account") if "/default/" in each}
        assert found >= {f"ServiceAccount/default/a{number}" for number in range(8)}
        pages = [query for query in asked.of("serviceaccounts") if "limit" in query]
        assert {query["limit"] for query in pages} == {"3"}
        assert len(pages) >= 3
        assert all("continue" in query for query in pages[1:])

        [watching] = [query for query in asked.of("serviceaccounts") if "watch" in query]
        assert watching["allowWatchBookmarks"] == "true"


def test_a_connection_cut_in_the_middle_of_a_watch_loses_and_repeats_nothing(cluster: Cluster) -> None:
    cluster.create(SHOP)
    with Proxy(cluster.port) as proxy:
        with Follower(cluster.kubeconfig("admin", ADMIN_TOKEN, port=proxy.port)) as follower:
            truth = Truth(cluster, follower)
            follower.until(lambda: follower.source.watermark_ns, "synced")
            lists = follower.metrics.value(LISTS, reason="start")
            for turn in range(4):
                follower.until(lambda: proxy.connections >= 5, "the watches have connections of their own")
                proxy.cut()
                truth.run(f"web-{turn}", [A], {"turn": str(turn)})
                truth.seen(ALL)
                proxy.cut()
                truth.delete(f"web-{turn}")
                truth.run(f"api-{turn}", [B], {"turn": str(turn)})
                proxy.cut()
                truth.seen(ALL)
                truth.delete(f"api-{turn}")
                truth.seen(ALL)
            assert follower.metrics.value(BREAKS, reason="connection") > 0
            assert follower.metrics.value(LISTS, reason="start") == lists, "a break must not lead to a new list"
            truth.check(ALL)
        opened = [each for each in follower.messages if getattr(each, "valid_to_ns", 0) is None]
        assert len(opened) == len({(each.kind, each.key, each.valid_from_ns) for each in opened})


def test_an_expired_token_is_told_counted_and_replaced_from_its_file_and_nothing_is_missed(cluster: Cluster) -> None:
    cluster.create(SHOP)
    account = cluster.create({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "reader"}})
    cluster.create(
        {
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "reader"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
            "subjects": [{"kind": "ServiceAccount", "name": "reader", "namespace": "default"}],
        }
    )  # fmt: skip

    def token(lasts_s: float) -> str:
        return cluster.service_account_token("reader", account["metadata"]["uid"], time.time() + lasts_s)

    # The server takes it for a minute longer than it says: for ten seconds from now, in which the watches begin.
    with (
        Proxy(cluster.port) as proxy,
        Follower(cluster.kubeconfig("reader", token(-50), port=proxy.port)) as follower,
    ):
        truth = Truth(cluster, follower)
        follower.until(lambda: follower.source.watermark_ns, "synced")
        lists = follower.metrics.value(LISTS, reason="start")
        truth.run("web-1", [A], {"app": "web"})
        truth.seen(ALL)
        follower.until(lambda: follower.metrics.value(REFUSED, want="credentials"), "the token has expired")
        follower.until(lambda: any("credentials refused (401)" in text for text in follower.said), "it is said")
        # A watch outlives its token; one that is broken can't be opened with it again.
        proxy.cut()
        follower.until(lambda: follower.metrics.value(REFUSED, want="credentials") > 10, "watches are refused as well")
        stood_at = follower.source.watermark_ns
        truth.delete("web-1")
        truth.run("api-1", [A], {"app": "api"})
        for _ in range(10):
            follower.step()
        assert follower.source.watermark_ns == stood_at, "the watermark moved without a watch"
        assert holder_name(follower, A) == "web-1"
        # While it is being rewritten the file is empty for a moment: that is read, too.
        (cluster.folder / "reader.token").write_text("")
        follower.until(lambda: any('"system:anonymous"' in text for text in follower.said), "we are nobody")
        (cluster.folder / "reader.token").write_text(token(3600))
        truth.seen(ALL)
        truth.check(ALL)
        assert follower.metrics.value(LISTS, reason="start") == lists, "the watches went on where they stopped"


def test_a_policy_that_cant_be_used_is_shown_for_as_long_as_it_is_there(cluster: Cluster) -> None:
    cluster.create(
        definition("crd.projectcalico.org", "v1", "GlobalNetworkPolicy", "globalnetworkpolicies", namespaced=False)
    )
    policy = {
        "apiVersion": "crd.projectcalico.org/v1", "kind": "GlobalNetworkPolicy", "metadata": {"name": "odd"},
        "spec": {"types": ["Ingress"], "ingress": [{"action": "Forbid"}]},
    }  # fmt: skip
    path = f"{collection(policy)}/odd"
    with Follower(cluster.kubeconfig("admin", ADMIN_TOKEN)) as follower:

        def left_out() -> float:
            return follower.metrics.value(POLICIES_LEFT_OUT)

        follower.until(lambda: cluster.served(collection(policy)), "the kind is served")
        cluster.create(policy)
        follower.until(lambda: left_out() == 1, "it is counted")
        assert any("odd" in text and "verdicts are as if it didn't exist" in text for text in follower.said)
        cluster.call("PATCH", path, {"spec": {"ingress": [{"action": "Deny"}]}})
        follower.until(lambda: left_out() == 0, "it is mended")
        cluster.call("PATCH", path, {"spec": {"ingress": [{"action": "Forbid"}]}})
        follower.until(lambda: left_out() == 1, "it is wrong again")
        cluster.call("DELETE", path)
        follower.until(lambda: left_out() == 0, "it is gone")


def holder_name(follower: Follower, address: str) -> str | None:
    held = follower.holder(address)
    return None if held is None else held.endpoint.name


class Skewed:
    """Our clock, off by some seconds; the API server's is the machine's."""

    def __init__(self, by_s: int) -> None:
        self._by_ns, self._clock = by_s * NS_PER_S, SystemClock()

    def now_ns(self) -> int:
        return self._clock.now_ns() + self._by_ns

    def monotonic_s(self) -> float:
        return self._clock.monotonic_s()


@pytest.mark.parametrize("ours_is_ahead_s", [900, -900])
def test_with_a_clock_that_is_off_the_history_equals_the_truth_by_that_clock(
    cluster: Cluster, ours_is_ahead_s: int
) -> None:
    cluster.create(SHOP)
    with Follower(cluster.kubeconfig("admin", ADMIN_TOKEN), Skewed(ours_is_ahead_s)) as follower:
        truth = Truth(cluster, follower)
        follower.until(lambda: follower.source.watermark_ns, "synced")
        truth.run("web-1", [A, SIX], {"app": "web"})
        truth.seen(ALL)
        truth.delete("web-1")
        truth.run("db-0", [A], {"app": "db"})
        truth.run("api-1", [C], {"app": "api"})
        truth.seen(ALL)
        # What changes while we are away is told by lists: there an object's own times are all there is.
        cluster.kill_server()
        follower.until(lambda: follower.metrics.value(BREAKS, reason="connection"), "the break is noticed")
        with cluster.out_of_sight():
            truth.delete("db-0")
            truth.run("db-0", [B], {"app": "db"})
            truth.delete("api-1")
            truth.run("api-2", [C], {"app": "api"})
        truth.seen(ALL)
        assert follower.metrics.value(LISTS, reason="gone") > 0, "no watch met a 410"
        truth.check(ALL)
        # Told from the answer to a request: one that took long tells it less exactly.
        follower.until(lambda: abs(follower.metrics.value(CLOCK_AHEAD) + ours_is_ahead_s) < 3, "it is measured")
        side = "behind" if ours_is_ahead_s > 0 else "ahead of"
        follower.until(lambda: any(f"s {side} ours" in each for each in follower.said), "the difference is said")


def test_a_service_is_found_by_its_addresses_and_its_slices_name_the_backends(cluster: Cluster) -> None:
    cluster.create(SHOP)
    for name, spec in {
        "web": {"type": "LoadBalancer", "clusterIP": "10.96.0.77", "externalIPs": ["198.51.100.7"]},
        "headless": {"clusterIP": "None"},
    }.items():
        cluster.create(
            {
                "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "shop"},
                "spec": spec | {"ports": [{"name": "http", "port": 80, "targetPort": 8080}]},
            }
        )  # fmt: skip
    balancer = {"status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.9"}]}}}
    cluster.call("PATCH", "/api/v1/namespaces/shop/services/web/status", balancer)
    labels = {"kubernetes.io/service-name": "web"}
    cluster.create(
        {
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": "web-1", "namespace": "shop", "labels": labels},
            "endpoints": [
                {"addresses": ["10.244.0.2"], "conditions": {"ready": True}},
                {"addresses": ["10.244.0.3"], "conditions": {"ready": False}},
            ],
            "ports": [{"name": "http", "port": 8080}],
        }
    )  # fmt: skip
    with Follower(cluster.kubeconfig("admin", ADMIN_TOKEN)) as follower:
        follower.until(lambda: follower.source.watermark_ns, "synced")
        for address in ("10.96.0.77", "198.51.100.7", "203.0.113.9"):
            assert follower.services(address) == {"web"}
        [found] = follower.history.snapshot().slices["shop", "web"]
        assert (found.backends, found.ports) == (("10.244.0.2",), (("http", 6, 8080),))
        path = "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices/web-1"
        cluster.call("DELETE", path)
        follower.until(lambda: follower.history.snapshot().slices["shop", "web"][0].valid_to_ns, "the slice has ended")
        cluster.call("DELETE", "/api/v1/namespaces/shop/services/web")
        follower.until(lambda: not follower.services("10.96.0.77"), "the Service is gone")
