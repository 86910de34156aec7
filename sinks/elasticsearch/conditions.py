"""A filter as an Elasticsearch query."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tierflow.policy.selector import All, And, Compare, Global, Has, In, Not, Or, SelectorError, parse_selector
from tierflow.schemas.errors import ConfigurationError
from tierflow.sinks.read.interface import ALTERNATIVES, LABELS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tierflow.policy.selector import Node
    from tierflow.sinks.read.interface import Filter

Query = dict[str, Any]


def condition(where: Filter) -> Query:
    """The query on flow logs.

    Raises:
        ConfigurationError: a label selector can't be parsed.
    """
    parts: list[Query] = []
    if where.start_s is not None or where.end_s is not None:
        parts.append(time_range(where.start_s, where.end_s))
    for name, fields in ALTERNATIVES:
        if values := getattr(where, name):
            parts.append(_any_of([query for field in fields for query in _among(field, values)]))
    for name, fields in LABELS:
        if selector := getattr(where, name).strip():
            node = _parsed(selector, name)
            parts.append(_any_of([_selector(node, field) for field in fields]))
    if where.policies:
        parts.append(
            _any_of([{"wildcard": {"policies.all_policies": f"*{_escaped(part)}*"}} for part in where.policies])
        )
    return {"bool": {"filter": parts}} if parts else {"match_all": {}}


def time_range(start_s: int | None, end_s: int | None) -> Query:
    """Documents whose window starts in the range."""
    bounds: dict[str, Any] = {"format": "epoch_second"}
    if start_s is not None:
        bounds["gte"] = start_s
    if end_s is not None:
        bounds["lt"] = end_s
    return {"range": {"start_time": bounds}}


def _among(field: str, values: Sequence[str | int]) -> list[Query]:
    prefixes = [value[:-1] for value in values if isinstance(value, str) and value.endswith("*")]
    return [{"terms": {field: list(values)}}, *({"prefix": {field: prefix}} for prefix in prefixes)]


def _parsed(selector: str, name: str) -> Node:
    try:
        return parse_selector(selector)
    except SelectorError as error:
        raise ConfigurationError(f"{name} {selector!r}: {error}") from error


def _selector(node: Node, labels: str) -> Query:
    match node:
        case All():
            return {"match_all": {}}
        case Global():
            return {"match_none": {}}
        case Has():
            return {"prefix": {labels: f"{node.label}="}}
        case Compare():
            return _compare(node, labels)
        case In():
            found = {"terms": {labels: [f"{node.label}={value}" for value in sorted(node.values)]}}
            return _negated(found) if node.negated else found
        case Not():
            return _negated(_selector(node.term, labels))
        case And():
            return {"bool": {"filter": [_selector(term, labels) for term in node.terms]}}
        case Or():
            return _any_of([_selector(term, labels) for term in node.terms])
        case _:
            raise ConfigurationError(f"selector {node}: this part can't be asked of the store")


def _compare(node: Compare, labels: str) -> Query:
    equal = {"term": {labels: f"{node.label}={node.value}"}}
    match node.operator:
        case "==":
            return equal
        case "!=":
            return _negated(equal)
        case "starts with":
            return {"prefix": {labels: f"{node.label}={node.value}"}}
        case "contains":
            return {"wildcard": {labels: f"{_escaped(node.label)}=*{_escaped(node.value)}*"}}
        case _:
            return {"wildcard": {labels: f"{_escaped(node.label)}=*{_escaped(node.value)}"}}


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("*", "\\*").replace("?", "\\?")


def _negated(query: Query) -> Query:
    return {"bool": {"must_not": [query]}}


def _any_of(queries: Sequence[Query]) -> Query:
    return queries[0] if len(queries) == 1 else {"bool": {"should": list(queries), "minimum_should_match": 1}}
