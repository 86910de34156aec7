"""What goes when all is taken away, what comes with the profile for trying out, and what nobody outside ever sees."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.cluster.site import CHART, NAMESPACE, STOREFRONT
from tests.storefront_logs import EDGES, edges

if TYPE_CHECKING:
    from tests.cluster.site import Site

pytestmark = [pytest.mark.root, pytest.mark.timeout(600)]


def test_without_hand_over_an_uninstalled_collector_leaves_no_filter_and_no_map(site: Site) -> None:
    site.helm("upgrade", "flows", str(CHART), "--values", str(site.values), "--set", "collector.handOver=false")
    site.rollout("daemonset/flows-tierflow-collector")
    assert "tierflow" in site.cluster.inside("tc", "filter", "show", "dev", link(site), "ingress").stdout
    uninstall(site)
    assert "tierflow" not in site.cluster.inside("tc", "filter", "show", "dev", link(site), "ingress").stdout
    assert site.cluster.inside("find", "/sys/fs/bpf", "-path", "*tierflow*").stdout == ""


def test_the_profile_for_trying_out_brings_broker_store_and_page_with_it(site: Site) -> None:
    profile = str(CHART / "profiles" / "trial.yaml")
    values = ("--values", profile, "--set", "image.pullPolicy=Never", "--set", "collector.handOver=false")
    notes = site.helm("install", "flows", str(CHART), *values, "--wait", "--timeout", "150s")
    assert "The embedded broker keeps messages in memory" in notes
    logs = re.search(r"kubectl -n tierflow logs (\S+) -c console", notes)
    assert logs, notes
    said = site.cluster.kubectl("logs", logs[1], "--namespace", NAMESPACE, "--container", "console").stdout
    token = re.search(r"token=(\S+)", said)
    assert token, said
    site.cluster.wait(
        "the call graph in the flow logs",
        lambda: edges(site.flows("--namespace", "storefront", "--action", "allow"), "dst") >= EDGES,
        timeout_s=120,
    )
    further = re.search(r"kubectl -n tierflow exec (\S+) -c console -- cat (\S+)", notes)
    assert further, notes
    now = int(time.time())
    question = f"/api/v1/flows?from={now - 600}&to={now}"
    assert site.console(token[1], question)["flows"]
    reading = ("exec", further[1], "--namespace", NAMESPACE, "--container", "console", "--", "cat", further[2])
    address = site.cluster.kubectl(*reading).stdout.strip()
    assert site.console(address.rpartition("token=")[2], question)["flows"]
    uninstall(site)


def test_the_enforcers_rules_go_with_it(site: Site) -> None:
    manifest = str(STOREFRONT / "enforcer" / "enforcer.yaml")
    site.cluster.kubectl("delete", "--filename", manifest, "--wait", "--timeout=60s")
    tables = site.cluster.inside("nft", "list", "tables").stdout
    assert "tierflow_truth" in tables
    assert "tierflow_policy" not in tables


def test_nothing_is_seen_outside_of_the_clusters_namespaces(site: Site) -> None:
    assert str(site.cluster.folder) not in Path("/proc/self/mounts").read_text()
    links = set(os.listdir("/sys/class/net"))  # noqa: PTH208 - names only
    assert "node0" not in links


def uninstall(site: Site) -> None:
    """Take the release away, pods included: Helm waits for what it made itself, and they end after it."""
    site.helm("uninstall", "flows", "--wait", "--cascade", "foreground", "--timeout", "90s")
    site.cluster.wait("the last pod's end", lambda: site.items("all", "--namespace", NAMESPACE) == [], timeout_s=60)


def link(site: Site) -> str:
    """The host side of one of the storefront's pods."""
    address = next(iter(site.storefront_addresses()))
    return site.cluster.inside("ip", "route", "get", address).stdout.split(" dev ")[1].split()[0]
