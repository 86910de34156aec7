"""The stage against truth, on a real Kafka: workers killed, partitions handed over, the broker restarted."""

from __future__ import annotations

import random
import uuid
from typing import TYPE_CHECKING

import pytest

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
