"""The read side of the embedded store."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Final

import duckdb

from tierflow.schemas.errors import ConfigurationError, TransientError, UnavailableError
from tierflow.schemas.fields import FieldType
from tierflow.sinks.documents import (
    FLOW_LOG_TYPES,
    decode_cursor,
    encode_cursor,
    facet_fields,
    nest,
    sort_type,
)
from tierflow.sinks.duckdb.restriction import restriction
from tierflow.sinks.duckdb.tables import FLOW_TYPES, SQL_TYPES, quoted
from tierflow.sinks.read.interface import (
    MAX_LIMIT,
    RULE_FIELDS,
    Facet,
    Filter,
    FlowGroup,
    FlowLogPage,
    HistogramBucket,
    Loss,
    PolicyEndpoints,
    RuleStatistics,
    bounded,
)
from tierflow.sinks.read.status import PAIR_FIELDS, SideSums, flow_groups

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tierflow.sinks.duckdb.database import Database

_LISTS: Final = (FieldType.KEYWORDS, FieldType.IPS, FieldType.LONGS)


class DuckDBStore:
    """Answers from a DuckDB database that may be written to at the same time.

    Args:
        database: where it is; every question runs on a cursor of its own, so threads may share the store.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

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
        limit = bounded(limit)
        order, sign = ("DESC", "<") if descending else ("ASC", ">")
        column = quoted(sort)
        behind, more = "TRUE", list[Any]()
        if cursor is not None:
            value, identifier = decode_cursor(cursor)
            if value is None:
                behind, more = f"{column} IS NULL AND id {sign} ?", [identifier]
            else:
                behind = (
                    f"{column} {sign} CAST(? AS {kind}) OR {column} IS NULL "
                    f"OR ({column} = CAST(? AS {kind}) AND id {sign} ?)"
                )
                more = [value, value, identifier]
        ordered = f"ORDER BY {column} {order} NULLS LAST, id {order}"
        # Joined after the page is found, unless the order itself needs what is in flows.
        joined = "flow_logs JOIN flows USING (flow)" if sort in FLOW_TYPES else "flow_logs"
        names = list(FLOW_LOG_TYPES)
        with self._asking() as asked:
            sql, parameters = restriction(asked, where)
            rows = asked.execute(
                f"SELECT {', '.join(quoted(name) for name in names)} FROM "  # noqa: S608 - names of the schema
                f"(SELECT flow_logs.* FROM {joined} WHERE ({sql}) AND ({behind}) {ordered} LIMIT {limit + 1}) "
                f"JOIN flows USING (flow) {ordered}",
                [*parameters, *more],
            ).fetchall()
        flat = [dict(zip(names, row, strict=True)) for row in rows[:limit]]
        last = encode_cursor(flat[-1][sort], flat[-1]["id"]) if len(rows) > limit else None
        return FlowLogPage(tuple(nest(row) for row in flat), last)

    def flow_groups(self, where: Filter, *, limit: int = MAX_LIMIT) -> tuple[FlowGroup, ...]:
        """The flows of the visualizer, largest by bytes first."""
        limit = bounded(limit)
        service = (
            "CASE WHEN dest_service_name = '-' THEN '' ELSE dest_service_namespace || '/' || dest_service_name END"
        )
        keys = ", ".join(quoted(name) for name in PAIR_FIELDS)
        with self._asking() as asked:
            sql, parameters = restriction(asked, where)
            rows = asked.execute(
                f"SELECT {keys}, {service} AS service, reporter, action, list(DISTINCT evidence), "  # noqa: S608 - names of the schema
                "sum(started)::BIGINT, sum(packets)::BIGINT, sum(bytes)::BIGINT FROM ("
                "SELECT flow, sum(num_flows_started) AS started, sum(packets_in + packets_out) AS packets, "
                f"sum(bytes_in + bytes_out) AS bytes FROM flow_logs WHERE {sql} GROUP BY flow"
                ") JOIN flows USING (flow) GROUP BY ALL",
                parameters,
            ).fetchall()
        sides = (SideSums(row[:9], row[9], row[10], frozenset(row[11]), row[12], row[13], row[14]) for row in rows)
        return flow_groups(sides, limit)

    def histogram(self, where: Filter, *, width_s: int) -> tuple[HistogramBucket, ...]:
        """Flow logs over time by action, oldest first."""
        if width_s < 1:
            raise ConfigurationError(f"width_s {width_s}: accepted is 1 or more")
        with self._asking() as asked:
            sql, parameters = restriction(asked, where)
            rows = asked.execute(
                "SELECT start_time - start_time % ? AS bucket, action, count(*), sum(num_flows_started)::BIGINT "  # noqa: S608 - restriction() binds values
                f"FROM flow_logs JOIN flows USING (flow) WHERE {sql} GROUP BY bucket, action ORDER BY bucket, action",
                [width_s, *parameters],
            ).fetchall()
        return tuple(HistogramBucket(*row) for row in rows)

    def rule_statistics(self, start_s: int, end_s: int, *, buckets: int = 0) -> tuple[RuleStatistics, ...]:
        """What each rule did in the range."""
        width_s = max(1, -(-(end_s - start_s) // buckets)) if buckets else max(1, end_s - start_s)
        keys = ", ".join(RULE_FIELDS)
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

    def facets(self, where: Filter, field: str, *, limit: int = 20, prefix: str = "") -> tuple[Facet, ...]:
        """The most frequent values of a field under a filter."""
        fields = facet_fields(field, prefix)
        limit = bounded(limit)
        value = f"unnest(list_distinct({_values(fields)}))"
        with self._asking() as asked:
            sql, parameters = restriction(asked, where)
            counted = (
                f"SELECT {value} AS value, logs FROM "  # noqa: S608 - names of the schema
                f"(SELECT flow, count(*) AS logs FROM flow_logs WHERE {sql} GROUP BY flow) JOIN flows USING (flow)"
                if fields[0] in FLOW_TYPES
                else f"SELECT {value} AS value, 1 AS logs FROM flow_logs WHERE {sql}"  # noqa: S608 - likewise
            )
            rows = asked.execute(
                f"SELECT CAST(value AS VARCHAR), sum(logs)::BIGINT AS total FROM ({counted}) "  # noqa: S608 - likewise
                "WHERE value IS NOT NULL AND starts_with(CAST(value AS VARCHAR), ?) "
                f"GROUP BY value ORDER BY total DESC, value LIMIT {limit}",
                [*parameters, prefix],
            ).fetchall()
        return tuple(Facet(*row) for row in rows)

    def losses(self, start_s: int, end_s: int) -> tuple[Loss, ...]:
        """What went missing in the range, by node and reason."""
        rows = self._rows(
            "SELECT host, reason, count(*), count(*) FILTER (records IS NULL), coalesce(sum(batches), 0)::BIGINT, "
            "coalesce(sum(records), 0)::BIGINT, coalesce(sum(packets), 0)::BIGINT, coalesce(sum(bytes), 0)::BIGINT, "
            "min(start_time), max(end_time) FROM losses "
            "WHERE start_time < ? AND (end_time > ? OR start_time >= ?) GROUP BY host, reason ORDER BY host, reason",
            [end_s, start_s, start_s],
        )
        return tuple(Loss(*row) for row in rows)

    def newest_s(self) -> int | None:
        """End of the newest window stored."""
        newest: int | None = self._rows("SELECT max(end_time) FROM flow_logs", [])[0][0]
        return newest

    @contextlib.contextmanager
    def _asking(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A cursor whose questions all see the same state."""
        try:
            with self._database.cursor() as cursor:
                cursor.execute("BEGIN")
                yield cursor
        except (duckdb.Error, TransientError) as error:
            raise UnavailableError(f"store: {str(error).splitlines()[0]}") from error

    def _rows(self, sql: str, parameters: list[Any]) -> list[tuple[Any, ...]]:
        with self._asking() as cursor:
            return cursor.execute(sql, parameters).fetchall()


def _values(fields: Sequence[str]) -> str:
    """All values of one row's fields as one list."""
    parts = [
        f"coalesce({quoted(name)}, [])" if FLOW_LOG_TYPES[name] in _LISTS else f"[{quoted(name)}]" for name in fields
    ]
    return " || ".join(parts)


def _statistics(rows: Sequence[tuple[Any, ...]], buckets: int) -> tuple[RuleStatistics, ...]:
    """Fold rows of one rule and bucket each, in the rules' order, into one entry a rule."""
    keys = len(RULE_FIELDS)
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
                **dict(zip(RULE_FIELDS, rule, strict=True)),
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
