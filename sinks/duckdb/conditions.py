"""A filter as a SQL condition with parameters; nothing of a user's becomes SQL text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from tierflow.policy.selector import All, And, Compare, Global, Has, In, Not, Or, SelectorError, parse_selector
from tierflow.schemas.errors import ConfigurationError
from tierflow.sinks.read.interface import ALTERNATIVES, LABELS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tierflow.policy.selector import Node
    from tierflow.sinks.read.interface import Filter

Condition = tuple[str, list[Any]]

TRUE: Final[Condition] = ("TRUE", [])
FALSE: Final[Condition] = ("FALSE", [])


def flow_condition(where: Filter) -> Condition:
    """What a filter asks of ``flows``, and its parameters: all but the time; ``TRUE`` for nothing.

    Raises:
        ConfigurationError: a label selector can't be parsed.
    """
    parts = [
        *(_among(fields, getattr(where, name)) for name, fields in ALTERNATIVES),
        *(_labels(fields, getattr(where, name), name) for name, fields in LABELS),
        _policies(where.policies),
    ]
    return _all_of([part for part in parts if part is not TRUE])


def time_condition(where: Filter) -> Condition:
    """What a filter asks of ``flow_logs`` itself: that the window starts in its range."""
    parts: list[Condition] = []
    if where.start_s is not None:
        parts.append(("start_time >= ?", [where.start_s]))
    if where.end_s is not None:
        parts.append(("start_time < ?", [where.end_s]))
    return _all_of(parts)


def _among(fields: Sequence[str], values: Sequence[str | int]) -> Condition:
    if not values:
        return TRUE
    prefixes = [value[:-1] for value in values if isinstance(value, str) and value.endswith("*")]
    parts: list[Condition] = []
    for field in fields:
        parts.append((f'list_contains(?, "{field}")', [list(values)]))
        parts += [(f'starts_with("{field}", ?)', [prefix]) for prefix in prefixes]
    return _any_of(parts)


def _policies(parts: Sequence[str]) -> Condition:
    if not parts:
        return TRUE
    return _any_of(
        [('len(list_filter("policies.all_policies", lambda hit: contains(hit, ?))) > 0', [part]) for part in parts]
    )


def _labels(fields: Sequence[str], selector: str, name: str) -> Condition:
    if not selector.strip():
        return TRUE
    try:
        node = parse_selector(selector)
    except SelectorError as error:
        raise ConfigurationError(f"{name} {selector!r}: {error}") from error
    return _any_of([_selector(node, f'"{field}"') for field in fields])


def _selector(node: Node, labels: str) -> Condition:
    match node:
        case All():
            return TRUE
        case Global():
            return FALSE
        case Has():
            return _some_label(labels, "starts_with(label, ?)", [node.label + "="])
        case Compare():
            return _compare(node, labels)
        case In():
            wanted = [f"{node.label}={value}" for value in sorted(node.values)]
            found = (f"list_has_any({labels}, ?)", [wanted])
            return _negated(found) if node.negated else found
        case Not():
            return _negated(_selector(node.term, labels))
        case And():
            return _all_of([_selector(term, labels) for term in node.terms])
        case Or():
            return _any_of([_selector(term, labels) for term in node.terms])
        case _:
            raise ConfigurationError(f"selector {node}: this part can't be asked of the store")


def _compare(node: Compare, labels: str) -> Condition:
    equal = (f"list_contains({labels}, ?)", [f"{node.label}={node.value}"])
    match node.operator:
        case "==":
            return equal
        case "!=":
            return _negated(equal)
        case "starts with":
            return _some_label(labels, "starts_with(label, ?)", [f"{node.label}={node.value}"])
    prefix = node.label + "="
    function = "contains" if node.operator == "contains" else "suffix"
    return _some_label(
        labels, f"(starts_with(label, ?) AND {function}(substr(label, ?), ?))", [prefix, len(prefix) + 1, node.value]
    )


def _some_label(labels: str, test: str, parameters: list[Any]) -> Condition:
    return f"len(list_filter({labels}, lambda label: {test})) > 0", parameters


def _negated(term: Condition) -> Condition:
    return f"NOT ({term[0]})", term[1]


def _all_of(parts: Sequence[Condition]) -> Condition:
    if not parts:
        return TRUE
    return " AND ".join(f"({sql})" for sql, _ in parts), [value for _, values in parts for value in values]


def _any_of(parts: Sequence[Condition]) -> Condition:
    if not parts:
        return FALSE
    return "(" + " OR ".join(f"({sql})" for sql, _ in parts) + ")", [value for _, values in parts for value in values]
