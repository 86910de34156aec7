"""A small cluster with a few policies, records between its pods, and the stage run over them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from tierflow.inventory.history import History
from tierflow.policy import compile_policies
from tierflow.schemas import inventory as topic
from tierflow.schemas.clock import NS_PER_S
from tierflow.schemas.inventory import Heartbeat, ObjectVersion
from tierflow.schemas.record import RECORD, Reporter, address_halves
from tierflow.schemas.wire import BatchHeader, Source, encode_batch
from tierflow.streams.core.groups import Levels
from tierflow.streams.core.losses import encode_loss
from tierflow.streams.core.messages import Message, Outcome
from tierflow.streams.core.stage import Stage, StageSettings
from tierflow.streams.core.windows import WindowSettings

if TYPE_CHECKING:
    from numpy.typing import NDArray

START_S = 1_780_000_005
START_NS = START_S * NS_PER_S
WINDOW = WindowSettings(width_s=15, lateness_s=2, idle_s=60)

PODS = {
    "frontend-1": ("10.0.0.1", "frontend-5d4-*", {"app": "frontend", "fw-zone": "dmz", "i": "1"}),
    "frontend-2": ("10.0.0.2", "frontend-5d4-*", {"app": "frontend", "fw-zone": "dmz", "i": "2"}),
    "backend-1": ("10.0.0.3", "backend-7c9-*", {"app": "backend", "projectcalico.org/orchestrator": "k8s"}),
    "backend-2": ("10.0.0.4", "backend-7c9-*", {"app": "backend", "projectcalico.org/orchestrator": "k8s"}),
    "rogue": ("10.0.0.9", "rogue-847-*", {"app": "rogue"}),
}
CLUSTER_IP = "10.96.0.1"


def record(
    src: str,
    dst: str,
    *,
    at_s: float = 1.0,
    until_s: float | None = None,
    reporter: Reporter = Reporter.SRC,
    packets: tuple[int, int] = (3, 2),
    size: tuple[int, int] = (300, 200),
    ports: tuple[int, int] = (40_000, 8080),
    proto: int = 6,
    nat: tuple[str, int] | None = None,
    marks: int = 0,
    rtt_us: int = 0,
    flags: int = 0,
) -> NDArray[np.void]:
    """One raw record; times are seconds after the scene's start."""
    made = np.zeros(1, RECORD)
    made["src_hi"], made["src_lo"] = address_halves(address(src))
    made["dst_hi"], made["dst_lo"] = address_halves(address(dst))
    if nat is not None:
        made["nat_dst_hi"], made["nat_dst_lo"] = address_halves(address(nat[0]))
        made["nat_dst_port"] = nat[1]
    made["first_seen_ns"] = START_NS + int(at_s * NS_PER_S)
    made["last_seen_ns"] = START_NS + int((at_s if until_s is None else until_s) * NS_PER_S)
    made["packets_fwd"], made["packets_rev"] = packets
    made["bytes_fwd"], made["bytes_rev"] = size
    made["src_port"], made["dst_port"] = ports
    made["proto"], made["reporter"], made["marks"], made["handshake_rtt_us"] = proto, reporter, marks, rtt_us
    made["tcp_flags_fwd"] = flags
    return made


def address(name: str) -> str:
    """The address of a pod, or the text itself."""
    return PODS[name][0] if name in PODS else name


def inventory(*more: ObjectVersion) -> History:
    """Pods of namespace shop, a Service in front of the backends, and one policy: only frontends reach backends."""
    begin = START_NS - 3600 * NS_PER_S
    api = "projectcalico.org/v3"
    manifest = {
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "backend", "namespace": "shop"},
        "spec": {"clusterIP": CLUSTER_IP, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]},
    }  # fmt: skip
    versions = [
        *(ObjectVersion(topic.ENDPOINT, f"Pod/shop/{name}", begin, None, pod(name)) for name in PODS),
        ObjectVersion(
            topic.SERVICE, "Service/shop/backend", begin, None,
            {"name": "backend", "namespace": "shop", "addresses": [CLUSTER_IP], "manifest": manifest,
             "ports": [{"name": "http", "protocol": 6, "port": 80, "node_port": 0}]},
        ),
        ObjectVersion(
            topic.POLICY, "Tier/default", begin, None,
            {"apiVersion": api, "kind": "Tier", "metadata": {"name": "default"}, "spec": {"order": 1000}},
        ),
        ObjectVersion(
            topic.POLICY, "NetworkPolicy/shop/default.backend", begin, None,
            policy("backend", {"action": "Allow", "source": {"selector": "fw-zone == 'dmz'"}}, {"action": "Deny"}),
        ),
        *more,
    ]  # fmt: skip
    history = History()
    for version in versions:
        history.apply(version)
    history.apply(Heartbeat(START_NS + 600 * NS_PER_S, "scene", 1))
    return history


def policy(app: str, *ingress: dict[str, Any]) -> dict[str, Any]:
    """The policy default.<app> of namespace shop."""
    return {
        "apiVersion": "projectcalico.org/v3", "kind": "NetworkPolicy",
        "metadata": {"name": f"default.{app}", "namespace": "shop"},
        "spec": {"tier": "default", "order": 10, "selector": f"app == '{app}'", "types": ["Ingress"],
                 "ingress": list(ingress)},
    }  # fmt: skip


def pod(name: str) -> dict[str, Any]:
    """The inventory's object of a pod."""
    ip, name_aggr, labels = PODS[name]
    return {
        "type": "wep", "namespace": "shop", "name": name, "labels": labels, "service_account": "default",
        "named_ports": [], "addresses": [ip], "name_aggr": name_aggr, "node": "node-a", "policed": True,
    }  # fmt: skip


def message(
    offset: int,
    records: list[NDArray[np.void]],
    *,
    end_s: float,
    sequence: int | None = None,
    node: str = "node-a",
    watermark_s: float | None = None,
    boot: int = 1,
    lost: int = 0,
    lost_packets: int = 0,
    written_s: float | None = None,
) -> Message:
    """One raw message; its interval ends at ``end_s`` after the scene's start."""
    end = START_NS + int(end_s * NS_PER_S)
    watermark = end if watermark_s is None else START_NS + int(watermark_s * NS_PER_S)
    value = encode_batch(
        BatchHeader(
            node, "", boot.to_bytes(16, "little"), offset if sequence is None else sequence, end - NS_PER_S, end,
            watermark, lost, lost_packets, 0, Source.SYNTHETIC,
        ),
        np.concatenate([*records, np.zeros(0, RECORD)]),
    )  # fmt: skip
    at_s = START_S + (end_s if written_s is None else written_s)
    return Message(0, offset, int(at_s * 1000), node.encode(), value)


@dataclass(slots=True)
class Run:
    """The stage over some messages, and everything that it has written, by id."""

    levels: Levels = field(default_factory=Levels)
    window: WindowSettings = WINDOW
    history: History = field(default_factory=inventory)
    logs: dict[str, dict[str, Any]] = field(default_factory=dict)
    counters: dict[str, dict[str, Any]] = field(default_factory=dict)
    losses: dict[str, dict[str, Any]] = field(default_factory=dict)
    rejected: list[str] = field(default_factory=list)
    settled: list[int] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    stage: Stage = field(init=False)

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """A new worker that knows nothing."""
        self.stage = Stage(StageSettings(self.window, self.levels), compile_policies)
        self.stage.use(self.history.snapshot())
        self.stage.open(0)

    def feed(self, *messages: Message) -> Run:
        """Process messages as one handful."""
        self.keep(self.stage.process(messages))
        return self

    def keep(self, outcome: Outcome) -> None:
        """Write an outcome as the topics would keep it."""
        self.outcomes.append(outcome)
        for found, into in ((outcome.logs, self.logs), (outcome.counters, self.counters)):
            for _, value in found:
                document = orjson.loads(value)
                into[document["id"]] = document
        for loss in outcome.losses:
            document = encode_loss(loss)
            self.losses[document["id"]] = document
        self.rejected += [each.reason for each in outcome.rejected]
        self.settled += self.stage.written(outcome).get(0, [])

    def all_logs(self) -> list[dict[str, Any]]:
        """All flow logs written."""
        return list(self.logs.values())
