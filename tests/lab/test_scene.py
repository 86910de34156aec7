"""The lab on real network namespaces, through the command line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from tests.lab.conftest import wait_until

from tierflow.lab.command import require_privilege
from tierflow.schemas.errors import UnavailableError

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lab.conftest import Node

CALLS = {
    "frontend": {"logging", "microservice1", "microservice2"},
    "microservice1": {"logging", "microservice2", "backend"},
    "microservice2": {"logging", "microservice1", "backend", "api.twilio.com"},
    "backend": {"logging"},
    "acme-microservice1": {"acme-microservice2"},
    "acme-microservice2": {"acme-microservice1"},
}
PODS = {"kube-dns", "logging", "internet", *CALLS}


def least_answered(node: Node) -> int:
    status = node.status()
    return min(edge["answered"] for name in CALLS for edge in status[name]["calls"].values())


def denied(node: Node) -> dict[str, int]:
    """Packets by the comment of the rule that dropped them, where any were."""
    document = json.loads(node.run("nft", "-j", "list", "table", "ip", "tierflow_policy").stdout)
    packets: dict[str, int] = {}
    for rule in (each["rule"] for each in document["nftables"] if "rule" in each):
        drops = any("drop" in expression for expression in rule["expr"])
        count = sum(expression["counter"]["packets"] for expression in rule["expr"] if "counter" in expression)
        if drops and count:
            packets[rule["comment"]] = packets.get(rule["comment"], 0) + count
    return packets


def syns(node: Node, netns: str) -> int:
    """How many SYNs a pod has sent: one for each connection begun, and those sent again where a busy caller let them.

    Not one for each try: on a busy machine its time may be over before it has the address.
    """
    counters: dict[str, int] = {}
    for table in ("snmp", "netstat"):
        lines = node.run("ip", "netns", "exec", netns, "cat", f"/proc/net/{table}").stdout.splitlines()
        for names, values in zip(lines[::2], lines[1::2], strict=True):
            kind, *each = names.split()
            counters |= {f"{kind}{name}": int(value) for name, value in zip(each, values.split()[1:], strict=True)}
    return counters["Tcp:ActiveOpens"] + counters["TcpExt:TCPSynRetrans"]


def live_pods(node: Node) -> dict[str, dict[str, Any]]:
    files = (node.state / "lab" / "inventory").glob("pod.*.yaml")
    return {pod["metadata"]["name"]: pod for pod in (yaml.safe_load(path.read_text()) for path in files)}


@pytest.mark.root
def test_every_edge_of_the_call_graph_is_answered_and_the_rogue_by_nobody(node: Node) -> None:
    node.lab("set-up")
    status = node.status()
    assert set(status) == PODS
    for name, targets in CALLS.items():
        assert {url.removeprefix("http://") for url in status[name]["calls"]} == targets
    wait_until(lambda: least_answered(node) >= 2, "two answers on every edge")
    assert not denied(node)

    assert "rogue" in node.lab("deploy-rogue")
    wait_until(lambda: all(edge["tried"] >= 3 for edge in node.status()["rogue"]["calls"].values()), "three tries each")
    node.pause()
    status = node.status()
    rogue = status["rogue"]["calls"]
    assert len(rogue) == 6
    assert all(edge["answered"] == 0 for edge in rogue.values())
    failed = {name: sum(edge["failed"] for edge in status[name]["calls"].values()) for name in CALLS}
    assert failed == dict.fromkeys(CALLS, 0)
    drops = denied(node)
    assert set(drops) == {
        "storefront/default.dmz ingress 1",
        "storefront/default.trusted ingress 2",
        "storefront/default.restricted ingress 2",
        "platform.logging ingress 1",
        "platform.twilio-integration egress 1",
    }
    assert sum(drops.values()) == syns(node, status["rogue"]["netns"])

    assert any(name.startswith("rogue-") for name in live_pods(node))
    node.lab("remove-rogue")
    assert "rogue" not in node.status()
    assert not any(name.startswith("rogue-") for name in live_pods(node))
    assert "no rogue" in node.lab("remove-rogue")


@pytest.mark.root
def test_down_leaves_nothing_behind_and_set_up_is_done_once(node: Node) -> None:
    before = node.leftovers()
    assert node.lab("set-up", "--node", "node-7") == "the storefront is up\n"
    up = node.leftovers()
    assert all(up[kind] != before[kind] for kind in ("namespaces", "processes", "ruleset", "links", "routes"))
    assert node.settings().items() <= before.items()
    addresses = {name: pod["address"] for name, pod in node.status().items()}
    inventory = live_pods(node)
    assert {pod["status"]["podIP"] for pod in inventory.values()} == {
        address for name, address in addresses.items() if name != "internet"
    }
    assert node.lab("set-up") == "the storefront was up already\n"
    assert live_pods(node) == inventory
    node.lab("deploy-rogue")
    cluster = yaml.safe_load_all((node.state / "lab" / "inventory" / "cluster.yaml").read_text())
    named = {each["metadata"]["name"] for each in cluster if each["kind"] == "Node"}
    assert {*named, *(pod["spec"]["nodeName"] for pod in live_pods(node).values())} == {"node-7"}
    assert node.lab("down") == "the lab is down\n"
    wait_until(lambda: node.leftovers() == before, "everything to be as before")
    assert node.lab("down") == "the lab was down already\n"
    assert node.lab("status") == "the lab is down\n"
    assert sorted(path.name for path in (node.state / "lab").iterdir()) == ["lock"]


@pytest.mark.root
@pytest.mark.parametrize("after_s", [0.25, 0.4, 0.6])
def test_a_set_up_that_was_killed_is_recovered_from(node: Node, after_s: float) -> None:
    before = node.leftovers()
    killed = subprocess.Popen(
        ["nsenter", f"--net=/run/netns/{node.name}", sys.executable, "-m", "tierflow.cli.main", "lab", "set-up"],
        env={**os.environ, "TIERFLOW_STATE": str(node.state)}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    # Killed somewhere in the middle: which step it is doesn't matter, recovery must be right from each.
    time.sleep(after_s)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    node.leftovers()  # learns which lab that was
    node.lab("set-up")
    wait_until(lambda: least_answered(node) >= 1, "an answer on every edge")
    assert len(node.leftovers()["namespaces"]) == len(before["namespaces"]) + len(PODS)
    node.lab("down")
    wait_until(lambda: node.leftovers() == before, "everything to be as before")


@pytest.mark.root
def test_a_pod_that_died_is_seen_and_set_up_heals_it(node: Node) -> None:
    node.lab("set-up")
    netns = node.status()["backend"]["netns"]
    for pid in node.run("ip", "netns", "pids", netns).stdout.split():
        os.kill(int(pid), signal.SIGKILL)
    wait_until(lambda: not node.status()["backend"]["running"], "the backend to be seen dead")
    assert node.lab("set-up") == "the storefront is up\n"
    assert all(pod["running"] for pod in node.status().values())


@pytest.mark.root
def test_a_second_lab_on_the_node_is_refused_in_one_line(node: Node, tmp_path: Path) -> None:
    node.lab("set-up")
    other = type(node)(node.name, tmp_path / "other")
    done = other.run(sys.executable, "-m", "tierflow.cli.main", "lab", "set-up")
    assert done.returncode == 3
    assert done.stderr.startswith("tierflow: lab: 10.244.0.0/24 is routed on this machine already")
    assert done.stderr.count("\n") == 1
    assert all(pod["running"] for pod in node.status().values())


def test_without_root_one_line_names_the_synthetic_source(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(UnavailableError, match=r"needs root.*`tierflow collect --source synthetic`") as caught:
        require_privilege()
    assert "\n" not in str(caught.value)


@pytest.mark.root
def test_the_rogue_needs_a_lab(node: Node) -> None:
    done = node.run(sys.executable, "-m", "tierflow.cli.main", "lab", "deploy-rogue")
    assert (done.returncode, done.stderr) == (3, "tierflow: lab: not up; `tierflow lab set-up` starts it\n")
