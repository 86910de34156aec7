"""Writes documents and their topics' offsets in one transaction, so that neither is ever without the other."""

from __future__ import annotations

import contextlib
import threading
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final

import duckdb
import orjson

from tierflow.schemas.errors import TransientError
from tierflow.schemas.fields import FieldType
from tierflow.sinks.duckdb.tables import (
    FLOW_FIELDS,
    FLOW_KEY,
    FLOW_LOGS,
    FLOW_TYPES,
    NUMBER_TYPES,
    TYPES,
    json_columns,
    quoted,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from tierflow.sinks.duckdb.database import Database

HOUR_S: Final = 3600


@dataclass(slots=True)
class Load:
    """What goes into the store in one transaction.

    Attributes:
        rows: flat documents by table, any order; an id that comes twice counts once.
        offsets: next offset to read by ``(topic, partition)``.
    """

    rows: dict[str, list[Mapping[str, Any]]] = field(default_factory=dict)
    offsets: dict[tuple[str, int], int] = field(default_factory=dict)


class Writer:
    """The one writer of a database; its methods may be called from any thread, and wait for each other.

    Every method raises ``TransientError`` when the disk is full or the file can't be written: nothing of the call is in
    the store then, and the same call may work later. The database has been opened again by then where it could be.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._spoilt = False

    def offsets(self) -> dict[tuple[str, int], int]:
        """Next offset to read by ``(topic, partition)``."""
        with self._transaction() as cursor:
            found = cursor.execute("SELECT topic, partition, next_offset FROM offsets").fetchall()
        return {(topic, partition): next_offset for topic, partition, next_offset in found}

    def write(self, load: Load) -> int:
        """Add what isn't there yet; returns the number of rows added."""
        added = 0
        with self._transaction() as cursor:
            for table, rows in load.rows.items():
                distinct = {row["id"]: row for row in rows}
                if distinct:
                    insert = _insert_flow_logs if table == FLOW_LOGS else _insert_plain
                    added += insert(cursor, self._database, table, distinct.values())
            for (topic, partition), next_offset in load.offsets.items():
                cursor.execute("INSERT OR REPLACE INTO offsets VALUES (?, ?, ?)", [topic, partition, next_offset])
        return added

    def forget_before(self, time_s: int) -> int:
        """Drop documents whose window ended before ``time_s``, and flows without any; returns the documents' number."""
        dropped = 0
        with self._transaction() as cursor:
            for table in TYPES:
                dropped += _count(cursor.execute(f"DELETE FROM {quoted(table)} WHERE end_time < ?", [time_s]))  # noqa: S608 - a constant name
            if dropped:
                cursor.execute("DELETE FROM flows WHERE flow NOT IN (SELECT flow FROM flow_logs)")
        return dropped

    def forget(self, now_s: int, keep_s: int, max_bytes: int) -> int:
        """Drop what is older than ``keep_s``, then the oldest hours while the file holds more than ``max_bytes``.

        Returns the number of documents dropped.
        """
        dropped = self.forget_before(now_s - keep_s)
        used = self._used_bytes()
        while used > max_bytes and (oldest_s := self._oldest_s()) is not None:
            dropped += self.forget_before(oldest_s + HOUR_S)
            before, used = used, self._used_bytes()
            if used >= before:
                # A question being answered holds on to the rows; more hours would go for nothing.
                break
        return dropped

    def _oldest_s(self) -> int | None:
        with self._transaction() as cursor:
            found = cursor.execute("SELECT min(end_time) FROM flow_logs").fetchone()
        return None if found is None or found[0] is None else int(found[0])

    def _used_bytes(self) -> int:
        with self._lock, self._explained():
            # Rows are really gone, and what is in the write-ahead log is in the file, only after a checkpoint.
            with self._database.cursor() as cursor, contextlib.suppress(duckdb.TransactionException):
                cursor.execute("CHECKPOINT")
            return self._database.used_bytes()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[duckdb.DuckDBPyConnection]:
        with self._lock, self._explained(), self._database.cursor() as cursor:
            cursor.execute("BEGIN")
            try:
                yield cursor
                cursor.execute("COMMIT")
            except BaseException:
                # A failed statement may have ended the transaction itself.
                with contextlib.suppress(duckdb.Error):
                    cursor.execute("ROLLBACK")
                raise

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        if self._spoilt:
            self._database.reopen()
            self._spoilt = False
        try:
            yield
        except (duckdb.Error, OSError) as error:
            self._spoilt = isinstance(error, duckdb.FatalException | duckdb.InternalException)
            raise TransientError(self._database.explained(error)) from error


def _insert_plain(
    cursor: duckdb.DuckDBPyConnection, database: Database, table: str, rows: Iterable[Mapping[str, Any]]
) -> int:
    types = TYPES[table]
    columns = ", ".join(quoted(name) for name in types)
    with _arriving(database, rows, types) as source:
        return _count(
            cursor.execute(
                f"INSERT INTO {quoted(table)} ({columns}) SELECT {columns} FROM {source} AS arriving "  # noqa: S608 - names of the schema
                f"WHERE {_not_in(table)}",
                _span(rows),
            )
        )


def _insert_flow_logs(
    cursor: duckdb.DuckDBPyConnection, database: Database, table: str, rows: Iterable[Mapping[str, Any]]
) -> int:
    flows: dict[str, dict[str, Any]] = {}
    numbers = []
    for row in rows:
        described = [row[name] for name in FLOW_FIELDS]
        key = blake2b(orjson.dumps(described), digest_size=16).hexdigest()
        if key not in flows:
            flows[key] = dict(zip(FLOW_FIELDS, described, strict=True)) | {FLOW_KEY: key}
        numbers.append({name: row[name] for name in NUMBER_TYPES} | {FLOW_KEY: key})
    keyed = {FLOW_KEY: FieldType.KEYWORD}
    described_by = ", ".join(quoted(name) for name in FLOW_TYPES)
    with _arriving(database, flows.values(), FLOW_TYPES | keyed) as source:
        cursor.execute(
            f"INSERT INTO flows (flow, {FLOW_KEY}, {described_by}) "  # noqa: S608 - names of the schema
            f"SELECT (SELECT coalesce(max(flow), -1) FROM flows) + row_number() OVER (), {FLOW_KEY}, {described_by} "
            f"FROM {source} AS arriving "
            f"WHERE NOT EXISTS (SELECT 1 FROM flows AS stored WHERE stored.{FLOW_KEY} = arriving.{FLOW_KEY})"
        )
    columns = ", ".join(quoted(name) for name in NUMBER_TYPES)
    values = ", ".join(f"arriving.{quoted(name)}" for name in NUMBER_TYPES)
    with _arriving(database, numbers, NUMBER_TYPES | keyed) as source:
        return _count(
            cursor.execute(
                f"INSERT INTO flow_logs (flow, {columns}) SELECT flow, {values} "  # noqa: S608 - names of the schema
                f"FROM {source} AS arriving JOIN flows USING ({FLOW_KEY}) WHERE {_not_in(table)}",
                _span(rows),
            )
        )


@contextlib.contextmanager
def _arriving(database: Database, rows: Iterable[Mapping[str, Any]], types: Mapping[str, FieldType]) -> Iterator[str]:
    """The rows as something to select from: DuckDB parses JSON lines far faster than Python binds values."""
    lines = (orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in rows)
    # It is gone before the kernel would write it to the disk.
    with database.load_file(lines) as file:
        name = str(file).replace("'", "''")
        yield (
            f"read_json('{name}', format='newline_delimited', columns={json_columns(types)}, "
            "maximum_object_size=16777216)"
        )


def _not_in(table: str) -> str:
    return (
        f"NOT EXISTS (SELECT 1 FROM {quoted(table)} AS stored "  # noqa: S608 - a constant name
        "WHERE stored.start_time BETWEEN ? AND ? AND stored.id = arriving.id)"
    )


def _span(rows: Iterable[Mapping[str, Any]]) -> list[int]:
    """From the first to the last start: where the same ids may be stored already."""
    starts = [row["start_time"] for row in rows]
    return [min(starts), max(starts)]


def _count(done: duckdb.DuckDBPyConnection) -> int:
    found = done.fetchone()
    return int(found[0]) if found else 0
