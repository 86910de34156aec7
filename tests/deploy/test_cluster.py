"""The chart on a real one-node Kubernetes: what runs, with which privileges, and what comes out."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import absent
from tests.services import helm
from tests.services.cluster import NODE
from tests.services.cluster import cluster as cluster

if TYPE_CHECKING:
    from tests.services.cluster import Cluster

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy" / "helm" / "tierflow"
TRIAL = ("--values", str(CHART / "profiles" / "trial.yaml"), "--set", "image.pullPolicy=Never")
IMAGES = {
    "storefront": "docker.io/tierflow/storefront:latest",
    "tierflow": "docker.io/library/tierflow:0.1.0",
    "collector": "docker.io/library/tierflow-collector:0.1.0",
}
NEEDED = {"CAP_NET_ADMIN": 12, "CAP_PERFMON": 38, "CAP_BPF": 39}
READER = """
import asyncio, json, sys
from aiokafka import AIOKafkaConsumer
from tierflow.schemas.wire import decode_batch

def address(hi, lo):
    return ".".join(str(part) for part in (int(lo) & 0xFFFFFFFF).to_bytes(4))

async def read(broker, seconds):
    consumer = AIOKafkaConsumer("flows.raw.v1", bootstrap_servers=broker, auto_offset_reset="earliest", group_id=None)
    await consumer.start()
    seen = set()
    try:
        async with asyncio.timeout(seconds):
            while True:
                batch = decode_batch((await consumer.getone()).value)
                for r in batch.records:
                    if int(r["nat_dst_port"]) == 8080:
                        seen.add((batch.header.node, address(r["src_hi"], r["src_lo"]),
                                  address(r["dst_hi"], r["dst_lo"]), int(r["dst_port"]),
                                  address(r["nat_dst_hi"], r["nat_dst_lo"]), int(r["nat_dst_port"])))
    except TimeoutError:
        pass
    finally:
        await consumer.stop()
    print(json.dumps(sorted(seen)))

asyncio.run(read(sys.argv[1], int(sys.argv[2])))
"""

pytestmark = [pytest.mark.root, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def node(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Cluster:
    """The cluster with our images loaded, the storefront and the trial profile installed."""
    if shutil.which("mmdebstrap") is None or not (helm.folder() / "helm").exists():
        absent("mmdebstrap or helm is absent: `make services` fetches them")
    folder = tmp_path_factory.mktemp("images")
    for target, tag in IMAGES.items():
        archive = folder / f"{target}.tar"
        builder = str(ROOT / "deploy" / "images" / "rootfs")
        done = subprocess.run(
            [builder, target, str(archive), "--tag", tag], check=False, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr[-2000:]
        cluster.load(archive)
        archive.unlink()
    for name in ("00-namespaces.yaml", "10-storefront.yaml"):
        manifest = (ROOT / "deploy" / "storefront" / name).read_text()
        # No registry is at hand; what is loaded is all there is.
        local = manifest.replace(
            "image: tierflow/storefront\n", "image: tierflow/storefront\n          imagePullPolicy: Never\n"
        )
        cluster.kubectl("apply", "--filename", "-", stdin=local)
    cluster.helm("install", "flows", str(CHART), "--namespace", "tierflow", "--create-namespace", *TRIAL)
    cluster.publish_names(**{"api.twilio.com": "198.51.100.10"})
    return cluster


def rollout(cluster: Cluster, what: str, namespace: str = "tierflow") -> None:
    cluster.kubectl("rollout", "status", what, "--namespace", namespace, "--timeout=150s")


def items(cluster: Cluster, *arguments: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = cluster.get(*arguments)["items"]  # type: ignore[assignment]
    return found


def broker_address(cluster: Cluster) -> str:
    service = cluster.get("service", "flows-tierflow-broker", "--namespace", "tierflow")
    return f"{service['spec']['clusterIP']}:9092"  # type: ignore[index]


def edges(cluster: Cluster, seconds: int) -> set[tuple[str, str, str, int]]:
    """(node, caller, callee, callee's port) by Deployment name, of calls through a Service as the collector saw."""
    # The broker advertises its Service's name, which the node itself resolves through its own resolver file only.
    lines = cluster.inside(
        # In a mount namespace of its own: on the node's shared tree every such mount would double the ones before.
        "unshare", "--mount", "sh", "-ec", 'mount --bind "$0" /etc/resolv.conf; shift; exec "$@"',
        str(cluster.folder / "resolv.conf"), "-", sys.executable, "-c", READER, broker_address(cluster), str(seconds),
    )  # fmt: skip
    names = {
        pod["status"]["podIP"]: pod["metadata"]["labels"].get("app", "")
        for pod in items(cluster, "pods", "--namespace", "storefront")
    }
    return {
        (name, names.get(source, source), names.get(backend, backend), port)
        for name, source, _, _, backend, port in json.loads(lines.stdout)
    }


def test_every_object_of_both_profiles_is_accepted_by_the_api_server(node: Cluster) -> None:
    for profile in ("trial", "production"):
        rendered = node.helm(
            "template", "dry", str(CHART), "--skip-tests", "--namespace", "tierflow", "--values",
            str(CHART / "profiles" / f"{profile}.yaml"), "--set", "metrics.serviceMonitor=false",
            "--set", "metrics.prometheusRule=false",
        )  # fmt: skip
        node.kubectl("apply", "--dry-run=server", "--namespace", "tierflow", "--filename", "-", stdin=rendered.stdout)


def test_broker_collector_and_inventory_become_ready_and_the_topics_are_made(node: Cluster) -> None:
    for what in ("deployment/flows-tierflow-broker", "daemonset/flows-tierflow-collector"):
        rollout(node, what)
    job = ("job/flows-tierflow-topics-1", "--namespace", "tierflow")
    node.kubectl("wait", "--for=condition=complete", *job, "--timeout=150s")
    assert "flows.raw.v1: " in node.kubectl("logs", *job).stdout
    rollout(node, "deployment/flows-tierflow-inventory")


def test_the_collector_has_exactly_its_three_capabilities_and_the_others_none(node: Cluster) -> None:
    seen = {}
    for component in ("collector", "broker", "inventory"):
        pod = items(node, "pods", "-n", "tierflow", "-l", f"app.kubernetes.io/component={component}")[0]
        name = pod["metadata"]["name"]
        status = node.kubectl("exec", "-n", "tierflow", name, "--", "cat", "/proc/1/status").stdout
        fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        seen[component] = (int(fields["CapEff"], 16), int(fields["CapBnd"], 16), fields["NoNewPrivs"].strip())
        written = node.kubectl("exec", "-n", "tierflow", name, "--", "touch", "/written", check=False)
        assert "Read-only file system" in written.stderr
    three = sum(1 << bit for bit in NEEDED.values())
    assert seen == {"collector": (three, three, "1"), "broker": (0, 0, "1"), "inventory": (0, 0, "1")}


def test_calls_between_real_pods_through_services_reach_the_topic_with_their_backends(node: Cluster) -> None:
    for name in ("frontend", "microservice1", "microservice2", "backend", "logging"):
        rollout(node, f"deployment/{name}", "storefront")
    calls = {
        ("frontend", "logging"), ("frontend", "microservice1"), ("frontend", "microservice2"),
        ("microservice1", "logging"), ("microservice1", "microservice2"), ("microservice1", "backend"),
    }  # fmt: skip
    found: set[tuple[str, str, str, int]] = set()

    def all_seen() -> bool:
        found.update(edges(node, 8))
        return {(NODE, *call, 8080) for call in calls} <= found

    node.wait(f"the call graph in flows.raw; seen {found}", all_seen, timeout_s=90)


def test_the_flow_logs_name_the_pods_of_the_call_graph(node: Cluster) -> None:
    for what in ("deployment/flows-tierflow-stream", "statefulset/flows-tierflow-sink"):
        rollout(node, what)
    inside = ("exec", "-n", "tierflow", "flows-tierflow-sink-0", "-c", "sink", "--")
    seen: set[tuple[str, str]] = set()

    def all_seen() -> bool:
        output = node.kubectl(*inside, "tierflow", "flows", "-n", "storefront", "-o", "json", check=False).stdout
        for line in output.splitlines():
            log = json.loads(line)
            assert log["host"] == NODE
            seen.add((log["source_name_aggr"].split("-")[0], log["dest_name_aggr"].split("-")[0]))
        return {("frontend", "logging"), ("frontend", "microservice1"), ("microservice1", "backend")} <= seen

    node.wait("the call graph in the flow logs", all_seen, timeout_s=90)


def test_an_upgrade_and_its_rollback_keep_what_did_not_change(node: Cluster) -> None:
    label = ("-n", "tierflow", "-l", "app.kubernetes.io/component=broker")
    before = [pod["metadata"]["uid"] for pod in items(node, "pods", *label)]
    node.helm("upgrade", "flows", str(CHART), "-n", "tierflow", *TRIAL, "--set", "collector.intervalSeconds=2")
    rollout(node, "daemonset/flows-tierflow-collector")
    node.helm("rollback", "flows", "1", "-n", "tierflow")
    rollout(node, "daemonset/flows-tierflow-collector")
    assert [pod["metadata"]["uid"] for pod in items(node, "pods", *label)] == before
    daemon = node.get("daemonset", "flows-tierflow-collector", "-n", "tierflow")
    assert "--interval-s=1" in daemon["spec"]["template"]["spec"]["containers"][0]["args"]  # type: ignore[index]


def test_kubelet_and_containerd_killed_come_back_and_the_pods_never_left(node: Cluster) -> None:
    def containers() -> set[str]:
        pods = items(node, "pods", "-n", "storefront")
        return {status["containerID"] for pod in pods for status in pod["status"]["containerStatuses"]}

    before = containers()
    node.restart_node()
    rollout(node, "daemonset/flows-tierflow-collector")
    assert containers() == before


def test_tests_of_the_chart_pass(node: Cluster) -> None:
    assert "Phase:          Succeeded" in node.helm("test", "flows", "-n", "tierflow", "--timeout=90s").stdout


def test_nothing_is_left_outside_of_the_namespaces(node: Cluster) -> None:
    # What the cluster mounts and names is in namespaces of its own: this process sees none of it.
    assert str(node.folder) not in Path("/proc/self/mounts").read_text()
    links = set(os.listdir("/sys/class/net"))  # noqa: PTH208 - names only
    assert "node0" not in links
