"""Writes documents and their topics' offsets in one transaction, so that neither is ever without the other."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import duckdb
import orjson

from tierflow.schemas.errors import UnavailableError
from tierflow.sinks.duckdb.tables import OFFSETS, TABLES, create_table, json_columns, quoted

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path


@dataclass(slots=True)
class Load:
    """What goes into the store in one transaction.

    Attributes:
        rows: flat documents by table, any order; an id that comes twice counts once.
        offsets: next offset to read by ``(topic, partition)``.
    """

    rows: dict[str, list[Mapping[str, Any]]] = field(default_factory=dict)
    offsets: dict[tuple[str, int], int] = field(default_factory=dict)


def open_database(path: Path) -> duckdb.DuckDBPyConnection:
    """Open or create the database with its tables.

    Raises:
        UnavailableError: the file can't be opened, is no database, or another process has it.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = duckdb.connect(str(path))
        for table, types in TABLES.items():
            connection.execute(create_table(table, types))
        connection.execute(OFFSETS)
    except (duckdb.Error, OSError) as error:
        raise UnavailableError(f"--database {path}: {_first_line(error)}") from error
    return connection


class Writer:
    """The one writer of a database.

    Args:
        connection: from :func:`open_database`; the writer uses a cursor of its own.
        path: of the database, to name it in errors.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection, path: Path) -> None:
        self._connection = connection.cursor()
        self._path = path

    def offsets(self) -> dict[tuple[str, int], int]:
        """Next offset to read by ``(topic, partition)``."""
        found = self._connection.execute("SELECT topic, partition, next_offset FROM offsets").fetchall()
        return {(topic, partition): next_offset for topic, partition, next_offset in found}

    def write(self, load: Load) -> int:
        """Add what isn't there yet; returns the number of rows added.

        Raises:
            UnavailableError: the disk is full or the file can't be written; nothing of ``load`` is in the store then.
        """
        added = 0
        try:
            self._connection.execute("BEGIN")
            for table, rows in load.rows.items():
                if rows:
                    added += self._insert(table, rows)
            for (topic, partition), next_offset in load.offsets.items():
                self._connection.execute(
                    "INSERT OR REPLACE INTO offsets VALUES (?, ?, ?)", [topic, partition, next_offset]
                )
            self._connection.execute("COMMIT")
        except (duckdb.Error, OSError) as error:
            self._roll_back()
            raise UnavailableError(f"--database {self._path}: {_first_line(error)}") from error
        return added

    def forget_before(self, time_s: int) -> int:
        """Drop documents whose window ended before ``time_s``; returns their number."""
        dropped = 0
        for table in TABLES:
            found = self._connection.execute(f"DELETE FROM {quoted(table)} WHERE end_time < ?", [time_s]).fetchone()  # noqa: S608 - a constant name
            dropped += int(found[0]) if found else 0
        return dropped

    def oldest_s(self) -> int | None:
        """End of the oldest window stored."""
        found = self._connection.execute("SELECT min(end_time) FROM flow_logs").fetchone()
        return None if found is None or found[0] is None else int(found[0])

    def close(self) -> None:
        """Write everything into the database file."""
        try:
            self._connection.execute("CHECKPOINT")
        except duckdb.Error as error:
            raise UnavailableError(f"--database {self._path}: {_first_line(error)}") from error
        finally:
            self._connection.close()

    def _insert(self, table: str, rows: Iterable[Mapping[str, Any]]) -> int:
        distinct = {row["id"]: row for row in rows}
        from_s = min(row["start_time"] for row in distinct.values())
        to_s = max(row["start_time"] for row in distinct.values())
        types = TABLES[table]
        columns = ", ".join(quoted(name) for name in types)
        # DuckDB parses JSON lines far faster than Python binds values: the file never leaves the page cache.
        with tempfile.NamedTemporaryFile(suffix=".json") as file:
            file.writelines(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in distinct.values())
            file.flush()
            found = self._connection.execute(
                f"INSERT INTO {quoted(table)} ({columns}) SELECT {columns} FROM read_json(?, "  # noqa: S608 - names of the schema
                f"format='newline_delimited', columns={json_columns(types)}, maximum_object_size=16777216) AS arriving "
                f"WHERE NOT EXISTS (SELECT 1 FROM {quoted(table)} AS stored WHERE stored.start_time BETWEEN ? AND ? "
                "AND stored.id = arriving.id)",
                [file.name, from_s, to_s],
            ).fetchone()
        return int(found[0]) if found else 0

    def _roll_back(self) -> None:
        try:
            self._connection.execute("ROLLBACK")
        except duckdb.Error:
            # The failed statement has ended the transaction itself.
            return


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
