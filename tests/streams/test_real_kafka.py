"""The stage against truth, on a real Kafka: workers killed, partitions handed over, the broker restarted."""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from benchmarks.fuzz import fuzz
from benchmarks.harness import process_memory_bytes
from benchmarks.streams import values_of
from benchmarks.workload import Size

from tests.streams.restarts import SESSION_S, delays_s, restart, rig_of
from tests.streams.soak import Plan, judge, soak
from tests.streams.traffic import Rig, totals, truth
from tierflow.cli.broker import free_port
from tierflow.streams.output import CLIENT_ID

if TYPE_CHECKING:
    from pathlib import Path

    from tests.services.kafka import Kafka


@pytest.mark.service("kafka")
@pytest.mark.timeout(280)
async def test_workers_killed_at_random_moments_and_a_broker_restart_lose_and_repeat_nothing(
    kafka: Kafka,
    tmp_path: Path,
) -> None:
    rig = Rig(kafka.bootstrap, f"kill-{uuid.uuid4().hex[:6]}.", tmp_path)
    try:
        await soak(rig, random.Random(11), Plan(kills=4, moves=4, intervals=80, broker=kafka))
        await judge(rig)
    finally:
        await rig.tear_down()


@pytest.mark.service("kafka")
@pytest.mark.timeout(200)
async def test_workers_restarted_one_by_one_under_traffic_lose_and_repeat_nothing_and_hand_over_at_once(
    kafka: Kafka, tmp_path: Path
) -> None:
    rig = rig_of(kafka.bootstrap, f"restart-{uuid.uuid4().hex[:6]}.", tmp_path)
    try:
        await restart(rig, random.Random(5), 1)
        await judge(rig)
        delays = await delays_s(rig)
    finally:
        await rig.tear_down()
    # Not how fast, but how: a worker that is only missed holds its partitions for as long as its session lasts.
    assert delays[-1] < SESSION_S


@pytest.mark.service("kafka")
@pytest.mark.timeout(200)
async def test_poison_kills_no_worker_and_is_counted_and_good_traffic_beside_it_is_exact(
    kafka: Kafka, tmp_path: Path
) -> None:
    rig = Rig(kafka.bootstrap, f"fuzz-{uuid.uuid4().hex[:6]}.", tmp_path, partitions=1, idle_s=3)
    report = await fuzz(rig, 2, 5)
    assert {figure.name: figure.value > 0 for figure in report.figures} == dict.fromkeys(
        ("poisoned messages", "refused as a whole", "records refused out of others"), True
    )


@pytest.mark.service("kafka")
@pytest.mark.timeout(200)
async def test_a_backlog_behind_a_slow_output_does_not_grow_the_worker_and_comes_out_exactly(
    kafka: Kafka, tmp_path: Path
) -> None:
    busy = Size(connections=16_000, pods=60, namespaces=5, services=20, nodes=4, policies=20)
    rig = Rig(kafka.bootstrap, f"slow-{uuid.uuid4().hex[:6]}.", tmp_path, size=busy)
    port = free_port()
    buffer_mib, backlog, expected = 8, 0, Counter[str]()
    try:
        await rig.set_up()
        for node, value in values_of(rig.workload, 80):
            await rig.send(node, value, count=False)
            backlog += len(value)
            expected += truth([value])
        await rig.producer.flush()
        await asyncio.to_thread(kafka.limit_producer, CLIENT_ID, 50_000)
        worker = rig.start_worker("--buffer-mib", str(buffer_mib), "--metrics-port", str(port))
        assert await rig.progress(60)
        limit = time.monotonic() + 60
        while (await rig.metrics(port))["tierflow_stream_waiting_bytes"] < [buffer_mib << 20]:
            assert time.monotonic() < limit, "the worker goes on reading"
            await asyncio.sleep(0.05)
        # All that would not wait would be read long before the broker lets two more batches in.
        assert await rig.progress(60)
        assert await rig.progress(60)
        print(
            await rig.metrics(port), process_memory_bytes(worker.pid) / 2**20, backlog / 2**20, time.monotonic() - limit
        )
        await asyncio.to_thread(kafka.limit_producer, CLIENT_ID, None)
        assert await rig.settled(120)
        assert (await rig.metrics(port))["tierflow_stream_paused_seconds_total"] > [0]
        most = process_memory_bytes(worker.pid)
        logs, _, differing = await rig.documents("flows.logs.v1")
    finally:
        await rig.tear_down()
    assert not differing
    assert totals(logs) == expected
    assert most < 200 << 20 < backlog
