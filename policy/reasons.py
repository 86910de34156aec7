"""Why a selector selects a label set or doesn't, in words; and which label changes would make it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tierflow.policy.labels import (
    NAMESPACE,
    NAMESPACE_PREFIX,
    ORCHESTRATOR,
    SERVICE_ACCOUNT,
    SERVICE_ACCOUNT_PREFIX,
)
from tierflow.policy.selector import All, And, Compare, Global, Has, In, Node, Not, Or

if TYPE_CHECKING:
    from collections.abc import Mapping

Change = frozenset[tuple[str, "str | None"]]
"""Labels to set, or to take away (None)."""

MAX_CHANGES: Final = 32
_INHERITED: Final = (NAMESPACE, SERVICE_ACCOUNT, ORCHESTRATOR)


def label_name(label: str) -> str:
    """What a reader calls a label that selectors see."""
    if label == NAMESPACE:
        return "the namespace"
    if label == SERVICE_ACCOUNT:
        return "the service account"
    if label.startswith(NAMESPACE_PREFIX):
        return f"namespace label {label.removeprefix(NAMESPACE_PREFIX)}"
    if label.startswith(SERVICE_ACCOUNT_PREFIX):
        return f"service account label {label.removeprefix(SERVICE_ACCOUNT_PREFIX)}"
    return f"label {label}"


def selector_text(node: Node) -> str:
    """The selector in words that keep the prefixes of inherited labels readable."""
    text = str(node).replace(f"!has({NAMESPACE})", "in no namespace").replace(f"has({NAMESPACE})", "in a namespace")
    text = text.replace(NAMESPACE_PREFIX, "namespace label ")
    return text.replace(SERVICE_ACCOUNT_PREFIX, "service account label ").replace(f"{NAMESPACE} ", "namespace ")


def failure(node: Node, labels: Mapping[str, str]) -> str:
    """Why the label set isn't selected; call it only when it isn't."""
    match node:
        case And():
            return "; ".join(failure(term, labels) for term in node.terms if not term.matches(labels))
        case Or():
            return " and ".join(failure(term, labels) for term in node.terms)
        case Not(term=Has(label=label)):
            return f"{_value(label, labels)}, wanted none"
        case Not():
            return f"{_state(node.term, labels)}, which is excluded"
        case Compare() | In() | Has():
            return f"{_value(node.label, labels)}, wanted {_wanted(node)}"
        case _:
            return f"{selector_text(node)} doesn't hold"


def _state(node: Node, labels: Mapping[str, str]) -> str:
    match node:
        case Compare() | In() | Has():
            return _value(node.label, labels)
        case And() | Or():
            return " and ".join(_state(term, labels) for term in node.terms)
        case Not():
            return _state(node.term, labels)
        case _:
            return f"{selector_text(node)} holds"


def _value(label: str, labels: Mapping[str, str]) -> str:
    name = label_name(label)
    return f'{name} is "{labels[label]}"' if label in labels else f"no {name.removeprefix('the ')}"


def _wanted(node: Compare | In | Has) -> str:
    match node:
        case Has():
            return "any value"
        case In():
            return ("none of " if node.negated else "one of ") + ", ".join(f'"{each}"' for each in sorted(node.values))
        case _:
            operator = {"==": "", "!=": "any but "}.get(node.operator, f"one that {node.operator} ")
            return f'{operator}"{node.value}"'


def changes(node: Node, labels: Mapping[str, str], *, selected: bool) -> list[Change]:
    """Sets of label changes, few and small, that would make the label set selected or not; inherited labels stay."""
    if node.matches(labels) == selected:
        return [frozenset()]
    match node:
        case Not():
            return changes(node.term, labels, selected=not selected)
        case And() | Or():
            together = isinstance(node, And) == selected
            options = [changes(term, labels, selected=selected) for term in node.terms]
            if not together:
                return [each for option in options for each in option][:MAX_CHANGES]
            # What one term wants may undo what another has: has(a) || a != "x" selects whatever a is.
            return [each for each in _all_of(options) if node.matches(changed(labels, each)) == selected]
        case Compare() | In() | Has():
            return _leaf_changes(node, selected=selected)
        case All() | Global():
            return []
        case _:
            return []


def changed(labels: Mapping[str, str], change: Change) -> dict[str, str]:
    """The labels after a change; a value of None takes the label away."""
    kept = {label: value for label, value in labels.items() if (label, None) not in change}
    return kept | {label: value for label, value in change if value is not None}


def _all_of(options: list[list[Change]]) -> list[Change]:
    merged: list[Change] = [frozenset()]
    for option in options:
        merged = [left | right for left in merged for right in option][:MAX_CHANGES]
    return [each for each in merged if len({label for label, _ in each}) == len(each)]


def _leaf_changes(node: Compare | In | Has, *, selected: bool) -> list[Change]:
    if node.label in _INHERITED or node.label.startswith((NAMESPACE_PREFIX, SERVICE_ACCOUNT_PREFIX)):
        return []
    gone: list[Change] = [frozenset({(node.label, None)})]
    match node:
        case Has():
            return [frozenset({(node.label, "any")})] if selected else gone
        case In():
            inside: list[Change] = [frozenset({(node.label, value)}) for value in sorted(node.values)]
            return inside if selected != node.negated else gone
        case _:
            exact: list[Change] = [frozenset({(node.label, node.value)})]
            if node.operator == "!=":
                return gone if selected else exact
            return exact if selected else gone
