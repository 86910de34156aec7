"""A worker as its operator sees it: health, metrics that end, lag, backpressure, silent nodes. No broker here."""

from __future__ import annotations

import asyncio
import inspect
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from aiokafka.errors import KafkaConnectionError
from faust.types import TP

from tests.streams.scene import START_NS, WINDOW, inventory, message, record
from tierflow.policy import compile_policies
from tierflow.schemas.clock import NS_PER_S, ManualClock
from tierflow.schemas.faust_app import NoTables, TableManager
from tierflow.schemas.health import Health, Probes
from tierflow.schemas.metrics import Metrics, MetricSpec
from tierflow.streams import metrics as m
from tierflow.streams.app import SLOW_S, STUCK_S, _State
from tierflow.streams.core.stage import Stage, StageSettings
from tierflow.streams.worker import CLOCKS_APART_MS, RULE_SILENCE_S, Worker, WorkerSettings

if TYPE_CHECKING:
    from tests.streams.scene import Message

BOUNDED = {"reason", "partition", "tier", "policy", "rule_index", "rule_direction", "action", "kind"}
"""Labels whose values are as many as reasons, kinds, partitions and rules; never an address, a pod or a flow."""


@dataclass(slots=True)
class Consumer:
    """Faust's consumer as far as the worker asks it; ``end`` is what the broker has."""

    end: int = 0
    fresh_end: int | None = None
    acknowledged: list[int] = field(default_factory=list)
    turns: int = 0
    assigned: bool = True
    revoked_unseen: bool = False

    def assignment(self) -> set[Any]:
        return {TP("raw", 0)} if self.assigned else set()

    def highwater(self, _: Any) -> int:
        self.turns += 1
        # As aiokafka does: its own thread may have given the partition away since it was asked for the assignment.
        assert self.assigned, "Partition is not assigned"
        assert not self.revoked_unseen, "Partition is not assigned"
        return self.end

    async def highwaters(self, *tps: Any) -> dict[Any, int]:
        return dict.fromkeys(tps, self.end if self.fresh_end is None else self.fresh_end)


@dataclass(slots=True)
class Output:
    """Writes nowhere; fails or waits when told to."""

    logs: list[bytes] = field(default_factory=list)
    fails: bool = False
    open: asyncio.Event = field(default_factory=asyncio.Event)

    async def write(self, outcome: Any) -> None:
        await self.open.wait()
        if self.fails:
            raise KafkaConnectionError("gone")
        self.logs += [value for _, value in outcome.logs]


@dataclass(slots=True)
class Bench:
    """A worker with everything around it in reach."""

    settings: WorkerSettings = field(default_factory=lambda: WorkerSettings(inventory_wait_s=0, tick_s=0.005))
    clock: ManualClock = field(default_factory=lambda: ManualClock(START_NS))
    live: Metrics = field(default_factory=Metrics)
    consumer: Consumer = field(default_factory=Consumer)
    output: Output = field(default_factory=Output)
    worker: Worker = field(init=False)
    stage: Stage = field(init=False)
    running: asyncio.Task[None] = field(init=False)

    def __post_init__(self) -> None:
        self.stage = Stage(StageSettings(WINDOW), compile_policies)
        self.stage.open(0).position = 0
        self.output.open.set()
        self.worker = Worker(
            self.settings, self.stage, self.output, inventory().snapshot, self.live, self.clock, "nowhere:1", "raw",
        )  # type: ignore[arg-type]  # fmt: skip
        self.worker.consumer = self.consumer

    def event(self, given: Message) -> Any:
        acknowledged = self.consumer.acknowledged
        raw = SimpleNamespace(
            partition=0, offset=given.offset, timestamp=given.timestamp_ms / 1000, key=given.key, value=given.value,
            ack=lambda _: acknowledged.append(given.offset),
        )  # fmt: skip
        self.consumer.end = max(self.consumer.end, given.offset + 1)
        return SimpleNamespace(message=raw)


async def until(condition: Any) -> None:
    """Let the loop run until a condition holds, with a bound."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - what is waited for sets no event
            await asyncio.sleep(0.002)


@pytest.fixture
async def bench() -> Any:
    made = Bench()
    made.running = asyncio.create_task(made.worker.run())
    yield made
    made.running.cancel()
    await asyncio.gather(made.running, return_exceptions=True)


def closing(offset: int = 0, end_s: float = 20) -> list[Message]:
    return [
        message(offset, [record("frontend-1", "backend-1", at_s=end_s - 10)], end_s=end_s - 5, sequence=offset),
        message(offset + 1, [], end_s=end_s, sequence=offset + 1),
    ]


async def test_offsets_are_acknowledged_when_what_they_fed_is_written(bench: Bench) -> None:
    first, second = closing()
    await bench.worker.take(bench.event(first))
    await until(lambda: bench.stage.partitions[0].open_windows == 1)
    assert bench.consumer.acknowledged == []
    await bench.worker.take(bench.event(second))
    await until(lambda: bench.consumer.acknowledged == [0, 1])
    assert len(bench.output.logs) == 1


async def test_a_rules_series_ends_when_it_goes_quiet_and_a_policys_when_it_is_gone(bench: Bench) -> None:
    labels = {
        "tier": "default", "policy": "shop/default.backend", "rule_index": "0", "rule_direction": "ingress",
        "action": "allow",
    }  # fmt: skip
    batch = record("frontend-1", "backend-1", reporter=2)  # type: ignore[arg-type]  # Reporter.DST
    await bench.worker.take(bench.event(message(0, [batch], end_s=15, sequence=0)))
    await bench.worker.take(bench.event(message(1, [], end_s=20, sequence=1)))
    await until(lambda: bench.live.value(m.RULE_BYTES, **labels) == 500)
    endpoints = {name: labels[name] for name in m.POLICY_ENDPOINTS.labels}
    assert bench.live.value(m.POLICY_ENDPOINTS, **endpoints) == 2
    bench.clock.advance_ns((RULE_SILENCE_S + 1) * NS_PER_S)
    await until(lambda: bench.live.registry.get_sample_value(m.RULE_BYTES.name, labels) is None)
    assert bench.live.registry.get_sample_value(m.RULE_CONNECTIONS.name, labels) is None
    assert bench.live.registry.get_sample_value(m.POLICY_ENDPOINTS.name, endpoints) == 2
    bench.worker._show_endpoints({("default", "other", "ingress"): 1})
    assert bench.live.registry.get_sample_value(m.POLICY_ENDPOINTS.name, endpoints) is None


async def test_lag_is_shown_while_the_worker_is_behind(bench: Bench) -> None:
    event = bench.event(closing()[0])
    bench.consumer.end = 8
    await bench.worker.take(event)
    await until(lambda: bench.live.value(m.LAG, partition="0") == 7)


async def test_reading_stops_while_too_much_waits_and_goes_on_when_it_is_written() -> None:
    size = len(closing()[0].value)
    bench = Bench(WorkerSettings(batch_bytes=size, buffer_bytes=4 * size, inventory_wait_s=0, tick_s=0.005))
    bench.output.open.clear()
    taken: list[int] = []

    async def read() -> None:
        for offset in range(0, 60, 2):
            for each in closing(offset, 20 + 15 * offset):
                await bench.worker.take(bench.event(each))
                taken.append(each.offset)

    running, reading = asyncio.create_task(bench.worker.run()), asyncio.create_task(read())
    try:
        # The loop is stuck in a write; what was read meanwhile is the buffer and the handful in work.
        await until(lambda: bench.worker._queued_bytes > bench.settings.buffer_bytes)
        for _ in range(200):
            await asyncio.sleep(0)
        held = len(taken)
        assert held <= 8
        assert not reading.done()
        assert bench.live.value(m.WAITING) == bench.worker._queued_bytes
        bench.clock.advance_ns(7 * NS_PER_S)
        bench.output.open.set()
        await asyncio.wait_for(reading, 20)
        await until(lambda: bench.consumer.acknowledged == list(range(60)))
        assert bench.live.value(m.PAUSED) == 7
        assert bench.live.value(m.WAITING) == 0
    finally:
        for task in (running, reading):
            task.cancel()
        await asyncio.gather(running, reading, return_exceptions=True)


@pytest.mark.parametrize(("more", "closed"), [(0, True), (1, False)])
async def test_a_silent_nodes_window_is_closed_by_the_clock_only_when_the_broker_has_no_more(
    bench: Bench, more: int, closed: bool
) -> None:
    first = message(0, [record("frontend-1", "backend-1")], end_s=2)
    await bench.worker.take(bench.event(first))
    await until(lambda: bench.stage.partitions[0].open_windows == 1)
    bench.consumer.fresh_end = 1 + more
    asked = []
    real = bench.consumer.highwaters

    async def highwaters(*tps: Any) -> dict[Any, int]:
        asked.append(tps)
        return await real(*tps)

    bench.worker.consumer = SimpleNamespace(
        assignment=bench.consumer.assignment, highwater=bench.consumer.highwater, highwaters=highwaters
    )
    silent_ms = WINDOW.idle_s * 1000 + CLOCKS_APART_MS + 2000
    bench.clock.advance_ns((silent_ms - 1) * 1_000_000)
    turns = bench.consumer.turns
    await until(lambda: bench.consumer.turns > turns + 2)
    assert not asked
    bench.clock.advance_ns(1_000_000)
    await until(lambda: len(asked) > 2 or bench.output.logs)
    assert (len(bench.output.logs) == 1) == closed


@pytest.mark.parametrize("seen", [True, False])
async def test_a_partition_that_is_taken_away_at_any_moment_ends_no_worker(bench: Bench, seen: bool) -> None:
    await bench.worker.take(bench.event(closing()[0]))
    await until(lambda: bench.stage.partitions[0].open_windows == 1)
    if seen:
        bench.worker.consumer = bench.consumer
        await bench.worker.take(bench.event(closing()[1]))
        bench.output.open.clear()
        await until(lambda: len(bench.stage.partitions[0].feeding) == 2)
        bench.consumer.assigned = False
        bench.output.open.set()
        await until(lambda: not bench.stage.partitions)
    else:
        bench.consumer.revoked_unseen = True
        turns = bench.consumer.turns
        await until(lambda: bench.consumer.turns > turns + 3)
        bench.consumer.revoked_unseen = False
        await until(lambda: bench.live.value(m.OPEN_WINDOWS) == 1)
    assert not bench.running.done()


async def test_health_says_what_is_wrong(bench: Bench) -> None:
    history = inventory()
    state = _State(bench.worker, history)
    assert state.ready().startswith("starting")
    assert state.alive() == ""
    state.reading = True
    assert (state.ready(), state.alive()) == ("", "")
    bench.output.fails = True
    for each in closing():
        await bench.worker.take(bench.event(each))
    await until(lambda: len(bench.stage.partitions[0].feeding) == 2)
    bench.clock.advance_ns(int((SLOW_S + 1) * NS_PER_S))
    assert state.ready().startswith("stuck")
    assert state.alive() == ""
    bench.clock.advance_ns(int(STUCK_S * NS_PER_S))
    assert state.alive().startswith("stuck")
    bench.output.fails = False
    await until(lambda: not state.alive())
    assert state.ready() == ""


async def test_no_inventory_at_all_is_not_ready(bench: Bench) -> None:
    from tierflow.inventory.history import History

    state = _State(bench.worker, History(), reading=True)
    assert state.ready().startswith("no inventory")
    assert state.alive() == ""


@pytest.mark.parametrize(
    ("path", "wrong", "status"),
    [
        ("/healthz", "", 200), ("/readyz", "", 200), ("/healthz", "stuck", 503), ("/readyz", "starting", 503),
        ("/metrics", "", 200), ("/other", "", 404),
    ],
)  # fmt: skip
async def test_the_pages_answer_with_their_status_and_reason(path: str, wrong: str, status: int) -> None:
    answer = await answered(Health(Metrics(), Probes(lambda: wrong, lambda: wrong), "127.0.0.1", 0), path)
    assert answer.startswith(f"HTTP/1.1 {status} ")
    assert wrong in answer


async def test_metrics_can_be_asked_for_by_name() -> None:
    live = Metrics()
    for spec in (m.BATCHES, m.RECORDS, m.DUPLICATES):
        live.add(spec)
    path = f"/metrics?name[]={m.BATCHES.name}&name%5B%5D={m.RECORDS.name}"
    page = (await answered(Health(live, Probes(str, str), "127.0.0.1", 0), path)).split("\r\n\r\n")[1]
    told = {line.split()[0] for line in page.splitlines() if not line.startswith("#")}
    assert told == {m.BATCHES.name, m.RECORDS.name}


async def answered(health: Health, path: str) -> str:
    """What comes back for a path."""
    port = await health.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        return (await reader.read()).decode()
    finally:
        writer.close()
        await health.stop()


def test_faust_sleeps_for_tables_once_and_before_it_looks_for_them() -> None:
    # NoTables shortens every sleep of its class: that it is this one only must be seen again when Faust changes.
    assert inspect.getsource(TableManager).count("self.sleep(") == 1
    assert inspect.getsource(TableManager.on_start).split("self.sleep(")[1].startswith("1.0)\n")
    assert issubclass(NoTables, TableManager)


def test_labels_are_bounded() -> None:
    declared = [each for each in vars(m).values() if isinstance(each, MetricSpec)]
    assert len(declared) > 20
    assert {label for each in declared for label in each.labels} <= BOUNDED
