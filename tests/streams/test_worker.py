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
from tierflow.schemas.metrics import MetricSpec
from tierflow.schemas.record import RECORD
from tierflow.streams import metrics

if TYPE_CHECKING:
    from pathlib import Path


DECLARED = [each for each in vars(metrics).values() if isinstance(each, MetricSpec)]
INVENTORY_S, AHEAD_S = 600, 700
"""How far the inventory goes, and a time past it."""


def fetch(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
    except (urllib.error.URLError, ConnectionError):
        return 0, ""


def scrape(port: int) -> dict[str, float]:
    """Values by series; a histogram by its count, under the metric's own name."""
    lines = [line for line in fetch(port, "/metrics")[1].splitlines() if line and not line.startswith("#")]
    return {name.removesuffix("_count"): float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


async def test_a_worker_reads_writes_shows_its_metrics_and_stops_in_time(broker: str, tmp_path: Path) -> None:
    rig = Rig(broker, f"worker-{uuid.uuid4().hex[:6]}.", tmp_path, partitions=1, inventory_s=INVENTORY_S)
    port = free_port()
    try:
        await rig.set_up()
        worker = rig.start_worker("--window-connections", "64", "--metrics-port", str(port))
        assert (await asyncio.to_thread(fetch, port, "/readyz"))[0] in (0, 503)
        workload = rig.workload
        sequences = [0] * workload.size.nodes

        async def send(node: int, records: np.ndarray, end_s: float, *, skip: int = 0, lost: int = 0) -> bytes:
            end = workload.start_ns + int(end_s * NS_PER_S)
            sequences[node] += skip
            value = workload.encode(node, sequences[node], records, end - NS_PER_S, end, end, lost)
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
            await send(node, empty, 120, lost=3)
        # One window stays open, and the inventory is not as far as that.
        ahead = late[:1].copy()
        ahead["first_seen_ns"] = ahead["last_seen_ns"] = workload.start_ns + int((AHEAD_S - 0.5) * NS_PER_S)
        ahead["packets_fwd"] = ahead["packets_rev"] = ahead["bytes_fwd"] = ahead["bytes_rev"] = 0
        await send(2, ahead, AHEAD_S)
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
        # A worker that has read everything lags by nothing, nothing waits, no rule needs what isn't known.
        none = {spec.name for spec in (metrics.LAG, metrics.WAITING, metrics.PAUSED, metrics.POLICY_UNKNOWNS)}
        unmoved: set[str] = set()
        while unmoved != none:
            assert time.monotonic() < limit, unmoved
            values = await asyncio.to_thread(scrape, port)
            unmoved = {spec.name for spec in DECLARED} - {name.split("{")[0] for name, value in values.items() if value}
        assert 'tierflow_stream_lag_messages{partition="0"}' in values
        assert 'tierflow_policy_unknowns{kind="service"}' in values
        assert 'tierflow_stream_rejected_batches_total{reason="bad_magic"}' in values
        assert 'tierflow_stream_rejected_records_total{reason="bad_value"}' in values
        losses, _, _ = await rig.documents("flows.loss.v1")
        assert {each["reason"] for each in losses.values()} == {"sequence_gap", "collector_loss"}

        began = time.monotonic()
        worker.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(worker.wait, 10) == 0
        assert time.monotonic() - began < 5
        assert "ready" in (tmp_path / "worker-1.log").read_text()
    finally:
        await rig.tear_down()
