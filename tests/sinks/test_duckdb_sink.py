"""The DuckDB sink against a real broker: killed at any moment, on a full disk, given what it can't use."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import socket
from typing import TYPE_CHECKING, Any, ClassVar

import orjson
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import KafkaTimeoutError, NotLeaderForPartitionError

from tests.conftest import embedded_broker
from tests.sinks.documents import DAY_S, whole_counter, whole_log
from tests.sinks.process import sink_process
from tests.sinks.small_disk import resize, small_disk
from tierflow.cli.broker import free_port
from tierflow.schemas import topics
from tierflow.schemas.admin import ensure_topics
from tierflow.schemas.clock import NS_PER_S, ManualClock
from tierflow.schemas.errors import UnavailableError
from tierflow.schemas.metrics import Metrics
from tierflow.sinks import metrics as counted
from tierflow.sinks.consume import DuckDBSink
from tierflow.sinks.duckdb.database import Database
from tierflow.sinks.duckdb.retention import Retention, keep_within
from tierflow.sinks.duckdb.store import DuckDBStore
from tierflow.sinks.duckdb.writer import Load, Writer
from tierflow.sinks.read.interface import Filter
from tierflow.sinks.read.remote import RemoteStore
from tierflow.sinks.retry import Retry

if TYPE_CHECKING:
    import subprocess
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

BOUND_S = 90
LOGS = topics.FLOWS_LOGS.name


@pytest.fixture
def own_broker(tmp_path: Path) -> Iterator[str]:
    """The sink's topics have no prefix, so each test has a broker of its own."""
    with embedded_broker(tmp_path / "broker.log") as address:
        asyncio.run(ensure_topics(address, topics.ALL, partitions=2))
        yield address


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(BOUND_S):
        while not condition():  # noqa: ASYNC110 - a condition, with a bound
            await asyncio.sleep(0.02)


async def produce(broker: str, topic: str, values: list[bytes]) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=broker, linger_ms=5)
    await producer.start()
    for number, value in enumerate(values):
        await producer.send(topic, value, partition=number % 2)
    await producer.stop()


def logs(count: int, first: int = 0) -> list[bytes]:
    plain = whole_log()
    return [
        orjson.dumps(plain | {"id": f"{number:032x}", "bytes_in": number, "start_time": DAY_S + number // 100})
        for number in range(first, first + count)
    ]


def whole(count: int) -> tuple[int, int]:
    return count, count * (count - 1) // 2


def stored(database: Database) -> tuple[int, int]:
    with database.cursor() as cursor:
        return cursor.execute("SELECT count(*), coalesce(sum(bytes_in), 0)::BIGINT FROM flow_logs").fetchall()[0]


@contextlib.asynccontextmanager
async def sinking(
    broker: str,
    database: Database,
    metrics: Metrics,
    dead_letters: type[AIOKafkaProducer] = AIOKafkaProducer,
    consumer: type[AIOKafkaConsumer] = AIOKafkaConsumer,
) -> AsyncIterator[asyncio.Task[None]]:
    """A sink at work; its task, which ends with the sink's error."""
    sink = DuckDBSink(
        consumer(bootstrap_servers=broker, enable_auto_commit=False, auto_offset_reset="earliest"),
        dead_letters(bootstrap_servers=broker), Writer(database), ManualClock(0), metrics, Retry(0.05, 0.2),
    )  # fmt: skip
    stop = asyncio.Event()
    await sink.start()
    task = asyncio.create_task(sink.run(stop))
    try:
        yield task
    finally:
        stop.set()
        await asyncio.gather(task, return_exceptions=True)
        await sink.stop()


def started(broker: str, state: Path) -> contextlib.AbstractContextManager[subprocess.Popen[bytes]]:
    return sink_process(state, "duckdb", "--kafka", broker, "--retention-hours", "876000")


def count_of(state: Path) -> int:
    """Flow logs that the sink's own read side tells of; none while it isn't up."""
    path = state / "store.sock"
    with socket.socket(socket.AF_UNIX) as probe:
        # httpx leaves its socket to the garbage collector where nobody listens.
        if probe.connect_ex(str(path)) != 0:
            return 0
    store = RemoteStore(f"unix:{path}")
    try:
        return sum(bucket.logs for bucket in store.histogram(Filter(), width_s=86_400))
    finally:
        store.close()


async def test_killed_at_any_moment_and_started_again_it_has_every_document_once(
    own_broker: str, tmp_path: Path
) -> None:
    total = 24_000
    await produce(own_broker, LOGS, logs(total))
    moments = random.Random(7)
    least = 0
    for _ in range(4):
        least = moments.randint(least, min(total - 2_000, least + 6_000))
        with started(own_broker, tmp_path) as process:
            await until(lambda least=least, process=process: count_of(tmp_path) >= least or process.poll() is not None)  # type: ignore[misc]  # bound as defaults
            assert process.poll() is None, (tmp_path / "sink.log").read_text()
    with started(own_broker, tmp_path) as process:
        await until(lambda: count_of(tmp_path) == total)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    database = Database(tmp_path / "flows.duckdb")
    assert stored(database) == whole(total)
    assert sum(Writer(database).offsets().values()) == total
    database.close()


@pytest.mark.root
async def test_a_full_disk_is_waited_out_and_everything_is_there_afterwards(own_broker: str, tmp_path: Path) -> None:
    metrics = Metrics()
    with small_disk(tmp_path / "small", 4) as folder:
        database = Database(folder / "flows.duckdb")
        async with sinking(own_broker, database, metrics) as task:
            await produce(own_broker, LOGS, logs(20_000))
            await until(lambda: metrics.value(counted.RETRIES, cause="unwritable") >= 2 or task.done())
            assert not task.done()
            assert metrics.value(counted.STORE_UP) == 0
            assert metrics.value(counted.PENDING_BYTES) > 0
            resize(folder, 128)
            await until(lambda: metrics.value(counted.DOCUMENTS, topic=LOGS, result="stored") == 20_000)
        assert metrics.value(counted.STORE_UP) == 1
        assert metrics.value(counted.PENDING_BYTES) == 0
        assert metrics.value(counted.FAILURES) >= 2
        assert stored(database) == whole(20_000)
        database.close()


async def test_every_topic_has_its_table_and_a_replay_is_counted_and_changes_nothing(
    own_broker: str, tmp_path: Path
) -> None:
    metrics, database = Metrics(), Database(tmp_path / "flows.duckdb")
    loss = {
        "id": "1", "start_time": DAY_S, "end_time": DAY_S + 5, "cluster": "", "host": "n1", "reason": "sequence_gap",
        "batches": 2, "records": None, "packets": None, "bytes": None,
    }  # fmt: skip
    given = {
        LOGS: logs(50) * 2,
        topics.POLICY_COUNTERS.name: [orjson.dumps(whole_counter(connections_started=3))],
        topics.FLOWS_LOSS.name: [orjson.dumps(loss)],
    }
    async with sinking(own_broker, database, metrics):
        for topic, values in given.items():
            await produce(own_broker, topic, values)
        await until(
            lambda: all(
                metrics.value(counted.DOCUMENTS, topic=topic, result="stored") == len(values)
                for topic, values in given.items()
            )
        )
        await until(lambda: metrics.value(counted.LAG, topic=LOGS) == 0)
    store = DuckDBStore(database)
    assert stored(database) == whole(50)
    assert metrics.value(counted.REPEATED) == 50
    assert store.rule_statistics(DAY_S, DAY_S + 9)[0].connections == 3
    found = store.losses(DAY_S, DAY_S + 9)
    assert [(each.host, each.reason, each.losses, each.uncounted, each.batches) for each in found] == [
        ("n1", "sequence_gap", 1, 1, 2)
    ]
    database.close()


async def letters(broker: str, count: int) -> list[dict[str, Any]]:
    consumer = AIOKafkaConsumer(topics.DEAD_LETTER.name, bootstrap_servers=broker, auto_offset_reset="earliest")
    await consumer.start()
    async with asyncio.timeout(BOUND_S):
        found = [orjson.loads((await consumer.getone()).value or b"") for _ in range(count)]
    await consumer.stop()
    return found


async def test_what_cannot_be_used_goes_to_the_dead_letter_topic(own_broker: str, tmp_path: Path) -> None:
    metrics, database = Metrics(), Database(tmp_path / "flows.duckdb")
    wrong = [b"{no json", orjson.dumps({"id": "1"}), orjson.dumps(whole_log(bytes_in="many"))]
    async with sinking(own_broker, database, metrics):
        await produce(own_broker, LOGS, [*logs(10), *wrong])
        await until(lambda: metrics.value(counted.DOCUMENTS, topic=LOGS, result="rejected") == 3)
        await until(lambda: metrics.value(counted.DOCUMENTS, topic=LOGS, result="stored") == 10)
    found = await letters(own_broker, 3)
    assert sorted(letter["reason"] for letter in found) == ["bad_json", "schema", "schema"]
    assert any("bytes_in is str, not long" in letter["detail"] for letter in found)
    assert stored(database) == whole(10)
    database.close()


class _Away(AIOKafkaProducer):
    """Fails as aiokafka does when no broker has answered in time, then as when none leads; then works."""

    failures: ClassVar[list[Exception]] = []

    async def send_and_wait(self, *arguments: Any, **options: Any) -> Any:
        if self.failures:
            raise self.failures.pop(0)
        return await super().send_and_wait(*arguments, **options)


async def test_a_broker_away_from_dead_letters_is_waited_for(own_broker: str, tmp_path: Path) -> None:
    metrics, database = Metrics(), Database(tmp_path / "flows.duckdb")
    _Away.failures[:] = [KafkaTimeoutError(), NotLeaderForPartitionError()]
    async with sinking(own_broker, database, metrics, _Away):
        await produce(own_broker, LOGS, [*logs(10), b"{no json"])
        await until(lambda: metrics.value(counted.DOCUMENTS, topic=LOGS, result="rejected") == 1)
        await until(lambda: metrics.value(counted.DOCUMENTS, topic=LOGS, result="stored") == 10)
    assert metrics.value(counted.RETRIES, cause="dead_letter") == 2
    assert [letter["reason"] for letter in await letters(own_broker, 1)] == ["bad_json"]
    assert stored(database) == whole(10)
    database.close()


class _Faulty(AIOKafkaConsumer):
    """Fails as aiokafka does when a partition's leader is changing, twice; then works."""

    failures: ClassVar[list[Exception]] = []

    async def getmany(self, *arguments: Any, **options: Any) -> Any:
        if self.failures:
            raise self.failures.pop(0)
        return await super().getmany(*arguments, **options)


async def test_a_fault_of_the_broker_while_reading_is_waited_out(own_broker: str, tmp_path: Path) -> None:
    metrics, database = Metrics(), Database(tmp_path / "flows.duckdb")
    _Faulty.failures[:] = [NotLeaderForPartitionError(), KafkaTimeoutError()]
    async with sinking(own_broker, database, metrics, consumer=_Faulty):
        await produce(own_broker, LOGS, logs(10))
        await until(lambda: metrics.value(counted.DOCUMENTS, topic=LOGS, result="stored") == 10)
    assert metrics.value(counted.RETRIES, cause="broker") == 2
    assert stored(database) == whole(10)
    database.close()


async def test_a_broker_that_goes_and_comes_back_having_forgotten_everything_is_read_on(tmp_path: Path) -> None:
    metrics, database, port = Metrics(), Database(tmp_path / "flows.duckdb"), free_port()
    with contextlib.ExitStack() as first, contextlib.ExitStack() as second:

        async def enter(life: contextlib.ExitStack) -> str:
            address = await asyncio.to_thread(life.enter_context, embedded_broker(tmp_path / "broker.log", port))
            await ensure_topics(address, topics.ALL, partitions=2)
            return address

        broker = await enter(first)
        async with sinking(broker, database, metrics) as task:
            await produce(broker, LOGS, logs(20))
            await until(lambda: metrics.value(counted.DOCUMENTS, topic=LOGS, result="stored") == 20)
            await asyncio.to_thread(first.close)
            await enter(second)
            await produce(broker, LOGS, logs(10, first=20))
            await until(lambda: stored(database)[0] == 30 or task.done())
            assert not task.done()
    assert stored(database) == whole(30)
    database.close()


async def test_a_topic_made_again_is_read_from_its_start_though_the_store_has_a_position_in_its_former_life(
    tmp_path: Path,
) -> None:
    metrics, database = Metrics(), Database(tmp_path / "flows.duckdb")
    Writer(database).write(Load(offsets={(LOGS, 0): 3, (LOGS, 1): 3}))
    with contextlib.ExitStack() as life:
        broker = await asyncio.to_thread(life.enter_context, embedded_broker(tmp_path / "broker.log"))
        async with sinking(broker, database, metrics):
            await ensure_topics(broker, topics.ALL, partitions=2)
            await produce(broker, LOGS, logs(20))
            await until(lambda: metrics.value(counted.DOCUMENTS, topic=LOGS, result="stored") == 20)
    assert stored(database) == whole(20)
    database.close()


def test_told_to_stop_while_the_broker_is_gone_it_ends_at_once(tmp_path: Path) -> None:
    with contextlib.ExitStack() as life:
        address = life.enter_context(embedded_broker(tmp_path / "broker.log"))
        asyncio.run(ensure_topics(address, topics.ALL, partitions=2))
        with started(address, tmp_path) as process:
            log = tmp_path / "sink.log"
            asyncio.run(until(lambda: "ready" in log.read_text()))
            life.close()
            # By then a question about the ends is under way, which aiokafka gives up after 40 s.
            asyncio.run(until(lambda: "Unable connect" in log.read_text()))
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0, log.read_text()


async def test_a_topic_of_which_most_is_refused_ends_the_sink_in_one_line_and_moves_no_position(
    own_broker: str, tmp_path: Path
) -> None:
    database = Database(tmp_path / "flows.duckdb")
    await produce(own_broker, LOGS, [b"{}"] * 400)
    async with sinking(own_broker, database, Metrics()) as task:
        with pytest.raises(UnavailableError, match=r"\d+ of \d+ documents refused"):
            await asyncio.wait_for(task, BOUND_S)
    assert Writer(database).offsets() == {}
    database.close()


async def test_retention_runs_beside_the_sink_and_is_counted(tmp_path: Path) -> None:
    metrics, database = Metrics(), Database(tmp_path / "flows.duckdb")
    from tests.sinks.test_duckdb import load

    writer, stop = Writer(database), asyncio.Event()
    writer.write(load(0, 100))
    clock = ManualClock((DAY_S + 3_660) * NS_PER_S)
    keeping = asyncio.create_task(keep_within(Retention(3_600, 1 << 40), writer, clock, metrics, stop))
    await until(lambda: metrics.value(counted.FORGOTTEN_DOCUMENTS) == 45)
    stop.set()
    await keeping
    assert stored(database)[0] == 55
    database.close()
