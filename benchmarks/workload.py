"""A seeded cluster and its traffic: inventory, raw batches, and the exact totals that must come out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from tierflow.inventory.history import History
from tierflow.schemas import inventory as topic
from tierflow.schemas.clock import NS_PER_S
from tierflow.schemas.inventory import Heartbeat, ObjectVersion
from tierflow.schemas.record import RECORD, V4_MAPPED, Mark, Reporter, address_text
from tierflow.schemas.wire import DEFAULT_RECORDS, BatchHeader, Source, encode_batch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from tierflow.inventory.snapshot import Snapshot

ZONES = ("dmz", "trusted", "restricted", "open")


@dataclass(frozen=True, slots=True)
class Size:
    """How big the cluster and its traffic are; the defaults are the benchmark's."""

    connections: int = 200_000
    pods: int = 5_000
    namespaces: int = 50
    services: int = 500
    nodes: int = 100
    policies: int = 200
    external: float = 0.13
    zipf: float = 1.05


@dataclass(slots=True)
class Workload:
    """A cluster and connections between its pods; everything follows from ``seed``."""

    size: Size = field(default_factory=Size)
    seed: int = 7
    start_ns: int = 1_780_000_005 * NS_PER_S
    messages: list[ObjectVersion] = field(default_factory=list)
    pod_lo: NDArray[np.uint64] = field(init=False)
    pod_node: NDArray[np.int64] = field(init=False)
    pod_service: NDArray[np.int64] = field(init=False)
    connections: NDArray[np.void] = field(init=False)
    _rng: np.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        self._rng = np.random.default_rng(self.seed)
        self._cluster()
        self._policies()
        self._connections()

    def history(self, watermark_ns: int | None = None) -> History:
        """The inventory with everything in it."""
        history = History()
        for message in self.messages:
            history.apply(message)
        history.apply(Heartbeat(watermark_ns or self.start_ns + 86_400 * NS_PER_S, "workload", 1))
        return history

    def snapshot(self) -> Snapshot:
        """The inventory as of the end of time."""
        return self.history().snapshot()

    def node_name(self, number: int) -> str:
        """Name of a node."""
        return f"node-{number:03d}"

    def interval(self, number: int, interval_s: int = 1) -> dict[int, NDArray[np.void]]:
        """Records of one drained interval, by node; every connection is seen in each."""
        rng = np.random.default_rng([self.seed, number])
        found = self.connections
        count = len(found)
        begin = self.start_ns + number * interval_s * NS_PER_S
        first = begin + rng.integers(0, interval_s * NS_PER_S // 2, count).astype(np.uint64)
        last = first + rng.integers(0, interval_s * NS_PER_S // 2, count).astype(np.uint64)
        packets_fwd = rng.integers(1, 40, count).astype(np.uint32)
        packets_rev = np.where(rng.random(count) < 0.93, rng.integers(1, 60, count), 0).astype(np.uint32)
        bytes_fwd = packets_fwd.astype(np.uint64) * rng.integers(40, 1500, count).astype(np.uint64)
        bytes_rev = packets_rev.astype(np.uint64) * rng.integers(40, 1500, count).astype(np.uint64)
        rtt = np.where(rng.random(count) < 0.1, rng.integers(50, 5000, count), 0).astype(np.uint32)
        records = np.zeros(count, RECORD)
        for name in ("src_lo", "dst_lo", "nat_dst_lo", "src_port", "dst_port", "nat_dst_port", "proto"):
            records[name] = found[name]
        records["first_seen_ns"], records["last_seen_ns"] = first, last
        records["packets_fwd"], records["packets_rev"] = packets_fwd, packets_rev
        records["bytes_fwd"], records["bytes_rev"] = bytes_fwd, bytes_rev
        records["handshake_rtt_us"] = rtt
        if number == 0:
            records["marks"] = Mark.STARTED
        by_node: dict[int, list[NDArray[np.void]]] = {}
        for side, reporter in (("src_node", Reporter.SRC), ("dst_node", Reporter.DST)):
            own = records.copy()
            own["reporter"] = reporter
            if reporter is Reporter.DST:
                translated = own["nat_dst_lo"] != 0
                own["dst_lo"] = np.where(translated, own["nat_dst_lo"], own["dst_lo"])
                own["dst_port"] = np.where(translated, own["nat_dst_port"], own["dst_port"])
                own["nat_dst_lo"] = 0
                own["nat_dst_port"] = 0
            order = np.argsort(found[side], kind="stable")
            bounds = np.searchsorted(found[side][order], np.arange(self.size.nodes + 1))
            for node in range(self.size.nodes):
                part = own[order[bounds[node] : bounds[node + 1]]]
                if len(part):
                    by_node.setdefault(node, []).append(part)
        return {node: np.concatenate(parts) for node, parts in sorted(by_node.items())}

    def batches(
        self, intervals: int, interval_s: int = 1, batch_records: int = DEFAULT_RECORDS
    ) -> Iterator[tuple[int, bytes]]:
        """``(node, message)`` in the order in which collectors would send them, ended by empty ones that close all."""
        sequences = [0] * self.size.nodes
        for number in range(intervals):
            begin = self.start_ns + number * interval_s * NS_PER_S
            end = begin + interval_s * NS_PER_S
            for node, records in self.interval(number, interval_s).items():
                for at in range(0, len(records), batch_records):
                    part = records[at : at + batch_records]
                    final = at + batch_records >= len(records)
                    yield node, self.encode(node, sequences[node], part, begin, end, end if final else begin)
                    sequences[node] += 1

    def closing(self, at_ns: int, sequences: list[int]) -> Iterator[tuple[int, bytes]]:
        """One empty batch a node whose watermark closes everything before ``at_ns``."""
        for node in range(self.size.nodes):
            yield node, self.encode(node, sequences[node], np.zeros(0, RECORD), at_ns, at_ns, at_ns)

    def encode(
        self,
        node: int,
        sequence: int,
        records: NDArray[np.void],
        begin_ns: int,
        end_ns: int,
        watermark_ns: int,
        lost_records: int = 0,
    ) -> bytes:
        """One message."""
        return encode_batch(
            BatchHeader(
                self.node_name(node), "", node.to_bytes(16, "little"), sequence, begin_ns, end_ns, watermark_ns,
                lost_records, source=Source.SYNTHETIC,
            ),
            records,
        )  # fmt: skip

    def _put(self, kind: str, key: str, content: dict[str, Any]) -> None:
        self.messages.append(ObjectVersion(kind, key, self.start_ns - 3600 * NS_PER_S, None, content))

    def _cluster(self) -> None:
        size, rng = self.size, self._rng
        for number in range(size.namespaces):
            name = f"ns-{number:02d}"
            self._put(
                topic.NAMESPACE, f"Namespace/{name}",
                {
                    "apiVersion": "v1", "kind": "Namespace",
                    "metadata": {"name": name, "labels": {"team": f"t{number % 7}"}},
                },
            )  # fmt: skip
        numbers = np.arange(size.pods)
        self.pod_lo = (V4_MAPPED | (10 << 24) | (1 << 16)) + numbers.astype(np.uint64)
        self.pod_node = rng.integers(0, size.nodes, size.pods)
        self.pod_service = numbers % size.services
        for number in range(size.pods):
            app = number % size.services
            namespace = f"ns-{app % size.namespaces:02d}"
            name_aggr = f"app-{app:03d}-6d9c5b7f4-*"
            labels = {"app": f"app-{app:03d}", "fw-zone": ZONES[app % 4], "pod-template-hash": "6d9c5b7f4"}
            name = f"{name_aggr[:-1]}{number:05d}"
            self._put(
                topic.ENDPOINT, f"Pod/{namespace}/{name}",
                {
                    "type": "wep", "namespace": namespace, "name": name, "labels": labels, "service_account": "default",
                    "named_ports": [["http", 6, 8080]], "addresses": [address_text(0, int(self.pod_lo[number]))],
                    "name_aggr": name_aggr, "node": self.node_name(int(self.pod_node[number])), "policed": True,
                },
            )  # fmt: skip
        for number in range(size.services):
            namespace = f"ns-{number % size.namespaces:02d}"
            name, address = f"svc-{number:03d}", f"10.96.{number // 250}.{number % 250 + 1}"
            manifest = {
                "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": namespace},
                "spec": {
                    "clusterIP": address, "selector": {"app": f"app-{number:03d}"},
                    "ports": [{"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"}],
                },
            }  # fmt: skip
            self._put(
                topic.SERVICE, f"Service/{namespace}/{name}",
                {
                    "name": name, "namespace": namespace, "addresses": [address], "manifest": manifest,
                    "ports": [{"name": "http", "protocol": 6, "port": 80, "node_port": 0}],
                },
            )  # fmt: skip

    def _policies(self) -> None:
        api = "projectcalico.org/v3"
        tiers = ("security", "platform", "application", "default")
        for order, tier in enumerate(tiers):
            self._put(
                topic.POLICY, f"Tier/{tier}",
                {"apiVersion": api, "kind": "Tier", "metadata": {"name": tier},
                 "spec": {"order": 100 * (order + 1), "defaultAction": "Deny" if tier == "default" else "Pass"}},
            )  # fmt: skip
        for number in range(self.size.policies):
            tier = tiers[number % 4]
            app = f"app-{number % self.size.services:03d}"
            last = number % 4 == 3
            rules: list[dict[str, Any]] = [
                {"action": "Deny" if number % 11 == 0 else "Allow" if last else "Pass", "protocol": "TCP",
                 "source": {"selector": f"fw-zone == '{ZONES[number % 3]}'"}},
                {"action": "Allow" if last else "Pass"},
            ]  # fmt: skip
            self._put(
                topic.POLICY, f"GlobalNetworkPolicy/{tier}.p{number:03d}",
                {"apiVersion": api, "kind": "GlobalNetworkPolicy", "metadata": {"name": f"{tier}.p{number:03d}"},
                 "spec": {"tier": tier, "order": number, "selector": f"app == '{app}'", "types": ["Ingress", "Egress"],
                          "ingress": rules, "egress": [{"action": "Allow" if last else "Pass"}]}},
            )  # fmt: skip

    def _connections(self) -> None:
        size, rng = self.size, self._rng
        rank = 1 / np.arange(1, size.pods + 1) ** size.zipf
        cumulative = np.cumsum(rank / rank.sum())
        shuffled = rng.permutation(size.pods)

        def pick() -> NDArray[np.int64]:
            return shuffled[np.minimum(np.searchsorted(cumulative, rng.random(size.connections)), size.pods - 1)]

        src, dst = pick(), pick()
        outside_src = rng.random(size.connections) < size.external
        outside_dst = (rng.random(size.connections) < size.external) & ~outside_src
        found = np.zeros(
            size.connections,
            [("src_lo", "u8"), ("dst_lo", "u8"), ("nat_dst_lo", "u8"), ("src_port", "u2"), ("dst_port", "u2"),
             ("nat_dst_port", "u2"), ("proto", "u1"), ("src_node", "i8"), ("dst_node", "i8")],
        )  # fmt: skip
        external = (V4_MAPPED | (203 << 24)) + rng.integers(0, 20_000, size.connections).astype(np.uint64)
        found["src_lo"] = np.where(outside_src, external, self.pod_lo[src])
        through = ~outside_dst & (rng.random(size.connections) < 0.6)
        service = self.pod_service[dst]
        cluster_ip = (V4_MAPPED | (10 << 24) | (96 << 16)) + (
            (service // 250).astype(np.uint64) * 256 + (service % 250 + 1).astype(np.uint64)
        )
        found["dst_lo"] = np.where(outside_dst, external, np.where(through, cluster_ip, self.pod_lo[dst]))
        found["nat_dst_lo"] = np.where(through, self.pod_lo[dst], 0)
        found["dst_port"] = np.where(outside_dst, 443, np.where(through, 80, 8080))
        found["nat_dst_port"] = np.where(through, 8080, 0)
        found["src_port"] = 1024 + np.arange(size.connections) % 60_000
        found["proto"] = 6
        found["src_node"] = np.where(outside_src, size.nodes, self.pod_node[src])
        found["dst_node"] = np.where(outside_dst, size.nodes, self.pod_node[dst])
        self.connections = found
