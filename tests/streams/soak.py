"""Kill workers, move partitions, restart the broker, then compare with the truth; by hand:

python -m tests.streams.soak [KILLS [SEED]]
"""

from __future__ import annotations

import asyncio
import random
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tests.streams.oracle import Expected, summed
from tests.streams.traffic import Rig
from tierflow.schemas.clock import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping

    from tests.services.kafka import Kafka

WORKERS = 2
APART_S = 3
"""How far each node's clock is ahead of the one before, so that windows of one partition never close together."""
LOST, HELD, DOUBLED, FREED, LEAKY = 0.01, 0.03, 0.05, 0.05, 0.02
"""Chances that a batch never comes, comes later, comes twice, that one held comes now, that one tells of a loss."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How much happens.

    Attributes:
        kills: workers killed with SIGKILL, a new one started for each.
        moves: workers that join, or leave when told.
        intervals: seconds of traffic.
        broker: killed and started again half way.
    """

    kills: int
    moves: int
    intervals: int
    broker: Kafka | None = None

    def events(self, rng: random.Random, batches: int) -> list[tuple[int, str]]:
        """What happens after which batch, latest first."""
        names = ["kill"] * self.kills + ["move"] * self.moves
        rng.shuffle(names)
        if self.broker is not None:
            names.insert(len(names) // 2, "broker")
        return sorted(zip(sorted(rng.sample(range(1, batches), len(names))), names, strict=True), reverse=True)


@dataclass(slots=True)
class Traffic:
    """Batches of all nodes; some never come, come late, or come twice.

    Attributes:
        apart_s: how far each node's clock is ahead of the one before.
        held: batches that come later.
    """

    rig: Rig
    rng: random.Random
    apart_s: int = 0
    sequences: Counter[int] = field(default_factory=Counter)
    held: list[tuple[int, bytes]] = field(default_factory=list)

    async def interval(self, number: int) -> AsyncIterator[None]:
        """Send one second's batches; comes back after each."""
        workload = self.rig.workload
        for node, records in workload.interval(number).items():
            if node < workload.size.nodes:
                value = self._batch(node, records, number)
                self.sequences[node] += 1
                await self._deliver(node, value)
                yield

    async def end(self, intervals: int) -> None:
        """Send what is held, and what closes all windows of so many seconds."""
        for node, value in self.held:
            await self.rig.send(node, value)
        workload = self.rig.workload
        at_ns = workload.start_ns + (intervals + 60) * NS_PER_S
        for node, value in workload.closing(at_ns, [self.sequences[node] for node in range(workload.size.nodes)]):
            await self.rig.send(node, value)
        await self.rig.producer.flush()

    def _batch(self, node: int, records: np.ndarray, number: int) -> bytes:
        rng = self.rng
        apart_ns = node * self.apart_s * NS_PER_S
        records = records.copy()
        records["first_seen_ns"] += np.uint64(apart_ns)
        records["last_seen_ns"] += np.uint64(apart_ns)
        records["marks"] = [rng.randrange(4) for _ in records]
        lost = rng.randrange(1, 9) if rng.random() < LEAKY else 0
        begin_ns = self.rig.workload.start_ns + number * NS_PER_S + apart_ns
        end_ns = begin_ns + NS_PER_S
        return self.rig.workload.encode(
            node, self.sequences[node], records, begin_ns, end_ns, end_ns, lost_records=lost
        )  # fmt: skip

    async def _deliver(self, node: int, value: bytes) -> None:
        fate = self.rng.random()
        if fate < LOST:
            return
        if fate < LOST + HELD:
            self.held.append((node, value))
            return
        await self.rig.send(node, value)
        if self.rng.random() < DOUBLED:
            await self.rig.send(node, value)
        if self.held and self.rng.random() < FREED:
            await self.rig.send(*self.held.pop(self.rng.randrange(len(self.held))))


async def soak(rig: Rig, rng: random.Random, plan: Plan) -> None:
    """Send traffic while things happen."""
    await rig.set_up()
    for _ in range(WORKERS):
        rig.start_worker()
    traffic = Traffic(rig, rng, APART_S)
    events = plan.events(rng, plan.intervals * rig.workload.size.nodes)
    step = 0
    for number in range(plan.intervals):
        async for _ in traffic.interval(number):
            step += 1
            while events and step >= events[-1][0]:
                await _happen(rig, rng, plan, events.pop()[1])
    rig.revive()
    await traffic.end(plan.intervals)


async def _happen(rig: Rig, rng: random.Random, plan: Plan, event: str) -> None:
    await rig.producer.flush()
    rig.revive()
    if event == "broker" and plan.broker is not None:
        plan.broker.kill()
        await asyncio.to_thread(plan.broker.start)
        return
    # Half of the time workers are surely at work, else they may be starting, recalling or rebalancing.
    if rng.random() < 0.5:
        await rig.progress(15)
    await asyncio.sleep(rng.random())
    if event == "kill":
        rig.kill(rng.choice(rig.workers))
        rig.start_worker()
    elif len(rig.workers) > WORKERS:
        await rig.leave(rng.choice(rig.workers))
    else:
        rig.start_worker()


async def judge(rig: Rig) -> str:
    """Every document once by id and always with the same content; all totals equal to the truth."""
    assert await rig.settled(120), "not everything was acknowledged"
    expected = Expected(rig.window_s, rig.lateness_s, rig.idle_s)
    records = 0
    for messages in await rig.raw():
        records += expected.read(messages)
    logs, count, differing = await rig.documents("flows.logs.v1")
    assert not differing, "flow logs of one id differ"
    found = summed(logs.values())
    assert found == expected.totals, _difference(found, expected.totals)
    losses, _, differing = await rig.documents("flows.loss.v1")
    assert not differing, "losses of one id differ"
    assert _told(losses.values(), "sequence_gap", "batches") == expected.lost_batches, "lost batches differ"
    assert _told(losses.values(), "collector_loss", "records") == expected.lost_records, "lost records differ"
    counters, _, differing = await rig.documents("policy.counters.v1")
    assert not differing, "policy counters of one id differ"
    traffic = [each for each in counters.values() if each["record"] == "traffic"]
    assert _counted(traffic) == _credited(logs.values()), "policy counters differ from the flow logs"
    _judge_endpoints(rig, [each for each in counters.values() if each["record"] == "endpoints"], found)
    late = sum(log["late"] for log in logs.values())
    return (
        f"{records} records ({expected.late_records} late), {expected.duplicates} batches doubled, "
        f"{expected.lost_batches} lost; {len(logs)} flow logs ({late} late) from {count} messages, "
        f"{len(counters)} counters, {len(losses)} losses"
    )


def _told(losses: Iterable[Mapping[str, Any]], reason: str, field: str) -> int:
    return sum(each[field] for each in losses if each["reason"] == reason)


def _difference(found: dict[Any, Counter[str]], wanted: dict[Any, Counter[str]]) -> str:
    keys = [key for key in found.keys() | wanted.keys() if found.get(key) != wanted.get(key)]
    return f"{len(keys)} of {len(wanted)} differ; first {min(keys)}: {found.get(min(keys))} not {wanted.get(min(keys))}"


def _credited(logs: Iterable[Mapping[str, Any]]) -> Counter[tuple[Any, ...]]:
    """Bytes and connections that each rule must have, from the logs' own traces."""
    sums: Counter[tuple[Any, ...]] = Counter()
    for log in logs:
        policies = log["policies"]
        direction = "ingress" if log["reporter"] == "dst" else "egress"
        hits = {hit.split("|", 1)[1] for hit in (*policies["enforced_policies"], *policies["pending_policies"])}
        for tier, policy, action, rule in (hit.split("|") for hit in hits):
            key = (log["host"], log["start_time"], log["late"], tier, policy, direction, action, int(rule))
            sums[*key, "connections"] += log["num_flows"]
            sums[*key, "bytes"] += log["bytes_in"] + log["bytes_out"]
    return sums


def _counted(counters: Iterable[Mapping[str, Any]]) -> Counter[tuple[Any, ...]]:
    names = ("host", "start_time", "late", "tier", "policy", "rule_direction", "action", "rule_index")
    sums: Counter[tuple[Any, ...]] = Counter()
    for each in counters:
        key = tuple(each[name] for name in names)
        sums[*key, "connections"] += each["connections"]
        sums[*key, "bytes"] += each["bytes_in"] + each["bytes_out"]
    return sums


def _judge_endpoints(rig: Rig, counts: list[dict[str, Any]], windows: Iterable[tuple[str, int, bool]]) -> None:
    """One count for each window, policy and direction: the pods of the policy's own application."""
    pods = Counter(each.object["labels"]["app"] for each in rig.workload.messages if each.key.startswith("Pod/"))
    size = rig.workload.size
    expected = {
        (start_s, f"p{number:03d}", direction): pods[f"app-{number % size.services:03d}"]
        for start_s in {start_s for _, start_s, late in windows if not late}
        for number in range(size.policies)
        for direction in ("ingress", "egress")
    }
    found = {(each["start_time"], each["policy"].split(".")[1], each["rule_direction"]): each for each in counts}
    assert len(found) == len(counts), "a window is counted twice"
    assert {key: each["endpoints"] for key, each in found.items()} == expected, "endpoint counts differ"


async def _main(kills: int, seed: int) -> None:
    from tests.services.kafka import make

    with tempfile.TemporaryDirectory(prefix="tierflow-soak-") as folder:
        broker = make(Path(folder) / "kafka")
        await asyncio.to_thread(broker.start)
        rig = Rig(broker.bootstrap, "soak.", Path(folder), idle_s=30)
        try:
            started = time.monotonic()
            await soak(rig, random.Random(seed), Plan(kills, kills // 2, 30 * kills, broker))
            print(
                f"{kills} kills, {kills // 2} joins and leaves, broker killed once, {time.monotonic() - started:.0f} s"
            )
            print(await judge(rig), "- all equal to the truth")
        finally:
            await rig.tear_down()
            broker.stop()


if __name__ == "__main__":
    asyncio.run(_main(int(sys.argv[1]) if len(sys.argv) > 1 else 50, int(sys.argv[2]) if len(sys.argv) > 2 else 1))
