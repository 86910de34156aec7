"""The storefront on the cluster: its call graph, then its rogue, in the flow logs and in the console."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import pytest

from tests.cluster.site import STOREFRONT, TOKEN, WINDOW_S
from tests.end_to_end.written import DENIED_BY
from tests.services.cluster_parts import NODE
from tests.storefront_logs import EDGES, app, edges

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster.site import Site

pytestmark = [pytest.mark.root, pytest.mark.timeout(600)]

SEVERAL_WINDOWS_S = 9 * WINDOW_S


def storefront(site: Site, *arguments: str) -> list[dict[str, Any]]:
    return site.flows("--namespace", "storefront", *arguments)


def test_every_edge_of_the_call_graph_is_there_from_both_reporters(site: Site) -> None:
    site.cluster.wait(
        "the call graph in the flow logs",
        lambda: all(edges(storefront(site, "--action", "allow"), reporter) >= EDGES for reporter in ("src", "dst")),
        timeout_s=SEVERAL_WINDOWS_S,
    )


def test_a_flow_log_names_real_pods_their_owners_the_service_and_the_node(site: Site) -> None:
    pods = {pod["metadata"]["generateName"] + "*": pod for pod in site.items("pods", "--namespace", "storefront")}
    logs = [
        log
        for log in storefront(site, "--action", "allow", "--reporter", "src", "--port", "8080")
        if (app(log["source_name_aggr"]), app(log["dest_name_aggr"])) == ("frontend", "microservice1")
    ]
    # A window may end between a call's first packet and its answer; not the window with the most calls.
    log = max(logs, key=lambda log: int(log["num_flows"]))
    source, dest = pods[log["source_name_aggr"]], pods[log["dest_name_aggr"]]
    assert log["source_ips"] == [source["status"]["podIP"]]
    assert log["dest_ips"] == [dest["status"]["podIP"]]
    assert (log["host"], log["cluster"], log["source_type"], log["dest_type"]) == (NODE, "e2e", "wep", "wep")
    service = (log["dest_service_namespace"], log["dest_service_name"], log["dest_service_port_num"])
    assert service == ("storefront", "microservice1", 80)
    assert {f"{key}={value}" for key, value in source["metadata"]["labels"].items()} == set(
        log["source_labels"]["labels"]
    )
    assert log["evidence"] == "answered"
    assert log["policies"]["enforced_policies"][-1].endswith("|allow|0")
    tiers = [hit.split("|")[1] for hit in log["policies"]["enforced_policies"]]
    assert tiers == ["security", "platform", "default"]


@pytest.fixture(scope="module")
def rogue(site: Site) -> Iterator[int]:
    """The rogue's Deployment, applied; since when."""
    since = int(time.time())
    site.apply(STOREFRONT / "rogue" / "rogue.yaml")
    site.rollout("deployment/rogue", namespace="storefront")
    yield since
    site.cluster.kubectl("delete", "--filename", str(STOREFRONT / "rogue"), "--wait", "--timeout=60s")


def test_the_rogue_is_denied_at_five_targets_by_the_right_rules_and_nothing_passed(site: Site, rogue: int) -> None:
    def denials() -> dict[str, dict[str, Any]]:
        logs = storefront(site, "--action", "deny", "--reporter", "dst", "--from", str(rogue))
        return {app(log["dest_name_aggr"]): log for log in logs if app(log["source_name_aggr"]) == "rogue"}

    site.cluster.wait("the rogue's denials", lambda: denials().keys() >= DENIED_BY.keys(), timeout_s=SEVERAL_WINDOWS_S)
    for target, log in denials().items():
        assert log["evidence"] == "enforced", log
        assert log["policies"]["enforced_policies"][-1].endswith(DENIED_BY[target])
        assert (log["packets_out"], log["bytes_out"]) == (0, 0)
        assert log["packets_in"] > 0
    address = site.items("pods", "--namespace", "storefront", "--selector", "app=rogue")[0]["status"]["podIP"]
    targets = site.storefront_addresses() - {address}
    reached = {pair: count for pair, count in site.delivered().items() if pair[0] == address and pair[1] in targets}
    assert reached == {}


def test_the_console_shows_the_calls_and_the_rogues_denials(site: Site, rogue: int) -> None:
    def statuses() -> dict[tuple[str, str], str]:
        query = urlencode({"from": rogue, "to": int(time.time()) + WINDOW_S, "filter": "namespace:storefront"})
        flows = site.console(TOKEN, f"/api/v1/flows?{query}")["flows"]
        return {(app(flow["source"]["name"]), app(flow["dest"]["name"])): flow["status"] for flow in flows}

    def shown() -> bool:
        found = statuses()
        denied = {dest for (source, dest), status in found.items() if source == "rogue" and status.startswith("denied")}
        return denied >= DENIED_BY.keys() and all(found.get(edge) == "allowed" for edge in EDGES)

    site.cluster.wait("the console's flows", shown, timeout_s=SEVERAL_WINDOWS_S)


def test_the_consoles_board_counts_the_denials_of_the_tiers_policies(site: Site, rogue: int) -> None:
    def denying() -> set[tuple[str, str]]:
        query = urlencode({"from": rogue, "to": int(time.time()) + WINDOW_S})
        tiers = site.console(TOKEN, f"/api/v1/board?{query}")["tiers"]
        assert [tier["name"] for tier in tiers][:2] == ["security", "platform"]
        return {
            (tier["name"], tile["name"])
            for tier in tiers
            for tile in tier["policies"]
            if not tile["staged"] and sum(tile["rates"]["denied"]["packets"].values()) > 0
        }

    wanted = {("default", "dmz"), ("default", "trusted"), ("default", "restricted"), ("platform", "logging")}
    site.cluster.wait("denials on the board", lambda: denying() >= wanted, timeout_s=SEVERAL_WINDOWS_S)
