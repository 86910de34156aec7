"""The most frequent values of one field, or of both ends' fields together."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from tierflow.schemas.fields import FieldType
from tierflow.sinks.documents import FLOW_LOG_TYPES
from tierflow.sinks.read.interface import MAX_LIMIT, Facet

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    Ask = Callable[["Query"], Mapping[str, Any]]

Query = dict[str, Any]

CHUNK: Final = 200
"""Values whose exact number is asked for at once."""
_SPECIAL: Final = re.compile(r'([.?+*|{}\[\]()"\\#@&<>~^$-])')


def of_field(ask: Ask, query: Query, field: str, limit: int, prefix: str) -> tuple[Facet, ...]:
    """The most frequent values of a field.

    Args:
        ask: gives the aggregations of a search body.
        query: the filter.
        field: by its name in a document.
        limit: how many at most.
        prefix: of the values wanted.
    """
    body = {"size": 0, "query": query, "aggs": {"values": _terms(field, limit, prefix)}}
    return tuple(
        Facet(_text(field, bucket), bucket["doc_count"])
        for bucket in ask(body).get("values", {}).get("buckets", ())
    )  # fmt: skip


def of_both(ask: Ask, query: Query, fields: Sequence[str], limit: int, prefix: str) -> tuple[Facet, ...]:
    """The most frequent values of two fields together, a document counting once for a value that is in both.

    A value's two numbers together are the most that it can have. So values are made exact in the order of that bound,
    by asking in how many documents both fields have it, until no other can come before the last one wanted.
    """
    body = {"size": 0, "query": query, "aggs": {field: _terms(field, MAX_LIMIT, prefix) for field in fields}}
    answer = ask(body)
    most: dict[str, int] = {}
    for field in fields:
        for bucket in answer.get(field, {}).get("buckets", ()):
            value = _text(field, bucket)
            most[value] = most.get(value, 0) + bucket["doc_count"]
    candidates = sorted(most, key=lambda value: (-most[value], value))
    found: list[Facet] = []
    for at in range(0, len(candidates), CHUNK):
        chunk = candidates[at : at + CHUNK]
        if len(found) >= limit and found[limit - 1].logs > most[chunk[0]]:
            break
        twice = {
            str(number): {"bool": {"filter": [{"term": {field: value}} for field in fields]}}
            for number, value in enumerate(chunk)
        }
        buckets = ask({"size": 0, "query": query, "aggs": {"twice": {"filters": {"filters": twice}}}})["twice"][
            "buckets"
        ]
        found += [Facet(value, most[value] - buckets[str(number)]["doc_count"]) for number, value in enumerate(chunk)]
        found.sort(key=lambda facet: (-facet.logs, facet.value))
    return tuple(found[:limit])


def _terms(field: str, size: int, prefix: str) -> Query:
    kind = FLOW_LOG_TYPES[field]
    terms: Query = {
        "field": f"{field}.text" if kind in (FieldType.IP, FieldType.IPS) else field,
        "size": size,
        # Every index hands in this many, so that a value frequent in all of them isn't missed.
        "shard_size": MAX_LIMIT,
        "order": [{"_count": "desc"}, {"_key": "asc"}],
    }
    if prefix:
        terms["include"] = _SPECIAL.sub(r"\\\1", prefix) + ".*"
    return {"terms": terms}


def _text(field: str, bucket: Mapping[str, Any]) -> str:
    kind, key = FLOW_LOG_TYPES[field], bucket["key"]
    if kind is FieldType.DATE_S:
        return str(key // 1000)
    if kind is FieldType.DATE_MS:
        return str(key)
    return str(bucket.get("key_as_string", key))
