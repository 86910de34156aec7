"""The tables of the embedded store, from the fields that the schemas declare."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tierflow.schemas.fields import FieldType
from tierflow.sinks.documents import FLOW_LOG_TYPES, POLICY_COUNTER_TYPES

if TYPE_CHECKING:
    from collections.abc import Mapping

SQL_TYPES: Final[dict[FieldType, str]] = {
    FieldType.KEYWORD: "VARCHAR",
    FieldType.LONG: "BIGINT",
    FieldType.DOUBLE: "DOUBLE",
    FieldType.BOOLEAN: "BOOLEAN",
    FieldType.IP: "VARCHAR",
    FieldType.DATE_S: "BIGINT",
    FieldType.DATE_MS: "BIGINT",
    FieldType.KEYWORDS: "VARCHAR[]",
    FieldType.IPS: "VARCHAR[]",
    FieldType.LONGS: "BIGINT[]",
}

FLOW_LOGS: Final = "flow_logs"
POLICY_COUNTERS: Final = "policy_counters"
TABLES: Final[dict[str, dict[str, FieldType]]] = {FLOW_LOGS: FLOW_LOG_TYPES, POLICY_COUNTERS: POLICY_COUNTER_TYPES}

OFFSETS: Final = """
CREATE TABLE IF NOT EXISTS offsets (
    topic VARCHAR, partition INTEGER, next_offset BIGINT, PRIMARY KEY (topic, partition)
)"""


def quoted(name: str) -> str:
    """A column or table name as SQL has it."""
    return '"' + name.replace('"', '""') + '"'


def create_table(table: str, types: Mapping[str, FieldType]) -> str:
    """The statement that creates a table unless it is there.

    No primary key: an index over ids costs more than it saves. The writer looks for an id only among the rows of its
    own windows (:mod:`tierflow.sinks.duckdb.writer`).
    """
    columns = ", ".join(f"{quoted(name)} {SQL_TYPES[kind]}" for name, kind in types.items())
    return f"CREATE TABLE IF NOT EXISTS {quoted(table)} ({columns})"


def json_columns(types: Mapping[str, FieldType]) -> str:
    """The ``columns`` argument of ``read_json`` for flat documents."""
    inner = ", ".join(f"{_literal(name)}: {_literal(SQL_TYPES[kind])}" for name, kind in types.items())
    return "{" + inner + "}"


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
