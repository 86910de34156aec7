"""The tables of the embedded store, from the fields that the schemas declare.

A day holds millions of flow logs but only thousands of *flows*: distinct combinations of who talked to whom, over what,
reported by which side, with which verdict. So a flow log is kept in two tables. ``flows`` has what describes it, once;
``flow_logs`` has its numbers and times, and the number of its flow. A question looks at the few flows first and then
adds up integers (:mod:`tierflow.sinks.duckdb.restriction`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tierflow.schemas.fields import FieldType
from tierflow.sinks.documents import FLOW_LOG_TYPES, LOSS_TYPES, POLICY_COUNTER_TYPES

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

FLOW_FIELDS: Final = (
    "cluster", "reporter", "action", "evidence", "derived", "aggregation_level", "proto",
    "source_name", "source_name_aggr", "source_namespace", "source_type", "source_labels.labels",
    "dest_name", "dest_name_aggr", "dest_namespace", "dest_type", "dest_labels.labels", "dest_port",
    "dest_service_namespace", "dest_service_name", "dest_service_port", "dest_service_port_name",
    "dest_service_port_num",
    "policies.all_policies", "policies.enforced_policies", "policies.pending_policies",
)  # fmt: skip
"""What tells flows apart: every field that a filter may name but the time. Neither times nor amounts, nor the node."""

FLOW_TYPES: Final = {name: FLOW_LOG_TYPES[name] for name in FLOW_FIELDS}
NUMBER_TYPES: Final = {name: kind for name, kind in FLOW_LOG_TYPES.items() if name not in FLOW_TYPES}
"""What is kept of each flow log by itself."""

FLOW_LOGS: Final = "flow_logs"
POLICY_COUNTERS: Final = "policy_counters"
LOSSES: Final = "losses"
TYPES: Final[dict[str, Mapping[str, FieldType]]] = {
    FLOW_LOGS: FLOW_LOG_TYPES,
    POLICY_COUNTERS: POLICY_COUNTER_TYPES,
    LOSSES: LOSS_TYPES,
}
"""The documents that a load may bring, by the table that they go to."""

FLOW_KEY: Final = "flow_key"
"""A flow's fingerprint, by which an arriving flow log finds it."""


_OFFSETS: Final = """
CREATE TABLE IF NOT EXISTS offsets (
    topic VARCHAR, partition INTEGER, next_offset BIGINT, PRIMARY KEY (topic, partition)
)"""


def quoted(name: str) -> str:
    """A column or table name as SQL has it."""
    return '"' + name.replace('"', '""') + '"'


def statements() -> list[str]:
    """What creates the tables unless they are there.

    No primary key on ids: an index over them costs more than it saves. The writer looks for an id only among the rows
    of its own windows (:mod:`tierflow.sinks.duckdb.writer`).
    """
    return [
        f"CREATE TABLE IF NOT EXISTS flows (flow INTEGER, {FLOW_KEY} VARCHAR, {_columns(FLOW_TYPES)})",
        f"CREATE TABLE IF NOT EXISTS flow_logs (flow INTEGER, {_columns(NUMBER_TYPES)})",
        f"CREATE TABLE IF NOT EXISTS policy_counters ({_columns(POLICY_COUNTER_TYPES)})",
        f"CREATE TABLE IF NOT EXISTS losses ({_columns(LOSS_TYPES)})",
        _OFFSETS,
    ]


def json_columns(types: Mapping[str, FieldType]) -> str:
    """The ``columns`` argument of ``read_json`` for flat documents."""
    inner = ", ".join(f"{_literal(name)}: {_literal(SQL_TYPES[kind])}" for name, kind in types.items())
    return "{" + inner + "}"


def _columns(types: Mapping[str, FieldType]) -> str:
    return ", ".join(f"{quoted(name)} {SQL_TYPES[kind]}" for name, kind in types.items())


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
