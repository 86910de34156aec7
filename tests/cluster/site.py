"""The cluster under test with what is installed on it, and the questions that tests ask of it."""

from __future__ import annotations

import json
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

from tierflow.lab import truth

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tests.services.cluster import Cluster

ROOT: Final = Path(__file__).parents[2]
CHART: Final = ROOT / "deploy" / "helm" / "tierflow"
STOREFRONT: Final = ROOT / "deploy" / "storefront"
NAMESPACE: Final = "tierflow"
WINDOW_S: Final = 10
TOPIC_PREFIX: Final = "e2e."
TOKEN: Final = "token-of-the-cluster-test"
STABLE_S: Final = 3.0
"""Longer than a call may take: counters that stood still for so long will not move again."""


@dataclass(frozen=True, slots=True)
class Site:
    """One cluster with tierflow, the storefront and its enforcement.

    Attributes:
        cluster: it.
        values: file with the chart's values of the installation.
    """

    cluster: Cluster
    values: Path

    def helm(self, *arguments: str) -> str:
        """Run helm on the release's namespace; its output."""
        return self.cluster.helm(*arguments, "--namespace", NAMESPACE).stdout

    def rollout(self, *whats: str, namespace: str = NAMESPACE, timeout_s: int = 150) -> None:
        """Wait until all of a workload's pods are as its template says, and ready."""
        for what in whats:
            done = self.cluster.kubectl(
                "rollout", "status", what, "--namespace", namespace, f"--timeout={timeout_s}s", check=False
            )
            if done.returncode:
                raise RuntimeError(f"{what}: {done.stderr.strip()}\n{self.state(what, namespace)}")

    def state(self, what: str, namespace: str) -> str:
        """For a person, when something isn't as it should be: the namespace's pods, and a workload's last words."""
        where = ("--namespace", namespace)
        asked = (
            ("get", "pods", *where),
            ("logs", what, *where, "--all-containers", "--tail=15"),
            ("logs", what, *where, "--all-containers", "--tail=15", "--previous"),
        )
        return "\n".join(self.cluster.kubectl(*each, check=False).stdout for each in asked)

    def ready(self) -> None:
        """Wait for all of ours."""
        self.rollout(
            "daemonset/flows-tierflow-collector", "deployment/flows-tierflow-inventory",
            "deployment/flows-tierflow-stream", "statefulset/flows-tierflow-sink",
        )  # fmt: skip

    def items(self, *arguments: str) -> list[dict[str, Any]]:
        """``kubectl get``, its items."""
        found: list[dict[str, Any]] = self.cluster.get(*arguments)["items"]  # type: ignore[assignment]
        return found

    def pods(self, component: str) -> list[dict[str, Any]]:
        """Our pods of one component that aren't going."""
        label = f"app.kubernetes.io/component={component}"
        found = self.items("pods", "--namespace", NAMESPACE, "--selector", label)
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    def apply(self, *paths: Path, edit: Callable[[dict[str, Any]], None] = lambda _: None) -> None:
        """``kubectl apply`` of manifests, each object edited in place, with the images that the node has already."""
        documents = []
        for path in paths:
            documents += [_local(document) for document in yaml.safe_load_all(path.read_text()) if document]
        for document in documents:
            edit(document)
        listed = {"apiVersion": "v1", "kind": "List", "items": documents}
        self.cluster.kubectl("apply", "--filename", "-", stdin=json.dumps(listed))

    def flows(self, *arguments: str) -> list[dict[str, Any]]:
        """``tierflow flows`` in the sink's pod."""
        done = self.cluster.kubectl(
            "exec", "--namespace", NAMESPACE, "flows-tierflow-sink-0", "--container", "sink", "--",
            "tierflow", "flows", "--output", "json", "--limit", "10000", *arguments, check=False,
        )  # fmt: skip
        # A sink that is just coming back is asked again.
        return [json.loads(line) for line in done.stdout.splitlines()] if done.returncode == 0 else []

    def console(self, token: str, path: str) -> Any:
        """An answer of the console's API through its Service, in a session opened by the token."""
        service = self.cluster.get("service", "flows-tierflow-console", "--namespace", NAMESPACE)
        base = f"http://{service['spec']['clusterIP']}"  # type: ignore[index]
        curl = ("curl", "--silent", "--header", f"Host: flows-tierflow-console.{NAMESPACE}.svc")
        jar = str(self.cluster.folder / "cookies")
        self.cluster.inside(*curl, "--max-time", "10", "--cookie-jar", jar, f"{base}/?token={token}")
        answer = self.cluster.inside(*curl, "--fail-with-body", "--max-time", "20", "--cookie", jar, base + path)
        return json.loads(answer.stdout)

    def delivered(self) -> truth.Pairs:
        """What nftables has counted as delivered between pods, and to and from outside."""
        listed = self.cluster.inside("nft", "-j", "list", "set", "ip", truth.TABLE, "delivered")
        return truth.pairs(listed.stdout)

    def storefront_addresses(self) -> set[str]:
        """Addresses of the storefront's pods."""
        pods = self.items("pods", "--namespace", "storefront", "--field-selector", "status.phase=Running")
        return {pod["status"]["podIP"] for pod in pods}

    def between(self, counted: truth.Pairs, addresses: Iterable[str]) -> truth.Pairs:
        """The part of it that went between these addresses."""
        chosen = set(addresses)
        return {pair: count for pair, count in counted.items() if set(pair) <= chosen}

    def signal_storefront(self, number: signal.Signals) -> None:
        """SIGUSR1: begin no more calls; SIGUSR2: call again."""
        for pid in self.cluster.processes("/storefront.py"):
            os.kill(pid, number)

    def quiet(self) -> int:
        """Stop the traffic; returns the start of a window that begins after its last packet."""
        self.signal_storefront(signal.SIGUSR1)
        last, since = self.delivered_by_storefront(), time.monotonic()

        def stands_still() -> bool:
            nonlocal last, since
            now = self.delivered_by_storefront()
            if now != last:
                last, since = now, time.monotonic()
            return time.monotonic() - since > STABLE_S

        self.cluster.wait("the storefront's traffic to end", stands_still, timeout_s=30)
        boundary = (int(time.time()) // WINDOW_S + 1) * WINDOW_S
        self.cluster.wait("the next window", lambda: time.time() >= boundary, timeout_s=2 * WINDOW_S)
        return boundary

    def delivered_by_storefront(self) -> truth.Pairs:
        """What went between the storefront's pods so far."""
        return self.between(self.delivered(), self.storefront_addresses())

    def resume(self) -> None:
        """Let the storefront call again."""
        self.signal_storefront(signal.SIGUSR2)


def _local(document: dict[str, Any]) -> dict[str, Any]:
    template = document.get("spec", {}).get("template")
    if isinstance(template, dict):
        for container in template["spec"]["containers"]:
            container["imagePullPolicy"] = "Never"
    return document
