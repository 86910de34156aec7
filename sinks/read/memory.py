"""A store in memory that answers in the plainest way: the measure for the real ones, and a store for tests."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from tierflow.policy.selector import SelectorError, parse_selector
from tierflow.schemas.errors import ConfigurationError
from tierflow.sinks.documents import (
    FLOW_LOG_TYPES,
    LOSS_TYPES,
    POLICY_COUNTER_TYPES,
    decode_cursor,
    encode_cursor,
    facet_fields,
    flatten,
    nest,
    sort_type,
)
from tierflow.sinks.read.interface import (
    ALTERNATIVES,
    LABELS,
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
    from collections.abc import Iterable, Mapping, Sequence

Row = dict[str, Any]


class MemoryStore:
    """Holds documents by id; the first of one id stays."""

    def __init__(self) -> None:
        self._logs: dict[str, Row] = {}
        self._counters: dict[str, Row] = {}
        self._losses: dict[str, Row] = {}

    def add(
        self,
        logs: Iterable[Mapping[str, Any]] = (),
        counters: Iterable[Mapping[str, Any]] = (),
        losses: Iterable[Mapping[str, Any]] = (),
    ) -> None:
        """Take in documents as they stand in the topics."""
        for log in logs:
            self._logs.setdefault(log["id"], flatten(log, FLOW_LOG_TYPES))
        for each in counters:
            self._counters.setdefault(each["id"], flatten(each, POLICY_COUNTER_TYPES))
        for each in losses:
            self._losses.setdefault(each["id"], flatten(each, LOSS_TYPES))

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
        sort_type(sort)
        rows = self._found(where)
        rows.sort(key=lambda row: row["id"], reverse=descending)
        there = [row for row in rows if row[sort] is not None]
        there.sort(key=lambda row: row[sort], reverse=descending)
        ordered = there + [row for row in rows if row[sort] is None]
        if cursor is not None:
            place = decode_cursor(cursor)
            at = next((i for i, row in enumerate(ordered) if (row[sort], row["id"]) == place), None)
            if at is None:
                raise ConfigurationError("cursor: its flow log is gone")
            ordered = ordered[at + 1 :]
        page = ordered[: bounded(limit)]
        more = encode_cursor(page[-1][sort], page[-1]["id"]) if len(ordered) > limit else None
        return FlowLogPage(tuple(nest(row) for row in page), more)

    def flow_groups(self, where: Filter, *, limit: int = MAX_LIMIT) -> tuple[FlowGroup, ...]:
        """The flows of the visualizer, largest by bytes first."""
        by_side: dict[tuple[Any, ...], list[Row]] = {}
        for row in self._found(where):
            service = (
                "" if row["dest_service_name"] == "-" else f"{row['dest_service_namespace']}/{row['dest_service_name']}"
            )
            key = (*(row[name] for name in PAIR_FIELDS), service)
            by_side.setdefault((key, row["reporter"], row["action"]), []).append(row)
        sides = [
            SideSums(
                pair, reporter, action, frozenset(row["evidence"] for row in rows),
                sum(row["num_flows_started"] for row in rows),
                sum(row["packets_in"] + row["packets_out"] for row in rows),
                sum(row["bytes_in"] + row["bytes_out"] for row in rows),
            )
            for (pair, reporter, action), rows in by_side.items()
        ]  # fmt: skip
        return flow_groups(sides, bounded(limit))

    def histogram(self, where: Filter, *, width_s: int) -> tuple[HistogramBucket, ...]:
        """Flow logs over time by action, oldest first."""
        if width_s < 1:
            raise ConfigurationError(f"width_s {width_s}: accepted is 1 or more")
        sums: dict[tuple[int, str], list[int]] = {}
        for row in self._found(where):
            bucket = sums.setdefault((row["start_time"] // width_s * width_s, row["action"]), [0, 0])
            bucket[0] += 1
            bucket[1] += row["num_flows_started"]
        return tuple(HistogramBucket(*key, *value) for key, value in sorted(sums.items()))

    def rule_statistics(self, start_s: int, end_s: int, *, buckets: int = 0) -> tuple[RuleStatistics, ...]:
        """What each rule did in the range."""
        width_s = max(1, -(-(end_s - start_s) // buckets)) if buckets else 1
        by_rule: dict[tuple[Any, ...], list[Row]] = {}
        for row in self._counted("traffic", start_s, end_s):
            by_rule.setdefault(tuple(row[name] for name in RULE_FIELDS), []).append(row)
        found = []
        for rule in sorted(by_rule, key=lambda rule: tuple((part is None, part) for part in rule)):
            series = [0] * buckets
            for row in by_rule[rule]:
                if buckets:
                    series[(row["start_time"] - start_s) // width_s] += row["bytes_in"] + row["bytes_out"]
            sums = [
                sum(row[name] for row in by_rule[rule])
                for name in ("connections_started", "packets_in", "packets_out", "bytes_in", "bytes_out")
            ]
            newest = max(row["end_time"] for row in by_rule[rule])
            values: list[Any] = [*rule, *sums, newest, tuple(series)]
            found.append(RuleStatistics(*values))
        return tuple(found)

    def policy_endpoints(self, start_s: int, end_s: int) -> tuple[PolicyEndpoints, ...]:
        """How many endpoints each policy applied to, by each node's newest count."""
        newest: dict[tuple[Any, ...], Row] = {}
        for row in self._counted("endpoints", start_s, end_s):
            key = tuple(row[name] for name in ("tier", "policy", "kind", "rule_direction", "host"))
            if key not in newest or (row["end_time"], row["id"]) > (newest[key]["end_time"], newest[key]["id"]):
                newest[key] = row
        sums: Counter[tuple[Any, ...]] = Counter()
        for key, row in newest.items():
            sums[key[:4]] += row["endpoints"]
        return tuple(PolicyEndpoints(*[*key, total]) for key, total in sorted(sums.items()))

    def facets(self, where: Filter, field: str, *, limit: int = 20, prefix: str = "") -> tuple[Facet, ...]:
        """The most frequent values of a field under a filter."""
        fields = facet_fields(field, prefix)
        counts: Counter[Any] = Counter()
        for row in self._found(where):
            values = [row[name] for name in fields]
            flat = [each for value in values for each in (value if isinstance(value, list) else [value])]
            counts.update({each for each in flat if each is not None and _text(each).startswith(prefix)})
        ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        return tuple(Facet(_text(value), logs) for value, logs in ordered[: bounded(limit)])

    def losses(self, start_s: int, end_s: int) -> tuple[Loss, ...]:
        """What went missing in the range, by node and reason."""
        by_kind: dict[tuple[str, str], list[Row]] = {}
        for row in self._losses.values():
            if row["start_time"] < end_s and (row["end_time"] > start_s or row["start_time"] >= start_s):
                by_kind.setdefault((row["host"], row["reason"]), []).append(row)
        found = []
        for (host, reason), rows in sorted(by_kind.items()):
            sums = [sum(row[name] or 0 for row in rows) for name in ("batches", "records", "packets", "bytes")]
            uncounted = sum(row["records"] is None for row in rows)
            span = min(row["start_time"] for row in rows), max(row["end_time"] for row in rows)
            values: list[Any] = [host, reason, len(rows), uncounted, *sums, *span]
            found.append(Loss(*values))
        return tuple(found)

    def newest_s(self) -> int | None:
        """End of the newest window stored."""
        return max((row["end_time"] for row in self._logs.values()), default=None)

    def _found(self, where: Filter) -> list[Row]:
        selectors = [(_parsed(text, name), fields) for name, fields in LABELS if (text := getattr(where, name).strip())]
        return [
            row
            for row in self._logs.values()
            if (where.start_s is None or row["start_time"] >= where.start_s)
            and (where.end_s is None or row["start_time"] < where.end_s)
            and all(_among(row, fields, getattr(where, name)) for name, fields in ALTERNATIVES)
            and all(any(node.matches(_labels(row, field)) for field in fields) for node, fields in selectors)
            and (
                not where.policies
                or any(part in hit for part in where.policies for hit in row["policies.all_policies"])
            )
        ]

    def _counted(self, record: str, start_s: int, end_s: int) -> Iterable[Row]:
        return [
            row for row in self._counters.values() if row["record"] == record and start_s <= row["start_time"] < end_s
        ]


def _among(row: Row, fields: Sequence[str], values: Sequence[Any]) -> bool:
    if not values:
        return True
    prefixes = tuple(value[:-1] for value in values if isinstance(value, str) and value.endswith("*"))
    return any(row[field] in values or (prefixes and str(row[field]).startswith(prefixes)) for field in fields)


def _labels(row: Row, field: str) -> dict[str, str]:
    pairs = (label.partition("=") for label in row[field])
    return {key: value for key, _, value in pairs}


def _parsed(selector: str, name: str) -> Any:
    try:
        return parse_selector(selector)
    except SelectorError as error:
        raise ConfigurationError(f"{name} {selector!r}: {error}") from error


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
