"""The database file: opened, opened again after an error that has spoilt it, and shared among threads."""

from __future__ import annotations

import contextlib
import glob
import os
import shlex
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final

import duckdb

from tierflow.schemas.errors import TransientError, UnavailableError
from tierflow.sinks.duckdb.tables import statements

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MEMORY_MIB: Final = 1024
"""What the database's own buffers may take."""
LOAD: Final = ".load-"
"""Follows the database's name in those of the files beside it that hold what is being loaded."""


class Database:
    """One DuckDB file. A full disk spoils DuckDB's instance of it, which then answers nothing until it is reopened.

    Args:
        path: of the file; its folder is made.
        memory_mib: of DuckDB's buffers.

    Raises:
        UnavailableError: the file can't be opened, is no database, is of an earlier layout, or another process has it.
    """

    def __init__(self, path: Path, memory_mib: int = MEMORY_MIB) -> None:
        self.path = path
        self._memory_mib = memory_mib
        self._users = 0
        self._idle = threading.Condition()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection: duckdb.DuckDBPyConnection | None = self._opened()
            # The file's lock is ours now, so whoever has left these is gone.
            for stale in path.parent.glob(f"{glob.escape(path.name)}{LOAD}*"):
                stale.unlink(missing_ok=True)
        except (duckdb.Error, OSError) as error:
            raise UnavailableError(self.explained(error)) from error

    @contextlib.contextmanager
    def cursor(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A cursor of one's own; its errors are DuckDB's."""
        with self._idle:
            if self._connection is None:
                raise TransientError(f"--database {self.path}: not open since an error; being opened again")
            cursor = self._connection.cursor()
            self._users += 1
        try:
            yield cursor
        finally:
            cursor.close()
            with self._idle:
                self._users -= 1
                self._idle.notify_all()

    @contextlib.contextmanager
    def load_file(self, lines: Iterable[bytes]) -> Iterator[Path]:
        """A file of ``lines`` beside the database while it is wanted; one that a killed process leaves goes at start.

        Raises:
            OSError: there is no room for it.
        """
        handle, name = tempfile.mkstemp(".json", self.path.name + LOAD, self.path.parent)
        path = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                file.writelines(lines)
            yield path
        finally:
            path.unlink()

    def reopen(self) -> None:
        """Close the file once nobody asks any more, and open it again; what was committed is there.

        Raises:
            TransientError: it can't be opened now; the next try may do.
        """
        with self._idle:
            while self._users:
                self._idle.wait()
            if self._connection is not None:
                self._connection.close()
                self._connection = None
            try:
                self._connection = self._opened()
            except (duckdb.Error, OSError) as error:
                raise TransientError(self.explained(error)) from error

    def used_bytes(self) -> int:
        """What the file holds, without the room in it that deleted rows have left; that is filled again first."""
        with self.cursor() as cursor:
            found = cursor.execute(
                "SELECT used_blocks * block_size FROM pragma_database_size() WHERE database_name = current_database()"
            ).fetchone()
        return int(found[0]) if found else 0

    def close(self) -> None:
        """Write everything into the file, and close it.

        Raises:
            UnavailableError: it can't be written; the write-ahead log beside it has all the same.
        """
        with self._idle:
            connection, self._connection = self._connection, None
        if connection is None:
            return
        try:
            connection.execute("CHECKPOINT")
        except duckdb.Error as error:
            raise UnavailableError(self.explained(error)) from error
        finally:
            connection.close()

    def explained(self, error: Exception) -> str:
        """An error in one line that names the file."""
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        return f"--database {self.path}: {text}"

    def _opened(self) -> duckdb.DuckDBPyConnection:
        connection = duckdb.connect(str(self.path), config={"memory_limit": f"{self._memory_mib}MiB"})
        try:
            self._refuse_earlier_layout(connection)
            for statement in statements():
                connection.execute(statement)
        except BaseException:
            connection.close()
            raise
        return connection

    def _refuse_earlier_layout(self, connection: duckdb.DuckDBPyConnection) -> None:
        names = {
            name
            for (name,) in connection.execute(
                "SELECT column_name FROM duckdb_columns() WHERE table_name = 'flow_logs'"
            ).fetchall()
        }
        if names and "flow" not in names:
            keep = shlex.join(["mv", str(self.path), f"{self.path}.earlier"])
            raise UnavailableError(
                f"--database {self.path}: written by an earlier tierflow, which alone reads it; to keep it and begin a "
                f"new one, filled with what the topics still hold: {keep}"
            )
