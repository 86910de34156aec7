"""The embedded store's file: what it keeps once, what it forgets, and a disk that is full."""

from __future__ import annotations

import contextlib
import itertools
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import duckdb
import pytest

from tests.sinks.documents import DAY_S, whole_counter, whole_log
from tests.sinks.small_disk import resize, small_disk
from tierflow.schemas.errors import TransientError, UnavailableError
from tierflow.sinks.documents import FLOW_LOG_TYPES, POLICY_COUNTER_TYPES, flatten
from tierflow.sinks.duckdb.database import Database
from tierflow.sinks.duckdb.store import DuckDBStore
from tierflow.sinks.duckdb.tables import FLOW_LOGS, NUMBER_TYPES, POLICY_COUNTERS, quoted
from tierflow.sinks.duckdb.writer import Load, Writer
from tierflow.sinks.read.interface import Filter

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HOUR_S = 3600


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(tmp_path / "flows.duckdb")
    yield opened
    opened.close()


PLAIN = flatten(whole_log(), FLOW_LOG_TYPES)


def load(first: int, count: int, apart_s: int = 1, **changes: Any) -> Load:
    """Flow logs by number, ``apart_s`` seconds from one to the next; what they carry doesn't compress."""
    rows = [
        PLAIN | changes | {
            "id": f"{number:032x}", "start_time": DAY_S + number * apart_s, "end_time": DAY_S + number * apart_s + 15,
            "bytes_in": number, "bytes_out": hash((number, 1)) % 2**40, "packets_in": hash((number, 2)) % 2**40,
        }
        for number in range(first, first + count)
    ]  # fmt: skip
    return Load({FLOW_LOGS: list(rows)}, {("flows.logs.v1", 0): first + count})


def stored(database: Database) -> tuple[int, int]:
    """Number of flow logs, and the sum of a field."""
    with database.cursor() as cursor:
        return cursor.execute("SELECT count(*), coalesce(sum(bytes_in), 0)::BIGINT FROM flow_logs").fetchall()[0]


def flows(database: Database) -> int:
    with database.cursor() as cursor:
        found: int = cursor.execute("SELECT count(*) FROM flows").fetchall()[0][0]
        return found


def whole(count: int) -> tuple[int, int]:
    return count, count * (count - 1) // 2


def test_what_describes_a_flow_is_kept_once_for_all_its_logs(database: Database) -> None:
    writer = Writer(database)
    assert writer.write(load(0, 50)) == 50
    assert writer.write(load(50, 50)) == 50
    assert writer.write(load(100, 3, action="deny", evidence="leak")) == 3
    assert flows(database) == 2
    assert stored(database) == whole(103)
    assert writer.offsets() == {("flows.logs.v1", 0): 103}


def test_retention_by_age_drops_documents_of_every_kind_and_flows_that_nothing_is_left_of(database: Database) -> None:
    writer = Writer(database)
    writer.write(load(0, 10, apart_s=HOUR_S))
    writer.write(load(10, 10, apart_s=HOUR_S, action="deny"))
    counters = [
        flatten(whole_counter(id=f"{hour:x}", start_time=DAY_S + hour * HOUR_S), POLICY_COUNTER_TYPES)
        for hour in range(20)
    ]
    writer.write(Load({POLICY_COUNTERS: list(counters)}))
    assert writer.forget(DAY_S + 20 * HOUR_S, 8 * HOUR_S, 1 << 40) == 24
    store = DuckDBStore(database)
    assert {log["action"] for log in store.flow_logs(Filter()).logs} == {"deny"}
    assert len(store.flow_logs(Filter()).logs) == 8
    assert flows(database) == 1
    assert writer.write(load(20, 1, apart_s=HOUR_S)) == 1
    assert store.flow_logs(Filter(actions=("allow",))).logs[0]["bytes_in"] == 20


HOURS, ROWS = 10, 600_000


def fill(database: Database) -> None:
    """Ten hours of flow logs, evenly: a handful of what DuckDB keeps and frees together."""
    Writer(database).write(load(0, 1))
    columns = ", ".join(quoted(name) for name in NUMBER_TYPES if name not in ("id", "start_time", "end_time"))
    with database.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO flow_logs (flow, {columns}, id, start_time, end_time) "
            f"SELECT flow, {columns}, md5(n::VARCHAR), {DAY_S} + n * {HOURS * HOUR_S} // {ROWS}, "
            f"{DAY_S} + 15 + n * {HOURS * HOUR_S} // {ROWS} FROM flow_logs, range({ROWS}) AS r(n)"
        )


def test_retention_by_size_drops_the_oldest_hours_and_no_more_than_it_must(database: Database) -> None:
    writer, store = Writer(database), DuckDBStore(database)
    fill(database)
    assert writer.forget(DAY_S, HOUR_S, 1 << 40) == 0
    full = database.used_bytes()
    most = full * 2 // 3
    # An hour may free nothing by itself: rows leave the file by the hundred thousand.
    for _ in range(HOURS):
        if database.used_bytes() <= most:
            break
        assert writer.forget(DAY_S, HOUR_S, most) > 0
    assert full // 3 <= database.used_bytes() <= most
    assert store.newest_s() == DAY_S + HOURS * HOUR_S + 14
    # The file itself doesn't shrink; nothing more goes because of that.
    assert writer.forget(DAY_S, HOUR_S, most) == 0


def test_retention_by_size_drops_one_hour_and_waits_while_a_question_holds_on_to_the_rows(database: Database) -> None:
    writer = Writer(database)
    fill(database)
    with database.cursor() as asking:
        asking.execute("BEGIN")
        asking.execute("SELECT count(*) FROM flow_logs").fetchall()
        dropped = writer.forget(DAY_S, HOUR_S, 1)
    assert 0 < dropped <= 2 * ROWS // HOURS


@pytest.mark.root
def test_a_full_disk_is_one_line_and_loses_nothing(tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", 8) as folder:
        database = Database(folder / "flows.duckdb")
        writer, store = Writer(database), DuckDBStore(database)
        with pytest.raises(TransientError, match="No space left") as told:
            _ = [writer.write(load(first, 2_000)) for first in itertools.count(0, 2_000)]
        written = writer.offsets()["flows.logs.v1", 0]
        assert str(told.value).startswith(f"--database {folder / 'flows.duckdb'}: ")
        assert "\n" not in str(told.value)
        assert written > 0
        # While there is no room, asking either works or is refused in one line.
        with contextlib.suppress(UnavailableError):
            assert len(store.flow_logs(Filter(), limit=5).logs) == 5
        with pytest.raises(TransientError):
            writer.write(load(written, 20_000))
        resize(folder, 64)
        assert writer.write(load(written, 20_000)) == 20_000
        assert stored(database) == whole(written + 20_000)
        assert writer.offsets() == {("flows.logs.v1", 0): written + 20_000}
        assert len(store.flow_logs(Filter(), limit=5).logs) == 5
        database.close()
        again = Database(folder / "flows.duckdb")
        assert stored(again) == whole(written + 20_000)
        again.close()


def test_writing_forgetting_and_asking_at_the_same_time_disturb_each_other_in_nothing(database: Database) -> None:
    writer, store = Writer(database), DuckDBStore(database)
    failures: list[Exception] = []
    stop, numbers = threading.Event(), itertools.count(10_000)

    def repeat(action: Any) -> None:
        while not stop.is_set():
            try:
                action()
            except Exception as error:  # noqa: BLE001 - whatever it is, the test tells it
                failures.append(error)
                return

    others = [
        threading.Thread(target=repeat, args=(action,))
        for action in (
            lambda: writer.forget(DAY_S, HOUR_S, 1 << 40),
            lambda: store.flow_groups(Filter(labels="!has(x)")),
            lambda: store.flow_logs(Filter(actions=("allow",)), limit=3),
            lambda: writer.write(load(next(numbers), 1, dest_port=next(numbers))),
        )
    ]
    for thread in others:
        thread.start()
    try:
        for number in range(40):
            # Each load brings a flow that wasn't there: a bit that a question under way doesn't have.
            writer.write(load(number * 10, 10, dest_port=number))
    finally:
        stop.set()
        for thread in others:
            thread.join()
    assert failures == []
    with database.cursor() as cursor:
        (logs,) = cursor.execute("SELECT count(*) FROM flow_logs WHERE bytes_in < 10000").fetchall()
        (numbered,) = cursor.execute("SELECT count(*) - count(DISTINCT flow) FROM flows").fetchall()
    assert (logs, numbered) == ((400,), (0,))


def test_a_page_stays_where_it_is_while_logs_arrive_and_older_ones_go(database: Database) -> None:
    writer, store = Writer(database), DuckDBStore(database)
    writer.write(load(0, 30))
    first = store.flow_logs(Filter(), limit=10)
    writer.write(load(30, 30))
    writer.forget_before(DAY_S + 5 + 15)
    second = store.flow_logs(Filter(), limit=10, cursor=first.cursor)
    third = store.flow_logs(Filter(), limit=10, cursor=second.cursor)
    found = [log["bytes_in"] for page in (first, second, third) for log in page.logs]
    assert found == list(range(29, 4, -1))
    assert third.cursor is None


def test_a_file_that_is_no_database_is_refused_in_one_line(tmp_path: Path) -> None:
    nonsense = tmp_path / "nonsense.duckdb"
    nonsense.write_bytes(b"no database at all" * 1000)
    with pytest.raises(UnavailableError, match="not a valid DuckDB") as told:
        Database(nonsense)
    assert str(told.value).startswith(f"--database {nonsense}: ")
    assert "\n" not in str(told.value)


def test_a_file_of_an_earlier_layout_is_refused_with_the_command_that_keeps_it_and_lets_a_new_one_begin(
    tmp_path: Path,
) -> None:
    earlier = tmp_path / "an earlier.duckdb"
    with duckdb.connect(str(earlier)) as connection:
        connection.execute("CREATE TABLE flow_logs (id VARCHAR, action VARCHAR)")
        connection.execute("INSERT INTO flow_logs VALUES ('1', 'allow')")
    with pytest.raises(UnavailableError, match="written by an earlier tierflow") as told:
        Database(earlier)
    assert "\n" not in str(told.value)
    subprocess.run(["/bin/sh", "-c", str(told.value).rpartition("hold: ")[2]], check=True)
    Database(earlier).close()
    with duckdb.connect(f"{earlier}.earlier") as connection:
        assert connection.execute("SELECT * FROM flow_logs").fetchall() == [("1", "allow")]


OTHERS = "another.duckdb.load-1.json"
OPEN = """
import os, pathlib, sys
from tierflow.sinks.duckdb.database import Database
database = Database(pathlib.Path(sys.argv[1]))
"""
KILLED_LOADING = f"""{OPEN}
loading = database.load_file([])
loading.__enter__()
os.kill(os.getpid(), {signal.SIGKILL})
"""


def test_what_a_killed_writer_was_loading_goes_with_the_next_start_and_a_live_writers_stays(tmp_path: Path) -> None:
    path = tmp_path / "flows.duckdb"
    (tmp_path / OTHERS).touch()
    database = Database(path)
    with database.load_file([b"{}\n"]) as file:
        beside = subprocess.run([sys.executable, "-c", OPEN, path], capture_output=True, text=True, check=False)
        assert beside.returncode != 0
        assert "lock" in beside.stderr
        assert file.parent == tmp_path
        assert file.exists()
    assert not file.exists()
    database.close()
    assert subprocess.run([sys.executable, "-c", KILLED_LOADING, path], check=False).returncode == -signal.SIGKILL
    assert len(list(tmp_path.glob("flows.duckdb.load-*"))) == 1
    Database(path).close()
    assert sorted(each.name for each in tmp_path.iterdir()) == [OTHERS, "flows.duckdb"]
