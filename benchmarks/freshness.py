"""From a packet in a pod's network namespace to its flow log in Kafka's topic: the storefront lab, eBPF, real Kafka.

A flow log can't be there before its window's end plus the allowed lateness; what is measured is how much later it is.
Needs root. The lab's addresses must be free on this machine, or in this network namespace.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import orjson
from aiokafka import AIOKafkaConsumer
from tests.services.kafka import Kafka, install, make

from benchmarks.harness import Report, check
from tierflow.schemas import topics
from tierflow.schemas.clock import NS_PER_S
from tierflow.schemas.wire import decode_batch

NEEDS_ROOT = True
WINDOW_S, LATENESS_S = 5, 1
EDGES = 10
"""Connections of the storefront's call graph between pods; each must be in every window, from both reporters."""


def run(quick: bool) -> list[Report]:
    """Measure some windows."""
    check(os.geteuid() == 0, "freshness needs root: it watches real packets")
    install()
    with tempfile.TemporaryDirectory(prefix="tierflow-bench-") as folder:
        broker = make(Path(folder) / "kafka")
        broker.start()
        up = _start(broker, Path(folder))
        try:
            return [asyncio.run(_measure(broker, up, 3 if quick else 20))]
        finally:
            up.send_signal(signal.SIGINT)
            up.wait(60)
            broker.stop()


def _start(broker: Kafka, folder: Path) -> subprocess.Popen[bytes]:
    screen = folder / "screen"
    with screen.open("wb") as output:
        up = subprocess.Popen(
            [sys.executable, "-m", "tierflow.cli.main", "up", "--lab", "--kafka", broker.bootstrap,
             "--window-s", str(WINDOW_S), "--lateness-s", str(LATENESS_S), "--console-port", "0"],
            stdout=output, stderr=output, env=os.environ | {"TIERFLOW_STATE": str(folder / "state")},
        )  # fmt: skip
    limit = time.monotonic() + 120
    while b"running; a window closes" not in screen.read_bytes():
        check(up.poll() is None and time.monotonic() < limit, screen.read_text()[-500:])
        time.sleep(0.1)
    return up


async def _measure(broker: Kafka, up: subprocess.Popen[bytes], windows: int) -> Report:
    started = time.time()
    logs: dict[int, list[tuple[float, dict[str, Any]]]] = defaultdict(list)
    closed: dict[int, float] = {}
    consumer = AIOKafkaConsumer(
        topics.FLOWS_LOGS.name, topics.FLOWS_RAW.name, bootstrap_servers=broker.bootstrap, fetch_max_wait_ms=10
    )
    await consumer.start()
    try:
        # The first windows see programs start; the last may not be complete.
        while len(logs) < windows + 3:
            check(up.poll() is None, "up has ended")
            check(time.time() - started < (windows + 12) * WINDOW_S, f"{len(logs)} windows so far")
            for messages in (await consumer.getmany(timeout_ms=200)).values():
                now = time.time()
                for message in messages:
                    if message.topic == topics.FLOWS_RAW.name:
                        _note_closing(closed, message.value, message.timestamp / 1000)
                    else:
                        log = orjson.loads(message.value)
                        logs[log["end_time"]].append((now, log))
    finally:
        await consumer.stop()
    return _report(dict(sorted(logs.items())[2:-1]), closed)


def _note_closing(closed: dict[int, float], value: bytes, at_s: float) -> None:
    """When the broker had the batch whose watermark closes a window."""
    watermark_s = decode_batch(value).header.watermark_ns / NS_PER_S
    end_s = int(watermark_s - LATENESS_S) // WINDOW_S * WINDOW_S
    closed.setdefault(end_s, at_s)


def _report(logs: dict[int, list[tuple[float, dict[str, Any]]]], closed: dict[int, float]) -> Report:
    for end_s, found in logs.items():
        for reporter in ("src", "dst"):
            pairs = {
                (log["source_name_aggr"], log["dest_name_aggr"])
                for _, log in found
                if log["reporter"] == reporter and log["source_namespace"] == log["dest_namespace"] == "storefront"
            }
            check(len(pairs) >= EDGES, f"window to {end_s}: {len(pairs)} pairs seen by {reporter}, not {EDGES}")
        check(not any(log["late"] for _, log in found), f"window to {end_s} has late logs")
    due = {end_s: end_s + LATENESS_S for end_s in logs}
    delays = sorted(at - due[end_s] for end_s, found in logs.items() for at, _ in found)
    to_broker = sorted(closed[end_s] - due[end_s] for end_s in logs)
    report = Report(
        "freshness, packet to flow log in the topic",
        {"windows": len(logs), "flow_logs": len(delays), "window_s": WINDOW_S, "lateness_s": LATENESS_S},
    )
    report.checked = "every pair of the storefront in every window, from both reporters, none late"
    for name, values in (
        ("after window end and lateness", delays),
        ("of it, until the closing batch is in", to_broker),
    ):
        for label, share in (("median", 0.5), ("p99", 0.99), ("most", 1.0)):
            report.add(f"{name}, {label}", values[min(int(share * len(values)), len(values) - 1)] * 1000, "ms", "lower")
    return report
