"""The stage against truth, on a real Kafka: workers killed, partitions handed over, the broker restarted."""

from __future__ import annotations

import random
import uuid
from typing import TYPE_CHECKING

import pytest
from benchmarks.fuzz import fuzz

from tests.streams.soak import Plan, judge, soak
from tests.streams.traffic import Rig

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
async def test_poison_kills_no_worker_and_is_counted_and_good_traffic_beside_it_is_exact(
    kafka: Kafka, tmp_path: Path
) -> None:
    rig = Rig(kafka.bootstrap, f"fuzz-{uuid.uuid4().hex[:6]}.", tmp_path, partitions=1, idle_s=3)
    report = await fuzz(rig, 2, 5)
    assert {figure.name: figure.value > 0 for figure in report.figures} == dict.fromkeys(
        ("poisoned messages", "refused as a whole", "records refused out of others"), True
    )
