"""What goes when all is taken away, and what nobody outside of the cluster ever sees."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.cluster.site import CHART, NAMESPACE, STOREFRONT

if TYPE_CHECKING:
    from tests.cluster.site import Site

pytestmark = [pytest.mark.root, pytest.mark.timeout(300)]


def test_without_hand_over_an_uninstalled_collector_leaves_no_filter_and_no_map(site: Site) -> None:
    site.helm("upgrade", "flows", str(CHART), "--values", str(site.values), "--set", "collector.handOver=false")
    site.rollout("daemonset/flows-tierflow-collector")
    assert "tierflow" in site.cluster.inside("tc", "filter", "show", "dev", link(site), "ingress").stdout
    site.helm("uninstall", "flows", "--wait", "--cascade", "foreground", "--timeout", "90s")
    # Helm waits for what it made itself; pods end in their own time.
    site.cluster.wait("the last pod's end", lambda: site.items("all", "--namespace", NAMESPACE) == [], timeout_s=60)
    assert "tierflow" not in site.cluster.inside("tc", "filter", "show", "dev", link(site), "ingress").stdout
    assert site.cluster.inside("find", "/sys/fs/bpf", "-path", "*tierflow*").stdout == ""


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


def link(site: Site) -> str:
    """The host side of one of the storefront's pods."""
    address = next(iter(site.storefront_addresses()))
    return site.cluster.inside("ip", "route", "get", address).stdout.split(" dev ")[1].split()[0]
