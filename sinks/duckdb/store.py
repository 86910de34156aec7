"""The read side of the embedded store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import duckdb

from tierflow.schemas.errors import ConfigurationError, UnavailableError
from tierflow.sinks.documents import (
    FLOW_LOG_TYPES,
    decode_cursor,
    encode_cursor,
    facet_type,
    nest,
    sort_type,
)
from tierflow.sinks.duckdb.conditions import condition
from tierflow.sinks.duckdb.tables import SQL_TYPES, quoted
from tierflow.sinks.read.interface import (
    MAX_LIMIT,
    Facet,
    Filter,
    FlowGroup,
    FlowLogPage,
    HistogramBucket,
    PolicyEndpoints,
    RuleStatistics,
)
from tierflow.sinks.read.status import PAIR_FIELDS, SideSums, flow_groups

if TYPE_CHECKING:
    from collections.abc import Sequence

_RULE: Final = (
    "tier", "policy", "kind", "namespace", "name", "staged", "rule_index", "rule_direction", "action",
)  # fmt: skip


class DuckDBStore:
    """Answers from a DuckDB database that may be written to at the same time.

    Args:
        connection: a connection to it; every query runs on a cursor of its own, so threads may share the store.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection

    def flow_logs(
        self,
        where: Filter,
        *,
        sort: str = "end_time",
        descending: bool = True,
        limit: int = 100,
        cursor: str | None = None,
    ) -> FlowLogPage:
        """A page of flow logs, sorted by a field and then by id; absent values come last."""
        kind = SQL_TYPES[sort_type(sort)]
        limit = _bounded(limit)
        sql, parameters = condition(where)
        order, sign = ("DESC", "<") if descending else ("ASC", ">")
        column = quoted(sort)
        if cursor is not None:
            value, identifier = decode_cursor(cursor)
            if value is None:
                sql, more = f"({sql}) AND {column} IS NULL AND id {sign} ?", [identifier]
            else:
                sql = (
                    f"({sql}) AND ({column} {sign} CAST(? AS {kind}) OR {column} IS NULL "
                    f"OR ({column} = CAST(? AS {kind}) AND id {sign} ?))"
                )
                more = [value, value, identifier]
            parameters = [*parameters, *more]
        names = list(FLOW_LOG_TYPES)
        rows = self._rows(
            f"SELECT {', '.join(quoted(name) for name in names)} FROM flow_logs WHERE {sql} "  # noqa: S608 - names of the schema
            f"ORDER BY {column} {order} NULLS LAST, id {order} LIMIT {limit + 1}",
            parameters,
        )
        flat = [dict(zip(names, row, strict=True)) for row in rows[:limit]]
        last = encode_cursor(flat[-1][sort], flat[-1]["id"]) if len(rows) > limit else None
        return FlowLogPage(tuple(nest(row) for row in flat), last)

    def flow_groups(self, where: Filter, *, limit: int = MAX_LIMIT) -> tuple[FlowGroup, ...]:
        """The flows of the visualizer, largest by bytes first."""
        sql, parameters = condition(where)
        service = (
            "CASE WHEN dest_service_name = '-' THEN '' ELSE dest_service_namespace || '/' || dest_service_name END"
        )
        keys = ", ".join(quoted(name) for name in PAIR_FIELDS)
        rows = self._rows(
            f"SELECT {keys}, {service} AS service, reporter, action, list(DISTINCT evidence), "  # noqa: S608 - names of the schema
            "sum(num_flows_started)::BIGINT, sum(packets_in + packets_out)::BIGINT, sum(bytes_in + bytes_out)::BIGINT "
            f"FROM flow_logs WHERE {sql} GROUP BY ALL",
            parameters,
        )
        sides = (SideSums(row[:9], row[9], row[10], frozenset(row[11]), row[12], row[13], row[14]) for row in rows)
        return flow_groups(sides, _bounded(limit))

    def histogram(self, where: Filter, *, width_s: int) -> tuple[HistogramBucket, ...]:
        """Flow logs over time by action, oldest first."""
        if width_s < 1:
            raise ConfigurationError(f"width_s {width_s}: accepted is 1 or more")
        sql, parameters = condition(where)
        rows = self._rows(
            "SELECT start_time - start_time % ? AS bucket, action, count(*), sum(num_flows_started)::BIGINT "  # noqa: S608 - condition() binds values
            f"FROM flow_logs WHERE {sql} GROUP BY bucket, action ORDER BY bucket, action",
            [width_s, *parameters],
        )
        return tuple(HistogramBucket(*row) for row in rows)

    def rule_statistics(self, start_s: int, end_s: int, *, buckets: int = 0) -> tuple[RuleStatistics, ...]:
        """What each rule did in the range."""
        width_s = max(1, -(-(end_s - start_s) // buckets)) if buckets else max(1, end_s - start_s)
        keys = ", ".join(_RULE)
        rows = self._rows(
            f"SELECT {keys}, (start_time - ?) // ? AS bucket, sum(connections_started)::BIGINT, "  # noqa: S608 - names of the schema
            "sum(packets_in)::BIGINT, sum(packets_out)::BIGINT, sum(bytes_in)::BIGINT, sum(bytes_out)::BIGINT, "
            "max(end_time) FROM policy_counters WHERE record = 'traffic' AND start_time >= ? AND start_time < ? "
            f"GROUP BY {keys}, bucket ORDER BY {keys}, bucket",
            [start_s, width_s, start_s, end_s],
        )
        return _statistics(rows, buckets)

    def policy_endpoints(self, start_s: int, end_s: int) -> tuple[PolicyEndpoints, ...]:
        """How many endpoints each policy applied to, by its newest count."""
        rows = self._rows(
            "SELECT tier, policy, kind, rule_direction, sum(endpoints)::BIGINT FROM ("
            "SELECT tier, policy, kind, rule_direction, host, arg_max(endpoints, (end_time, id)) AS endpoints "
            "FROM policy_counters WHERE record = 'endpoints' AND start_time >= ? AND start_time < ? GROUP BY ALL"
            ") GROUP BY ALL ORDER BY ALL",
            [start_s, end_s],
        )
        return tuple(PolicyEndpoints(*row) for row in rows)

    def facets(self, where: Filter, field: str, *, limit: int = 20) -> tuple[Facet, ...]:
        """The most frequent values of a field under a filter."""
        column = quoted(field)
        is_list = SQL_TYPES[facet_type(field)].endswith("[]")
        sql, parameters = condition(where)
        value = f"unnest(list_distinct({column}))" if is_list else column
        rows = self._rows(
            "SELECT CAST(value AS VARCHAR), count(*) AS logs FROM "  # noqa: S608 - names of the schema
            f"(SELECT {value} AS value FROM flow_logs WHERE {sql}) WHERE value IS NOT NULL "
            f"GROUP BY value ORDER BY logs DESC, value LIMIT {_bounded(limit)}",
            parameters,
        )
        return tuple(Facet(*row) for row in rows)

    def newest_s(self) -> int | None:
        """End of the newest window stored."""
        newest: int | None = self._rows("SELECT max(end_time) FROM flow_logs", [])[0][0]
        return newest

    def _rows(self, sql: str, parameters: list[Any]) -> list[tuple[Any, ...]]:
        try:
            with self._connection.cursor() as cursor:
                return cursor.execute(sql, parameters).fetchall()
        except duckdb.Error as error:
            raise UnavailableError(f"store: {str(error).splitlines()[0]}") from error


def _bounded(limit: int) -> int:
    if not 1 <= limit <= MAX_LIMIT:
        raise ConfigurationError(f"limit {limit}: accepted is 1 to {MAX_LIMIT}")
    return limit


def _statistics(rows: Sequence[tuple[Any, ...]], buckets: int) -> tuple[RuleStatistics, ...]:
    """Fold rows of one rule and bucket each, in the rules' order, into one entry a rule."""
    keys = len(_RULE)
    by_rule: dict[tuple[Any, ...], list[tuple[Any, ...]]] = {}
    for row in rows:
        by_rule.setdefault(row[:keys], []).append(row[keys:])
    found = []
    for rule, parts in by_rule.items():
        series = [0] * buckets
        for bucket, _, _, _, bytes_in, bytes_out, _ in parts:
            if buckets:
                series[bucket] += bytes_in + bytes_out
        sums = [sum(part[i] for part in parts) for i in range(1, 6)]
        found.append(
            RuleStatistics(
                **dict(zip(_RULE, rule, strict=True)),
                connections=sums[0],
                packets_in=sums[1],
                packets_out=sums[2],
                bytes_in=sums[3],
                bytes_out=sums[4],
                last_evaluated_s=max(part[6] for part in parts),
                bucket_bytes=tuple(series),
            )
        )
    return tuple(found)
