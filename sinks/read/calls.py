"""A store's questions and answers as JSON: what the sink serves and what its client asks."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any, Final

from tierflow.schemas.errors import ConfigurationError
from tierflow.sinks.read.interface import (
    Facet,
    Filter,
    FlowGroup,
    FlowLogPage,
    HistogramBucket,
    Loss,
    PolicyEndpoints,
    RuleStatistics,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

METHODS: Final = frozenset(
    {"flow_logs", "flow_groups", "histogram", "rule_statistics", "policy_endpoints", "facets", "losses", "newest_s"}
)
"""The methods of a store that may be called from another process."""

_ROWS: Final[dict[str, type[Any]]] = {
    "flow_groups": FlowGroup,
    "histogram": HistogramBucket,
    "rule_statistics": RuleStatistics,
    "policy_endpoints": PolicyEndpoints,
    "facets": Facet,
    "losses": Loss,
}


def filter_from(value: Mapping[str, Any]) -> Filter:
    """A filter from its JSON object.

    Raises:
        ConfigurationError: a key that a filter doesn't have.
    """
    known = {field.name for field in fields(Filter)}
    if unknown := value.keys() - known:
        raise ConfigurationError(f"filter: unknown {', '.join(sorted(unknown))}; accepted: {', '.join(sorted(known))}")
    values: dict[str, Any] = {key: tuple(each) if isinstance(each, list) else each for key, each in value.items()}
    return Filter(**values)


def answer_from(method: str, value: Any) -> Any:
    """A method's answer from its JSON form."""
    if method == "flow_logs":
        return FlowLogPage(tuple(value["logs"]), value["cursor"])
    row = _ROWS.get(method)
    if row is None:
        return value
    return tuple(
        row(**{key: tuple(each) if isinstance(each, list) else each for key, each in one.items()}) for one in value
    )
