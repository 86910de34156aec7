"""The read side of Elasticsearch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from elasticsearch import ApiError, TransportError, UnsupportedProductError

from tierflow.schemas.errors import ConfigurationError, UnavailableError
from tierflow.schemas.fields import FieldType
from tierflow.sinks.documents import decode_cursor, encode_cursor, facet_fields, sort_type
from tierflow.sinks.elasticsearch.client import Refused
from tierflow.sinks.elasticsearch.conditions import condition, time_range
from tierflow.sinks.elasticsearch.facets import of_both, of_field
from tierflow.sinks.elasticsearch.indices import FLOWS, LOSSES, POLICY_COUNTERS, IndexNames
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
    from collections.abc import Iterator, Mapping, Sequence

    from tierflow.sinks.elasticsearch.client import Connection

PAGE: Final = 10_000
"""Buckets of one answer of a composite aggregation: each answer reads every document anew, so few are wanted."""
_SERVICE: Final = ("dest_service_namespace", "dest_service_name")
_NULLABLE: Final = frozenset({"dest_port", "rule_index", "action"})
_SUMS: Final = ("connections_started", "packets_in", "packets_out", "bytes_in", "bytes_out")

Query = dict[str, Any]


class ElasticsearchStore:
    """Answers from the indices that the sink writes; threads may share it.

    Args:
        connection: to the cluster.
        names: how the indices are named.
    """

    def __init__(self, connection: Connection, names: IndexNames) -> None:
        self._connection = connection
        self._names = names

    def close(self) -> None:
        """Close the connections."""
        self._connection.close()

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
        field = f"{sort}.text" if sort_type(sort) is FieldType.IP else sort
        order = "desc" if descending else "asc"
        body: Query = {
            "query": condition(where),
            "sort": [{field: {"order": order, "missing": "_last"}}, {"id": {"order": order}}],
            # One more than asked for says whether there is another page.
            "size": min(bounded(limit) + 1, MAX_LIMIT),
            "track_total_hits": False,
        }
        if cursor is not None:
            body["search_after"] = list(decode_cursor(cursor))
        hits = self._search(FLOWS, body)["hits"]["hits"]
        page = hits[:limit]
        more = len(hits) > limit or (limit == MAX_LIMIT and len(hits) == limit)
        return FlowLogPage(tuple(hit["_source"] for hit in page), encode_cursor(*page[-1]["sort"]) if more else None)

    def flow_groups(self, where: Filter, *, limit: int = MAX_LIMIT) -> tuple[FlowGroup, ...]:
        """The flows of the visualizer, largest by bytes first."""
        keys = (*PAIR_FIELDS, *_SERVICE, "reporter", "action", "evidence")
        sums = ("num_flows_started", "packets_in", "packets_out", "bytes_in", "bytes_out")
        merged: dict[tuple[Any, ...], tuple[set[str], list[int]]] = {}
        for key, bucket in self._composite(FLOWS, condition(where), [_terms(name) for name in keys], _sums(sums)):
            namespace, name = key["dest_service_namespace"], key["dest_service_name"]
            pair = (*(key[field] for field in PAIR_FIELDS), "" if name == "-" else f"{namespace}/{name}")
            evidence, totals = merged.setdefault((pair, key["reporter"], key["action"]), (set(), [0, 0, 0]))
            evidence.add(key["evidence"])
            started, packets_in, packets_out, bytes_in, bytes_out = (int(bucket[field]["value"]) for field in sums)
            for i, amount in enumerate((started, packets_in + packets_out, bytes_in + bytes_out)):
                totals[i] += amount
        sides = [
            SideSums(pair, reporter, action, frozenset(evidence), *totals)
            for (pair, reporter, action), (evidence, totals) in merged.items()
        ]
        return flow_groups(sides, bounded(limit))

    def histogram(self, where: Filter, *, width_s: int) -> tuple[HistogramBucket, ...]:
        """Flow logs over time by action, oldest first."""
        if width_s < 1:
            raise ConfigurationError(f"width_s {width_s}: accepted is 1 or more")
        sources = [_every("bucket", width_s), _terms("action")]
        found = [
            HistogramBucket(
                key["bucket"] // 1000, key["action"], bucket["doc_count"], int(bucket["num_flows_started"]["value"])
            )
            for key, bucket in self._composite(FLOWS, condition(where), sources, _sums(["num_flows_started"]))
        ]
        return tuple(sorted(found, key=lambda bucket: (bucket.start_s, bucket.action)))

    def rule_statistics(self, start_s: int, end_s: int, *, buckets: int = 0) -> tuple[RuleStatistics, ...]:
        """What each rule did in the range."""
        width_s = max(1, -(-(end_s - start_s) // buckets)) if buckets else max(1, end_s - start_s)
        sources = [*(_terms(name) for name in RULE_FIELDS), _every("bucket", width_s, start_s % width_s)]
        aggregations = _sums(_SUMS) | {"newest": {"max": {"field": "end_time"}}}
        by_rule: dict[tuple[Any, ...], list[tuple[int, list[int], int]]] = {}
        for key, bucket in self._composite(POLICY_COUNTERS, _record("traffic", start_s, end_s), sources, aggregations):
            sums = [int(bucket[name]["value"]) for name in _SUMS]
            at = (key["bucket"] // 1000 - start_s) // width_s
            rule = tuple(key[name] for name in RULE_FIELDS)
            by_rule.setdefault(rule, []).append((at, sums, int(bucket["newest"]["value"]) // 1000))
        found = []
        for rule in sorted(by_rule, key=lambda rule: tuple((part is None, part) for part in rule)):
            series = [0] * buckets
            totals = [0] * len(_SUMS)
            for at, sums, _ in by_rule[rule]:
                totals = [total + part for total, part in zip(totals, sums, strict=True)]
                if buckets:
                    series[at] += sums[3] + sums[4]
            values: list[Any] = [*rule, *totals, max(newest for _, _, newest in by_rule[rule]), tuple(series)]
            found.append(RuleStatistics(*values))
        return tuple(found)

    def policy_endpoints(self, start_s: int, end_s: int) -> tuple[PolicyEndpoints, ...]:
        """How many endpoints each policy applied to, by each node's newest count."""
        keys = ("tier", "policy", "kind", "rule_direction")
        newest = {
            "newest": {
                "top_hits": {
                    "size": 1,
                    "sort": [{"end_time": "desc"}, {"id": "desc"}],
                    "_source": ["endpoints"],
                }
            }
        }
        sums: dict[tuple[str, ...], int] = {}
        sources = [_terms(name) for name in (*keys, "host")]
        for key, bucket in self._composite(POLICY_COUNTERS, _record("endpoints", start_s, end_s), sources, newest):
            policy = tuple(key[name] for name in keys)
            count = bucket["newest"]["hits"]["hits"][0]["_source"]["endpoints"]
            sums[policy] = sums.get(policy, 0) + count
        return tuple(PolicyEndpoints(*[*policy, total]) for policy, total in sorted(sums.items()))  # type: ignore[arg-type]  # four keys and a sum

    def facets(self, where: Filter, field: str, *, limit: int = 20, prefix: str = "") -> tuple[Facet, ...]:
        """The most frequent values of a field under a filter."""
        fields = facet_fields(field, prefix)
        query, limit = condition(where), bounded(limit)
        if len(fields) == 1:
            return of_field(self._flow_aggregations, query, fields[0], limit, prefix)
        return of_both(self._flow_aggregations, query, fields, limit, prefix)

    def losses(self, start_s: int, end_s: int) -> tuple[Loss, ...]:
        """What went missing in the range, by node and reason."""
        started = {"range": {"start_time": {"format": "epoch_second", "lt": end_s}}}
        touches = _any_of(
            {"range": {"end_time": {"format": "epoch_second", "gt": start_s}}},
            {"range": {"start_time": {"format": "epoch_second", "gte": start_s}}},
        )
        sums = ("batches", "records", "packets", "bytes")
        aggregations = _sums(sums) | {
            "first": {"min": {"field": "start_time"}},
            "last": {"max": {"field": "end_time"}},
            "uncounted": {"missing": {"field": "records"}},
        }
        sources = [_terms("host"), _terms("reason")]
        query = {"bool": {"filter": [started, touches]}}
        found = []
        for key, bucket in self._composite(LOSSES, query, sources, aggregations):
            span = [int(bucket[name]["value"]) // 1000 for name in ("first", "last")]
            counts = [bucket["doc_count"], bucket["uncounted"]["doc_count"]]
            values: list[Any] = [
                key["host"],
                key["reason"],
                *counts,
                *(int(bucket[each]["value"]) for each in sums),
                *span,
            ]
            found.append(Loss(*values))
        return tuple(found)

    def newest_s(self) -> int | None:
        """End of the newest window stored."""
        found = self._aggregations(FLOWS, {"size": 0, "aggs": {"newest": {"max": {"field": "end_time"}}}})
        value = found.get("newest", {}).get("value")
        return None if value is None else int(value) // 1000

    def _composite(
        self, kind: str, query: Query, sources: Sequence[Query], aggregations: Query
    ) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any]]]:
        """Key and aggregations of every bucket."""
        composite: Query = {"size": PAGE, "sources": list(sources)}
        body = {"size": 0, "query": query, "aggs": {"groups": {"composite": composite, "aggs": aggregations}}}
        while True:
            groups = self._aggregations(kind, body).get("groups", {})
            buckets = groups.get("buckets", ())
            for bucket in buckets:
                yield bucket["key"], bucket
            if len(buckets) < PAGE:
                return
            composite["after"] = groups["after_key"]

    def _flow_aggregations(self, body: Query) -> Mapping[str, Any]:
        return self._aggregations(FLOWS, body)

    def _aggregations(self, kind: str, body: Query) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self._search(kind, body).get("aggregations", {})
        return found

    def _search(self, kind: str, body: Query) -> Any:
        try:
            return self._once(kind, body)
        except Refused:
            # Credentials that were renewed since the last question.
            return self._once(kind, body)

    def _once(self, kind: str, body: Query) -> Any:
        try:
            return self._connection.client.search(
                index=self._names.all_of(kind), ignore_unavailable=True, allow_no_indices=True, **_arguments(body)
            ).body
        except (ApiError, TransportError, UnsupportedProductError) as error:
            told = self._connection.explained(error)
            if isinstance(error, ApiError) and error.status_code == 400:
                raise ConfigurationError(f"store: {told}") from error
            raise (told if isinstance(told, Refused) else UnavailableError(str(told))) from error


def _arguments(body: Query) -> Query:
    """The body as the client's own arguments."""
    return {"aggregations" if name == "aggs" else name: value for name, value in body.items()}


def _any_of(*queries: Query) -> Query:
    return {"bool": {"should": list(queries), "minimum_should_match": 1}}


def _terms(field: str) -> Query:
    return {field: {"terms": {"field": field, "missing_bucket": field in _NULLABLE}}}


def _every(name: str, width_s: int, offset_s: int = 0) -> Query:
    interval = {"field": "start_time", "fixed_interval": f"{width_s}s", "offset": f"{offset_s}s"}
    return {name: {"date_histogram": interval}}


def _sums(fields: Sequence[str]) -> Query:
    return {field: {"sum": {"field": field}} for field in fields}


def _record(record: str, start_s: int, end_s: int) -> Query:
    return {"bool": {"filter": [{"term": {"record": record}}, time_range(start_s, end_s)]}}
