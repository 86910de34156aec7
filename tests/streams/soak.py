"""Kill workers, restart the broker, then compare with the truth; ``python -m tests.streams.soak`` does it 50 times."""

from __future__ import annotations

import asyncio
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.streams.traffic import Rig, totals, truth
from tierflow.schemas.clock import NS_PER_S
from tierflow.schemas.wire import decode_batch

if TYPE_CHECKING:
    from tests.services.kafka import Kafka


async def soak(
    rig: Rig, rng: random.Random, kills: int, intervals: int, pause_s: float = 2.5, broker: Kafka | None = None
) -> int:
    """Send traffic with late and doubled batches while workers are killed ``kills`` times; returns the records sent.

    ``broker`` is killed and started again half way.
    """
    await rig.set_up()
    rig.start_worker()
    rig.start_worker()
    size = rig.workload.size
    sequences = [0] * size.nodes
    held: list[tuple[int, bytes]] = []
    kill_at = sorted(rng.sample(range(1, intervals * size.nodes), kills))
    step = 0
    for number in range(intervals):
        begin = rig.workload.start_ns + number * NS_PER_S
        for node, records in rig.workload.interval(number).items():
            if node >= size.nodes:
                continue
            value = rig.workload.encode(node, sequences[node], records, begin, begin + NS_PER_S, begin + NS_PER_S)
            sequences[node] += 1
            step += 1
            if rng.random() < 0.03:
                held.append((node, value))
                continue
            await rig.send(node, value)
            if rng.random() < 0.05:
                await rig.send(node, value, count=False)
            if held and rng.random() < 0.05:
                await rig.send(*held.pop(rng.randrange(len(held))))
            if kill_at and step >= kill_at[0]:
                kill_at.pop(0)
                await asyncio.sleep(rng.random() * pause_s)
                rig.kill(rng.choice(rig.workers))
                rig.start_worker()
                if broker is not None and len(kill_at) == kills // 2:
                    await rig.producer.flush()
                    broker.kill()
                    await asyncio.to_thread(broker.start)
    for node, value in held:
        await rig.send(node, value)
    at_ns = rig.workload.start_ns + (intervals + 60) * NS_PER_S
    for node, value in rig.workload.closing(at_ns, sequences):
        await rig.send(node, value)
    await rig.producer.flush()
    return sum(len(decode_batch(value).records) for value in rig.values)


async def judge(rig: Rig) -> str:
    """Every document once by id, always with the same content, and sums equal to the truth."""
    assert await rig.settled(120), "not everything was acknowledged"
    logs, count, differing = await rig.documents("flows.logs.v1")
    assert totals(logs) == truth(rig.values)
    assert count >= len(logs)
    assert not differing
    counters, _, differing = await rig.documents("policy.counters.v1")
    assert not differing
    late = sum(log["late"] for log in logs.values())
    return f"{len(logs)} flow logs ({late} late) from {count} messages, {len(counters)} counters"


async def _main(kills: int, seed: int) -> None:
    from tests.services.kafka import make

    with tempfile.TemporaryDirectory(prefix="tierflow-soak-") as folder:
        broker = make(Path(folder) / "kafka")
        await asyncio.to_thread(broker.start)
        rig = Rig(broker.bootstrap, "soak.", Path(folder))
        try:
            started = time.monotonic()
            records = await soak(rig, random.Random(seed), kills, intervals=40 * kills, pause_s=6, broker=broker)
            print(f"{records} records, {kills} kills, broker killed once, {time.monotonic() - started:.0f} s")
            print(await judge(rig), "- all equal to the truth")
        finally:
            await rig.tear_down()
            broker.stop()


if __name__ == "__main__":
    asyncio.run(_main(int(sys.argv[1]) if len(sys.argv) > 1 else 50, int(sys.argv[2]) if len(sys.argv) > 2 else 1))
