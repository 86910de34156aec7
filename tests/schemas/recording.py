"""Records what this version writes to each topic, for later versions to be held against.

    python -m tests.schemas.recording        writes tests/schemas/recorded/<version>/; done once a release, never redone

Each topic has a file of JSON lines: the message's key as text, and its value in base64, null for a tombstone.
``meaning.json`` says what the raw batches hold.
"""

from __future__ import annotations

import base64
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

import tierflow
from tests.streams.scene import CLUSTER_IP, PODS, START_NS, Run, message, pod, record
from tierflow.schemas import topics
from tierflow.schemas.clock import NS_PER_S
from tierflow.schemas.inventory import (
    ENDPOINT,
    NETWORK_SET,
    POLICY,
    SERVICE,
    Heartbeat,
    Message,
    ObjectVersion,
    Tombstone,
    encode_message,
)
from tierflow.schemas.record import Mark, Reporter
from tierflow.schemas.wire import decode_batch
from tierflow.streams.core.losses import encode_loss

if TYPE_CHECKING:
    from tierflow.streams.core.messages import Message as RawMessage

FOLDER = Path(__file__).parent / "recorded"
BEGIN_NS = START_NS - 3600 * NS_PER_S
CALICO = "projectcalico.org/v3"


def raw_messages() -> list[RawMessage]:
    """Two batches: calls, one of them through a Service, a denied try, IPv6, ICMP; then a gap and a loss."""
    calls = [
        record("frontend-1", "backend-1", rtt_us=90, marks=Mark.STARTED | Mark.COMPLETED),
        record("frontend-1", CLUSTER_IP, ports=(41_000, 80), nat=("backend-2", 8080), marks=Mark.STARTED),
        record("frontend-1", "backend-2", ports=(41_000, 8080), reporter=Reporter.DST, marks=Mark.STARTED),
        record("rogue", "backend-1", packets=(1, 0), size=(60, 0)),
        record("2001:db8::1", "backend-2", reporter=Reporter.DST),
        record("frontend-1", "8.8.8.8", proto=1, ports=(7, 8 << 8)),
    ]
    return [message(0, calls, end_s=15), message(1, [], end_s=40, sequence=4, lost=3)]


def inventory_messages() -> list[Message]:
    """Pods, a Service, a network set, tier and policy, an address that changed hands, one forgotten, a heartbeat."""
    tier = {"apiVersion": CALICO, "kind": "Tier", "metadata": {"name": "default"}, "spec": {"order": 1000}}
    policy = {
        "apiVersion": CALICO, "kind": "NetworkPolicy", "metadata": {"name": "default.backend", "namespace": "shop"},
        "spec": {"tier": "default", "order": 10, "selector": "app == 'backend'", "types": ["Ingress"],
                 "ingress": [{"action": "Allow", "source": {"selector": "fw-zone == 'dmz'"}}, {"action": "Deny"}]},
    }  # fmt: skip
    nets = {
        "apiVersion": CALICO, "kind": "GlobalNetworkSet", "metadata": {"name": "public", "labels": {"type": "public"}},
        "spec": {"nets": ["8.0.0.0/7"]},
    }  # fmt: skip
    service = {
        "name": "backend", "namespace": "shop", "addresses": [CLUSTER_IP],
        "ports": [{"name": "http", "protocol": 6, "port": 80, "node_port": 0}],
        "manifest": {
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "backend", "namespace": "shop"},
            "spec": {"clusterIP": CLUSTER_IP, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]},
        },
    }  # fmt: skip
    return [
        *(ObjectVersion(ENDPOINT, f"Pod/shop/{name}", BEGIN_NS, None, pod(name)) for name in PODS),
        ObjectVersion(ENDPOINT, "Pod/shop/gone", BEGIN_NS - 10, BEGIN_NS - 5, pod("rogue") | {"name": "gone"}),
        ObjectVersion(SERVICE, "Service/shop/backend", BEGIN_NS, None, service),
        ObjectVersion(NETWORK_SET, "GlobalNetworkSet//public", BEGIN_NS, None, nets),
        ObjectVersion(POLICY, "Tier//default", BEGIN_NS, None, tier),
        ObjectVersion(POLICY, "NetworkPolicy/shop/default.backend", BEGIN_NS, None, policy),
        Tombstone(ENDPOINT, "Pod/shop/gone", BEGIN_NS - 10),
        Heartbeat(START_NS + 600 * NS_PER_S, "node-1:1:abcd", 7),
    ]


def dead_letter() -> dict[str, Any]:
    """What a stage writes of a message that it can't use."""
    return {
        "time_ms": START_NS // 1_000_000, "stage": "sink", "topic": topics.FLOWS_LOGS.name, "partition": 3,
        "offset": 41, "key": "node-a", "reason": "bad_json", "detail": "unexpected character",
        "value_base64": base64.b64encode(b"{").decode(), "value_bytes": 1,
    }  # fmt: skip


def recording() -> dict[str, list[tuple[bytes | None, bytes | None]]]:
    """(key, value) of every message, by topic."""
    raw = raw_messages()
    run = Run().feed(*raw)
    outcomes = run.outcomes
    return {
        topics.FLOWS_RAW.name: [(each.key, each.value) for each in raw],
        topics.INVENTORY.name: [encode_message(each) for each in inventory_messages()],
        topics.FLOWS_LOGS.name: [(node.encode(), log) for each in outcomes for node, log in each.logs],
        topics.POLICY_COUNTERS.name: [(node.encode(), counter) for each in outcomes for node, counter in each.counters],
        topics.FLOWS_LOSS.name: [
            (b"node-a", orjson.dumps(encode_loss(loss))) for outcome in outcomes for loss in outcome.losses
        ],
        topics.DEAD_LETTER.name: [(topics.FLOWS_LOGS.name.encode(), orjson.dumps(dead_letter()))],
    }


def meaning(value: bytes) -> dict[str, Any]:
    """What a raw batch holds, as plain JSON."""
    batch = decode_batch(value)
    header = {name: getattr(batch.header, name) for name in batch.header.__slots__}
    return {
        "header": header | {"boot_id": header["boot_id"].hex(), "source": int(header["source"])},
        "records": [
            {name: np.asarray(each[name]).tolist() for name in batch.records.dtype.names or ()}
            for each in batch.records
        ],
    }


def main() -> None:
    """Write the folder of this version."""
    folder = FOLDER / tierflow.__version__
    folder.mkdir(parents=True)
    found = recording()
    for name, messages in found.items():
        lines = [
            orjson.dumps(
                {
                    "key": None if key is None else key.decode(),
                    "value": None if value is None else base64.b64encode(value).decode(),
                }
            )
            for key, value in messages
        ]
        (folder / f"{name}.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    raw = [meaning(value) for _, value in found[topics.FLOWS_RAW.name] if value is not None]
    (folder / "meaning.json").write_bytes(orjson.dumps(raw, option=orjson.OPT_INDENT_2) + b"\n")


if __name__ == "__main__":
    main()
