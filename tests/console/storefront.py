"""Flow logs and policy counters of the storefront, judged by the real policies of ``deploy/storefront``.

Only the traffic's amounts are made up; every trace is the policy engine's.
"""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tierflow.console.server.board import InForce
from tierflow.inventory.manifests import documents_of, load_folder, manifest_files
from tierflow.policy.model import Endpoint, Resources
from tierflow.policy.scalar import Flow, Side, judge_flow
from tierflow.schemas.flow_log import FIELDS
from tierflow.sinks.documents import nest

MANIFESTS = Path(__file__).parents[2] / "deploy" / "storefront"
WINDOW_S = 15
TCP, UDP = 6, 17


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod with its address and the aggregated name of its flow logs."""

    endpoint: Endpoint
    address: str
    name_aggr: str


def _pod(namespace: str, app: str, number: int, digest: str, **labels: str) -> Pod:
    address = f"10.244.0.{number}"
    own = {"app": app, **labels, "pod-template-hash": digest}
    endpoint = Endpoint("wep", namespace, f"{app}-{digest}-x{number}", own, app, (("http", TCP, 8080),), (address,))
    return Pod(endpoint, address, f"{app}-{digest}-*")


PODS = {
    "frontend": _pod("storefront", "frontend", 11, "6d996fbd97", **{"fw-zone": "dmz"}),
    "microservice1": _pod("storefront", "microservice1", 12, "7599d8d8f", **{"fw-zone": "trusted"}),
    "microservice2": _pod("storefront", "microservice2", 13, "fddf7cff8", **{"fw-zone": "trusted"}),
    "backend": _pod("storefront", "backend", 14, "55f7dc6b68", **{"fw-zone": "restricted"}),
    "logging": _pod("storefront", "logging", 15, "7bc4bfcff5"),
    "acme1": _pod("acme", "acme-microservice1", 21, "84d4c6b5c"),
    "acme2": _pod("acme", "acme-microservice2", 22, "5b9f7d7d44"),
    "dns": _pod("kube-system", "kube-dns", 31, "5c98db65d4", **{"k8s-app": "kube-dns"}),
}
ROGUE = _pod("storefront", "rogue", 66, "847f5dfbb5")
CALLS = (
    ("frontend", "logging"), ("frontend", "microservice1"), ("frontend", "microservice2"),
    ("microservice1", "logging"), ("microservice1", "microservice2"), ("microservice1", "backend"),
    ("microservice2", "logging"), ("microservice2", "microservice1"), ("microservice2", "backend"),
    ("backend", "logging"), ("acme1", "acme2"), ("acme2", "acme1"),
)  # fmt: skip


def resources() -> Resources:
    """The storefront's policies."""
    found, problems = load_folder(MANIFESTS)
    assert not problems, problems
    return found


def in_force(*, rogue: bool) -> InForce:
    """What the inventory would say."""
    found = resources()
    manifests = {}
    for path in manifest_files(MANIFESTS):
        for _, _, document in documents_of(path):
            metadata = document.get("metadata", {})
            for policy in found.policies:
                mine = (policy.kind, policy.name, policy.namespace)
                if mine == (document.get("kind"), metadata.get("name"), metadata.get("namespace")):
                    manifests[policy.trace_name] = document
    pods = [*PODS.values(), *([ROGUE] if rogue else [])]
    return InForce(found, tuple(pod.endpoint for pod in pods), manifests, tuple(pod.name_aggr for pod in pods))


class Traffic:
    """Makes the documents of one window after the other."""

    def __init__(self, seed: int = 1) -> None:
        self._resources = resources()
        self._random = random.Random(seed)
        self._verdicts: dict[Any, Any] = {}

    def window(self, end_s: int, *, rogue: bool) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Flow logs and policy counters of the window that ends at ``end_s``."""
        logs: list[dict[str, Any]] = []
        for source, dest in CALLS:
            logs += self._call(PODS[source], PODS[dest], TCP, 8080, self._random.randint(11, 16), end_s)
        for name, pod in PODS.items():
            if name != "dns":
                logs += self._call(pod, PODS["dns"], UDP, 53, self._random.randint(20, 34), end_s)
        logs += self._call(PODS["microservice2"], None, TCP, 80, 1, end_s)
        if rogue:
            for name in ("backend", "frontend", "logging", "microservice1", "microservice2"):
                logs += self._call(ROGUE, PODS[name], TCP, 8080, self._random.randint(13, 16), end_s)
        return [nest(log) for log in logs], [nest(each) for each in self._counters(logs, end_s)]

    def _judge(self, source: Pod, dest: Pod | None, proto: int, port: int) -> Any:
        key = (source.name_aggr, dest and dest.name_aggr, proto, port)
        if key not in self._verdicts:
            there = Side(dest.address, dest.endpoint) if dest else Side("54.172.60.0")
            flow = Flow(Side(source.address, source.endpoint), there, proto, 40000, port)
            self._verdicts[key] = judge_flow(self._resources, flow)
        return self._verdicts[key]

    def _call(
        self, source: Pod, dest: Pod | None, proto: int, port: int, calls: int, end_s: int
    ) -> list[dict[str, Any]]:
        verdict = self._judge(source, dest, proto, port)
        blocked = "deny" in {trace.action for trace in (verdict.egress, verdict.ingress) if trace}
        out = (
            (calls, calls * 60)
            if blocked
            else (calls * (6 if proto == TCP else 1), calls * (430 if proto == TCP else 78))
        )
        back = (0, 0) if blocked else (calls * (4 if proto == TCP else 1), calls * (390 if proto == TCP else 140))
        logs = []
        for reporter, trace in (("src", verdict.egress), ("dst", verdict.ingress)):
            if trace is None or (reporter == "dst" and verdict.egress.action == "deny"):
                continue
            toward, from_ = (back, out) if reporter == "src" else (out, back)
            evidence = "enforced" if trace.action == "deny" else "unanswered" if blocked else "answered"
            logs.append(_log(source, dest, proto, port, reporter, trace, evidence, calls, toward, from_, end_s))
        return logs

    def _counters(self, logs: list[dict[str, Any]], end_s: int) -> list[dict[str, Any]]:
        kinds = {policy.trace_name: policy for policy in self._resources.policies}
        totals: dict[Any, list[int]] = defaultdict(lambda: [0] * 6)
        for log in logs:
            direction = "ingress" if log["reporter"] == "dst" else "egress"
            hits = {hit.split("|", 1)[1] for hit in log["policies.all_policies"]}
            for hit in hits:
                tier, policy, action, rule = hit.split("|")
                total = totals[tier, policy, direction, action, int(rule)]
                for at, name in enumerate(
                    ("num_flows", "num_flows_started", "packets_in", "packets_out", "bytes_in", "bytes_out")
                ):
                    total[at] += log[name]
        return [
            {
                "id": f"{end_s}/{policy}/{direction}/{action}/{rule}",
                "record": "traffic",
                "start_time": end_s - WINDOW_S,
                "end_time": end_s,
                "@timestamp": end_s * 1000,
                "cluster": "",
                "host": "lab-node",
                "late": False,
                "tier": tier,
                "policy": policy,
                "kind": kinds[policy].kind if policy in kinds else "Profile",
                "namespace": (kinds[policy].namespace or "-") if policy in kinds else "-",
                "name": kinds[policy].name if policy in kinds else policy,
                "staged": "staged:" in policy,
                "rule_index": rule,
                "rule_direction": direction,
                "action": action,
                "connections": total[0],
                "connections_started": total[1],
                "packets_in": total[2],
                "packets_out": total[3],
                "bytes_in": total[4],
                "bytes_out": total[5],
                "endpoints": None,
            }
            for (tier, policy, direction, action, rule), total in totals.items()
        ]


def _log(
    source: Pod, dest: Pod | None, proto: int, port: int, reporter: str, trace: Any, evidence: str, calls: int,
    toward: tuple[int, int], from_: tuple[int, int], end_s: int,
) -> dict[str, Any]:  # fmt: skip
    to_service = dest is not None and reporter == "src"
    known = {
        "id": f"{end_s}/{source.name_aggr}/{dest.name_aggr if dest else 'net'}/{proto}/{port}/{reporter}",
        "start_time": end_s - WINDOW_S,
        "end_time": end_s,
        "@timestamp": end_s * 1000,
        "cluster": "",
        "host": "lab-node",
        "reporter": reporter,
        "action": trace.action,
        "evidence": evidence,
        "derived": reporter == "dst" and trace.action == "deny",
        "late": False,
        "aggregation_level": 2 if not trace.holds_deny else 1,
        "proto": "tcp" if proto == TCP else "udp",
        "source_ip": None,
        "dest_ip": None,
        "source_name": "-",
        "dest_name": "-",
        "source_name_aggr": source.name_aggr,
        "dest_name_aggr": dest.name_aggr if dest else "public-ip-range",
        "source_namespace": source.endpoint.namespace,
        "dest_namespace": dest.endpoint.namespace if dest else "-",
        "source_type": "wep",
        "dest_type": "wep" if dest else "ns",
        "source_port": None,
        "dest_port": port,
        "source_labels.labels": sorted(f"{key}={value}" for key, value in source.endpoint.labels.items()),
        "dest_labels.labels": sorted(f"{k}={v}" for k, v in dest.endpoint.labels.items()) if dest else ["type=public"],
        "dest_service_namespace": dest.endpoint.namespace if dest and to_service else "-",
        "dest_service_name": dest.endpoint.service_account if dest and to_service else "-",
        "dest_service_port": "http" if to_service else "-",
        "dest_service_port_name": "http" if to_service else "-",
        "dest_service_port_num": 80 if to_service else None,
        "num_flows": calls,
        "num_flows_started": calls,
        "num_flows_completed": calls,
        "packets_in": toward[0],
        "bytes_in": toward[1],
        "packets_out": from_[0],
        "bytes_out": from_[1],
        "policies.all_policies": list(trace.all_strings()),
        "policies.enforced_policies": list(trace.enforced_strings()),
        "policies.pending_policies": list(trace.pending_strings()),
        "handshake_rtt_mean_us": None if evidence != "answered" or proto != TCP else 84,
        "handshake_rtt_max_us": None if evidence != "answered" or proto != TCP else 311,
        "source_ips": [source.address],
        "dest_ips": [dest.address if dest else "54.172.60.0"],
        "num_source_ips": 1,
        "num_dest_ips": 1,
    }
    return {field.name: known.get(field.name) for field in FIELDS}
