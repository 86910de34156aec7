"""The worker as a process on the embedded broker: ready, right, visible, and gone when told."""

from __future__ import annotations

import asyncio
import signal
import time
import urllib.error
import urllib.request
import uuid
from typing import TYPE_CHECKING

import numpy as np

from tests.streams.traffic import Rig, totals, truth
from tierflow.cli.broker import free_port
from tierflow.schemas.clock import NS_PER_S
from tierflow.schemas.record import RECORD

if TYPE_CHECKING:
    from pathlib import Path


def fetch(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
    except (urllib.error.URLError, ConnectionError):
        return 0, ""


async def test_a_worker_reads_writes_shows_its_metrics_and_stops_in_time(broker: str, tmp_path: Path) -> None:
    rig = Rig(broker, f"worker-{uuid.uuid4().hex[:6]}.", tmp_path, partitions=1)
    port = free_port()
    try:
        await rig.set_up()
        worker = rig.start_worker("--metrics-port", str(port))
        workload = rig.workload
        sequences = [0] * workload.size.nodes

        async def send(node: int, records: np.ndarray, end_s: float, *, skip: int = 0, watermark_s: float = 0) -> bytes:
            end = workload.start_ns + int(end_s * NS_PER_S)
            sequences[node] += skip
            value = workload.encode(
                node, sequences[node], records, end - NS_PER_S, end, int(watermark_s * NS_PER_S) or end
            )
            sequences[node] += 1
            await rig.send(node, value)
            return value

        for number in range(3):
            for node, records in workload.interval(number).items():
                if node < workload.size.nodes:
                    again = await send(node, records, number + 1)
        await rig.send(0, again, count=False)
        await rig.send(0, b"\0" * 200, count=False)
        wrong = workload.interval(3)[0][:4].copy()
        wrong["reporter"] = 9
        await rig.send(
            0,
            workload.encode(0, sequences[0], wrong, workload.start_ns, workload.start_ns + 4 * NS_PER_S, 0),
            count=False,
        )
        sequences[0] += 1
        empty = np.zeros(0, RECORD)
        for node in range(workload.size.nodes):
            await send(node, empty, 40, skip=2 if node == 1 else 0)
        late = workload.interval(4)[0][:5].copy()
        await send(0, late, 41)
        await send(1, empty, 90)
        stranger = late.copy()
        stranger["src_lo"] = 0xFFFF_0A63_0001
        stranger["first_seen_ns"] = stranger["last_seen_ns"] = workload.start_ns + 45 * NS_PER_S
        await send(0, stranger, 46)
        for node in range(workload.size.nodes):
            await send(node, empty, 120)
        await rig.producer.flush()
        limit = time.monotonic() + 120
        logs, _, differing = await rig.documents("flows.logs.v1")
        while totals(logs) != truth(rig.values) and time.monotonic() < limit:
            await asyncio.sleep(0.2)
            logs, _, differing = await rig.documents("flows.logs.v1")
        assert totals(logs) == truth(rig.values)
        assert not differing
        assert (await asyncio.to_thread(fetch, port, "/healthz"))[0] == 200
        assert (await asyncio.to_thread(fetch, port, "/readyz"))[0] == 200
        assert (await asyncio.to_thread(fetch, port, "/nothing"))[0] == 404
        _, page = await asyncio.to_thread(fetch, port, "/metrics")
        values = {
            line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1])
            for line in page.splitlines()
            if line and not line.startswith("#")
        }
        for name in (
            "read_batches_total", "read_records_total", "duplicate_batches_total", "late_records_total",
            'rejected_batches_total{reason="bad_magic"}', 'rejected_records_total{reason="bad_value"}',
            'loss_events_total{reason="sequence_gap"}', "lost_batches_total", "flow_logs_total",
            "policy_counters_total", "windows_total", "reopened_partitions_total", "unknown_address_rows_total",
            "window_delay_seconds_count",
        ):  # fmt: skip
            assert values.get(f"tierflow_stream_{name}", 0) > 0, name
        assert any(name.startswith("tierflow_policy_rule_bytes_total") for name in values)
        losses, _, _ = await rig.documents("flows.loss.v1")
        assert {each["reason"] for each in losses.values()} == {"sequence_gap"}

        began = time.monotonic()
        worker.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(worker.wait, 10) == 0
        assert time.monotonic() - began < 5
        assert "ready" in (tmp_path / "worker-1.log").read_text()
    finally:
        await rig.tear_down()
