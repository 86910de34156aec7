"""With traffic running: an upgrade and its rollback, pods deleted at random, a node restarted; nothing is lost.

What is counted: packets and bytes between every two pods of the storefront, by nftables on the node, and by the flow
logs of either reporter. E2E_CHAOS_S=300 deletes pods for five minutes.
"""

from __future__ import annotations

import os
import random
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tests.cluster.site import CHART, NAMESPACE, WINDOW_S
from tests.storefront_logs import EDGES, since, summed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster.site import Site

CHAOS_S = float(os.environ.get("E2E_CHAOS_S", "60"))
COMPONENTS = ("collector", "inventory", "stream", "sink")
SETTLE_S = 150
"""A worker's place in its group is given to another after its session has timed out; then windows are written."""

pytestmark = [pytest.mark.root, pytest.mark.timeout(600 + CHAOS_S)]


@contextmanager
def nothing_lost(site: Site) -> Iterator[None]:
    """All that is delivered inside of the context is in the flow logs of both reporters, to the byte."""
    began, before = site.quiet(), site.delivered_by_storefront()
    addresses = site.storefront_addresses()
    site.resume()
    yield
    ended, after = site.quiet(), site.delivered_by_storefront()
    site.resume()
    assert site.storefront_addresses() == addresses
    delivered = since(before, after)
    assert len(delivered) >= 2 * len({frozenset(edge) for edge in EDGES})

    def between_pods(reporter: str) -> dict[tuple[str, str], tuple[int, int]]:
        logs = [
            log
            for log in site.flows("--namespace", "storefront", "--from", str(began), "--to", str(ended))
            if set(log["source_ips"] or ()) <= addresses and set(log["dest_ips"] or ()) <= addresses
        ]
        return {pair: counted for pair, counted in summed(logs, reporter).items() if set(pair) <= addresses}

    found: dict[str, Any] = {}

    def equal() -> bool:
        found.update({reporter: between_pods(reporter) for reporter in ("src", "dst")})
        return all(sums == delivered for sums in found.values())

    give_up = time.monotonic() + SETTLE_S
    while not equal():
        differing = {
            reporter: {pair: (sums.get(pair), delivered.get(pair)) for pair in sums.keys() | delivered.keys()
                       if sums.get(pair) != delivered.get(pair)}
            for reporter, sums in found.items()
        }  # fmt: skip
        assert time.monotonic() < give_up, f"(flow logs, nftables) by pair: {differing}"
        time.sleep(2)  # the store answers when asked; it tells nobody


def revision_values(*settings: str) -> tuple[str, ...]:
    return tuple(part for setting in settings for part in ("--set-string", setting))


def test_an_upgrade_under_traffic_and_its_rollback_lose_nothing(site: Site) -> None:
    before = {component: {pod["metadata"]["uid"] for pod in site.pods(component)} for component in COMPONENTS}
    with nothing_lost(site):
        site.helm(
            "upgrade", "flows", str(CHART), "--values", str(site.values),
            *revision_values("image.tag=0.1.1", "podAnnotations.revision=second"),
        )  # fmt: skip
        site.ready()
        upgraded = {component: site.pods(component) for component in COMPONENTS}
        for component, pods in upgraded.items():
            assert not before[component] & {pod["metadata"]["uid"] for pod in pods}
            assert all(pod["spec"]["containers"][0]["image"].endswith(":0.1.1") for pod in pods)
        site.helm("rollback", "flows", "1")
        site.ready()
        for component in COMPONENTS:
            pods = site.pods(component)
            assert not {pod["metadata"]["uid"] for pod in upgraded[component]} & {p["metadata"]["uid"] for p in pods}
            assert all(pod["spec"]["containers"][0]["image"].endswith(":0.1.0") for pod in pods)


def test_pods_deleted_at_random_lose_nothing(site: Site) -> None:
    seed = int(os.environ.get("E2E_SEED", str(time.time_ns() % 100_000)))
    print(f"E2E_SEED={seed} repeats this order")
    chosen = random.Random(seed)
    deleted: list[str] = []
    with nothing_lost(site):
        end = time.monotonic() + CHAOS_S
        due = time.monotonic()
        order: list[str] = []
        while time.monotonic() < end:
            order = order or chosen.sample(COMPONENTS, len(COMPONENTS))
            component = order.pop()
            running = [pod["metadata"]["name"] for pod in site.pods(component)]
            if running:
                name = chosen.choice(running)
                site.cluster.kubectl("delete", "pod", name, "--namespace", NAMESPACE, "--wait=false")
                deleted.append(name)
            due += chosen.uniform(3, 9)
            site.cluster.wait("the next one's turn", lambda due=due: time.monotonic() >= due, timeout_s=30)  # type: ignore[misc]
        site.ready()
    assert len(deleted) >= CHAOS_S / 9
    assert {name.split("-")[2] for name in deleted} == set(COMPONENTS)


def test_a_restart_of_kubelet_and_containerd_keeps_the_pods_and_loses_nothing(site: Site) -> None:
    def containers() -> set[str]:
        pods = [pod for name in ("storefront", NAMESPACE) for pod in site.items("pods", "--namespace", name)]
        return {
            status["containerID"]
            for pod in pods
            for status in pod["status"].get("containerStatuses", ())
            if "running" in status["state"]
        }

    before = containers()
    with nothing_lost(site):
        site.cluster.restart_node()
        site.ready()
    assert containers() == before


def test_every_window_has_been_written_once(site: Site) -> None:
    site.cluster.wait("a last window", lambda: time.time() % WINDOW_S > 1, timeout_s=WINDOW_S)
    logs = site.flows("--namespace", "storefront", "--since", "1h")
    keys = [
        (log["start_time"], log["reporter"], log["action"], log["source_name_aggr"], log["dest_name_aggr"],
         log["dest_port"], log["proto"], str(log["policies"]), log["dest_service_name"], str(log.get("evidence")),
         str(log.get("source_labels")), str(log.get("dest_labels")), log["source_namespace"], log["dest_namespace"])
        for log in logs
    ]  # fmt: skip
    assert keys
    assert len(keys) == len(set(keys))
