"""Poison through a real Kafka into a worker, beside good traffic: nothing dies, all is counted, the good is exact.

python -m benchmarks.fuzz SECONDS [SEED]
"""

from __future__ import annotations

import asyncio
import itertools
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.services.kafka import install, make
from tests.streams.oracle import Expected, summed
from tests.streams.traffic import Rig

from benchmarks.harness import Report, check
from benchmarks.poison import Poison
from tierflow.cli.broker import free_port
from tierflow.schemas import topics
from tierflow.schemas.clock import NS_PER_S

if TYPE_CHECKING:
    import subprocess

IDLE_S = 10
"""Nodes that only poison speaks of fall silent; what they hold is settled after this."""
AHEAD = 5_000
"""Messages that may wait: the worker sets the pace, so that it sees poison to the end."""
PER_BATCH = 20
"""Poisoned messages for each good one."""


def run(quick: bool) -> list[Report]:
    """Some seconds of it."""
    return [measure(3 if quick else 60, 1)]


def measure(seconds: float, seed: int) -> Report:
    """Fuzz a worker on a broker of its own."""
    install()
    with tempfile.TemporaryDirectory(prefix="tierflow-fuzz-") as folder:
        broker = make(Path(folder) / "kafka")
        broker.start()
        try:
            return asyncio.run(
                fuzz(Rig(broker.bootstrap, "fuzz.", Path(folder), partitions=1, idle_s=IDLE_S), seconds, seed)
            )
        finally:
            broker.stop()


async def fuzz(rig: Rig, seconds: float, seed: int) -> Report:
    """Send for ``seconds``, then check that everything is accounted for."""
    await rig.set_up()
    port = free_port()
    worker = rig.start_worker("--metrics-port", str(port))
    try:
        good, poisoned = await _send(rig, Poison(seed, rig.workload.start_ns + NS_PER_S), worker, port, seconds)
        check(await rig.settled(300), "not everything was acknowledged")
        check(worker.poll() is None, f"the worker ended with {worker.returncode}")
        return await _judge(rig, port, good, poisoned)
    finally:
        await rig.tear_down()


async def _send(
    rig: Rig, poison: Poison, worker: subprocess.Popen[bytes], port: int, seconds: float
) -> tuple[int, int]:
    topic = rig.prefix + topics.FLOWS_RAW.name
    sequences = [0] * rig.workload.size.nodes
    until = time.monotonic() + seconds
    messages = iter(poison)
    good = poisoned = 0
    for number in itertools.count():
        if time.monotonic() > until:
            break
        begin = rig.workload.start_ns + number * NS_PER_S // 4
        for node, records in rig.workload.interval(0).items():
            if node >= rig.workload.size.nodes:
                continue
            records["first_seen_ns"] = records["last_seen_ns"] = begin
            value = rig.workload.encode(node, sequences[node], records, begin, begin + NS_PER_S // 4, begin)
            sequences[node] += 1
            await rig.send(node, value, count=False)
            for key, bad in itertools.islice(messages, PER_BATCH):
                await rig.producer.send(topic, bad, key, partition=0)
            good, poisoned = good + 1, poisoned + PER_BATCH
        check(worker.poll() is None, f"the worker ended with {worker.returncode}")
        while good + poisoned - await _read(rig, port) > AHEAD and time.monotonic() < until:  # noqa: ASYNC110 - another process has no event here
            await asyncio.sleep(0.1)
    at_ns = rig.workload.start_ns + number * NS_PER_S // 4 + 60 * NS_PER_S
    for node, value in rig.workload.closing(at_ns, sequences):
        await rig.send(node, value, count=False)
        good += 1
    await rig.producer.flush()
    return good, poisoned


async def _read(rig: Rig, port: int) -> int:
    try:
        return int(sum((await rig.metrics(port)).get("tierflow_stream_read_batches_total", ())))
    except OSError:  # it is starting
        return 0


async def _judge(rig: Rig, port: int, good: int, poisoned: int) -> Report:
    expected = Expected(rig.window_s, rig.lateness_s, rig.idle_s)
    (raw,) = await rig.raw()
    mine = [(at, value) for at, value in raw if value is not None and b"node-" in value[96:104]]
    records = expected.read(mine)
    check(len(mine) == good, f"{len(mine)} good batches in the topic, not {good}")
    logs, _, differing = await rig.documents("flows.logs.v1")
    # Poison may use one sequence number for two batches; nobody can tell which of them is meant.
    wrong = [each for each in differing if logs[each]["host"].startswith("node-")]
    check(not wrong, f"flow logs of one id differ: {wrong[:3]}")
    found = summed(log for log in logs.values() if log["host"].startswith("node-"))
    check(found == expected.totals, "good traffic differs from the truth")
    losses, _, _ = await rig.documents("flows.loss.v1")
    for document in (*logs.values(), *losses.values()):
        numbers = [each for each in document.values() if isinstance(each, int)]
        check(all(0 <= each < 1 << 63 for each in numbers), f"a number that no store holds: {document}")
    values = await rig.metrics(port)
    read = sum(values["tierflow_stream_read_batches_total"])
    check(read == good + poisoned, f"{read} batches counted, {good + poisoned} sent")
    refused = int(sum(values["tierflow_stream_rejected_batches_total"]))
    dead = 0
    async for _ in rig.all_messages(topics.DEAD_LETTER.name):
        dead += 1
    check(dead >= refused > 0, f"{dead} dead letters for {refused} refused batches")
    bent = int(sum(values["tierflow_stream_rejected_records_total"]))
    check(bent > 0, "no single record was refused")
    report = Report("fuzz, poison beside good traffic", {"good batches": good, "records in them": records})
    report.checked = "good traffic exact in every window; every message counted; every refused one in dead-letter"
    report.add("poisoned messages", poisoned, "messages")
    report.add("refused as a whole", refused, "messages")
    report.add("records refused out of others", bent, "records")
    return report


if __name__ == "__main__":
    print(measure(float(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1).text())
