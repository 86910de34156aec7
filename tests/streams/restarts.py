"""Replace workers one by one while traffic runs in real time, as a Deployment does; by hand:

python -m tests.streams.restarts [ROUNDS [SEED]]
"""

from __future__ import annotations

import asyncio
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import orjson

from tests.streams.soak import Traffic, judge
from tests.streams.traffic import Rig
from tierflow.schemas import topics
from tierflow.schemas.clock import NS_PER_S

if TYPE_CHECKING:
    import subprocess

WORKERS = 3
SESSION_S = 60
"""Far longer than a hand-over: only a worker that says that it goes is replaced sooner."""


def rig_of(bootstrap: str, prefix: str, folder: Path) -> Rig:
    """Windows of two seconds."""
    return Rig(bootstrap, prefix, folder, partitions=WORKERS, session_timeout_s=SESSION_S, window_s=2, lateness_s=1)


async def restart(rig: Rig, rng: random.Random, rounds: int) -> None:
    """Send traffic until every worker has been replaced so many times."""
    await rig.set_up()
    for _ in range(WORKERS):
        await _ready(rig, rig.start_worker())
    rig.workload.start_ns = int(time.time()) // rig.window_s * rig.window_s * NS_PER_S
    restarting = asyncio.create_task(_replace_all(rig, rounds))
    traffic = Traffic(rig, rng)
    number = 0
    while not restarting.done():
        # A collector sends what a second held when it is over.
        due_s = rig.workload.start_ns / NS_PER_S + number + 1
        await asyncio.wait({restarting}, timeout=max(0.0, due_s - time.time()))
        async for _ in traffic.interval(number):
            pass
        number += 1
    restarting.result()
    await traffic.end(number)


async def _replace_all(rig: Rig, rounds: int) -> None:
    for _ in range(rounds * WORKERS):
        assert await rig.progress(SESSION_S), "nothing is written between two restarts"
        oldest = rig.workers[0]
        await _ready(rig, rig.start_worker())
        await rig.leave(oldest)


async def _ready(rig: Rig, worker: subprocess.Popen[bytes]) -> None:
    limit = time.monotonic() + 60
    while '"message":"ready"' not in rig.logs[worker.pid].read_text():
        assert worker.poll() is None, rig.logs[worker.pid].read_text()
        assert time.monotonic() < limit, "a new worker is not ready"
        await asyncio.sleep(0.02)


async def delays_s(rig: Rig) -> list[float]:
    """For each window of each node, how long after its end and the lateness its flow logs were there; sorted."""
    first: dict[tuple[str, int], float] = {}
    async for message in rig.all_messages(topics.FLOWS_LOGS.name):
        log = orjson.loads(message.value)
        if not log["late"]:
            key = log["host"], log["end_time"]
            first[key] = min(first.get(key, message.timestamp), message.timestamp)
    return sorted(at_ms / 1000 - end_s - rig.lateness_s for (_, end_s), at_ms in first.items())


async def _main(rounds: int, seed: int) -> None:
    from tests.services.kafka import make

    with tempfile.TemporaryDirectory(prefix="tierflow-restarts-") as folder:
        broker = make(Path(folder) / "kafka")
        await asyncio.to_thread(broker.start)
        rig = rig_of(broker.bootstrap, "restarts.", Path(folder))
        try:
            await restart(rig, random.Random(seed), rounds)
            print(await judge(rig), "- all equal to the truth")
            delays = await delays_s(rig)
            print(
                f"{rounds * WORKERS} restarts, {len(delays)} windows; flow logs came {statistics.median(delays):.2f} s"
                f" (median), {delays[-1]:.2f} s (most) after end and lateness"
            )
        finally:
            await rig.tear_down()
            broker.stop()


if __name__ == "__main__":
    asyncio.run(_main(int(sys.argv[1]) if len(sys.argv) > 1 else 3, int(sys.argv[2]) if len(sys.argv) > 2 else 1))
