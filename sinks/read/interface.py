"""What page and command line may ask of a store, and what it answers.

All times are Unix seconds. A document belongs to a range when its window starts in it:
``start_s <= start_time < end_s``.
Answers are plain values, so that they travel as JSON unchanged (:mod:`tierflow.sinks.read.remote`).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Final, Literal, Protocol

from tierflow.schemas.errors import ConfigurationError

Status = Literal["allowed", "denied", "denied_by_destination", "leak", "unanswered", "unknown"]
"""State of a flow between two ends, concluded from both sides' logs (:mod:`tierflow.sinks.read.status`)."""

MAX_LIMIT: Final = 10_000
"""The most rows that one answer may hold."""


def bounded(limit: int) -> int:
    """The limit itself.

    Raises:
        ConfigurationError: it is outside of what one answer may hold.
    """
    if not 1 <= limit <= MAX_LIMIT:
        raise ConfigurationError(f"limit {limit}: accepted is 1 to {MAX_LIMIT}")
    return limit


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which flow logs count. Values of one field are alternatives; fields must all hold; an empty field holds always.

    Names and namespaces may end in ``*`` for a prefix (an aggregated name's own ``*`` is matched by it too).

    Attributes:
        start_s: start of the range; None: no limit.
        end_s: its end, exclusive; None: no limit.
        actions: ``allow``, ``deny``.
        reporters: ``src``, ``dst``, ``fwd``.
        evidence: values of :class:`tierflow.schemas.flow_log.Evidence`.
        protocols: names as in a flow log.
        ports: destination ports.
        namespaces: of either end.
        source_namespaces: of the source.
        dest_namespaces: of the destination.
        names: name or aggregated name of either end.
        source_names: of the source.
        dest_names: of the destination.
        source_types: ``wep``, ``hep``, ``ns``, ``net``.
        dest_types: likewise.
        labels: selector in Calico's language that either end's labels match; ``""``: any.
        source_labels: selector for the source.
        dest_labels: selector for the destination.
        policies: parts of a policy hit; ``default.trusted`` and ``|deny|2`` both find ``…default.trusted|deny|2``.
    """

    start_s: int | None = None
    end_s: int | None = None
    actions: tuple[str, ...] = ()
    reporters: tuple[str, ...] = ()
    evidence: tuple[str, ...] = ()
    protocols: tuple[str, ...] = ()
    ports: tuple[int, ...] = ()
    namespaces: tuple[str, ...] = ()
    source_namespaces: tuple[str, ...] = ()
    dest_namespaces: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    source_names: tuple[str, ...] = ()
    dest_names: tuple[str, ...] = ()
    source_types: tuple[str, ...] = ()
    dest_types: tuple[str, ...] = ()
    labels: str = ""
    source_labels: str = ""
    dest_labels: str = ""
    policies: tuple[str, ...] = ()


ALTERNATIVES: Final[tuple[tuple[str, tuple[str, ...]], ...]] = (
    ("actions", ("action",)),
    ("reporters", ("reporter",)),
    ("evidence", ("evidence",)),
    ("protocols", ("proto",)),
    ("ports", ("dest_port",)),
    ("source_types", ("source_type",)),
    ("dest_types", ("dest_type",)),
    ("namespaces", ("source_namespace", "dest_namespace")),
    ("source_namespaces", ("source_namespace",)),
    ("dest_namespaces", ("dest_namespace",)),
    ("names", ("source_name", "source_name_aggr", "dest_name", "dest_name_aggr")),
    ("source_names", ("source_name", "source_name_aggr")),
    ("dest_names", ("dest_name", "dest_name_aggr")),
)
"""Of a filter's values: the flow log's fields of which one must have one of them."""

LABELS: Final[tuple[tuple[str, tuple[str, ...]], ...]] = (
    ("labels", ("source_labels.labels", "dest_labels.labels")),
    ("source_labels", ("source_labels.labels",)),
    ("dest_labels", ("dest_labels.labels",)),
)
"""Of a filter's selectors: the flow log's fields of which one must match."""


@dataclass(frozen=True, slots=True)
class FlowLogPage:
    """Flow logs as they stand in the topic, in the order asked for.

    Attributes:
        logs: documents, nested as in the topic.
        cursor: give it back for the next page; None: this was the last. Logs that arrive meanwhile move nothing.
    """

    logs: tuple[dict[str, Any], ...]
    cursor: str | None


@dataclass(frozen=True, slots=True)
class FlowGroup:
    """All traffic of one source and destination over one protocol and port, in one state; no packet counted twice.

    Attributes:
        service: ``namespace/name`` of the Service that was addressed, ``""`` if none.
        connections: connections that began in the range.
        packets: both directions together.
        bytes: both directions together.
    """

    source_namespace: str
    source_name: str
    source_type: str
    dest_namespace: str
    dest_name: str
    dest_type: str
    proto: str
    dest_port: int | None
    service: str
    status: Status
    connections: int
    packets: int
    bytes: int


@dataclass(frozen=True, slots=True)
class HistogramBucket:
    """What began in ``[start_s, start_s + width_s)``.

    Attributes:
        action: ``allow`` or ``deny``.
        logs: flow logs.
        connections: their ``num_flows_started``.
    """

    start_s: int
    action: str
    logs: int
    connections: int


@dataclass(frozen=True, slots=True)
class RuleStatistics:
    """What one rule did in the range, in one direction and with one action: totals, not rates.

    Attributes:
        policy: as in a trace, for instance ``storefront/default.trusted``.
        rule_index: -1 for the end of the tier.
        bucket_bytes: bytes of both directions by equal parts of the range, oldest first; empty if not asked for.
        last_evaluated_s: end of the newest window in which it was hit.
    """

    tier: str
    policy: str
    kind: str
    namespace: str
    name: str
    staged: bool
    rule_index: int
    rule_direction: str
    action: str
    connections: int
    packets_in: int
    packets_out: int
    bytes_in: int
    bytes_out: int
    last_evaluated_s: int
    bucket_bytes: tuple[int, ...] = ()


RULE_FIELDS: Final = tuple(field.name for field in fields(RuleStatistics))[:9]
"""What tells rules apart, in the order in which they come."""


@dataclass(frozen=True, slots=True)
class PolicyEndpoints:
    """How many endpoints a policy applied to in one direction, by the newest count in the range."""

    tier: str
    policy: str
    kind: str
    rule_direction: str
    endpoints: int


@dataclass(frozen=True, slots=True)
class Facet:
    """One value of a field and how many flow logs have it."""

    value: str
    logs: int


@dataclass(frozen=True, slots=True)
class Loss:
    """What one node lost for one reason: what is missing from every other answer about the range.

    Attributes:
        losses: how many times it happened.
        uncounted: those of them of which nobody knows how many records they cost; the sums are without them.
        start_s: start of the first; it may lie before the range.
        end_s: end of the last; it may lie behind the range.
    """

    host: str
    reason: str
    losses: int
    uncounted: int
    batches: int
    records: int
    packets: int
    bytes: int
    start_s: int
    end_s: int


class Store(Protocol):
    """A store's read side.

    Every method may raise ``UnavailableError``; a wrong field, selector, limit or cursor is a ``ConfigurationError``.
    """

    def flow_logs(
        self,
        where: Filter,
        *,
        sort: str = "end_time",
        descending: bool = True,
        limit: int = 100,
        cursor: str | None = None,
    ) -> FlowLogPage:
        """A page of flow logs, sorted by a field and then by id."""
        ...

    def flow_groups(self, where: Filter, *, limit: int = MAX_LIMIT) -> tuple[FlowGroup, ...]:
        """The flows of the visualizer, largest by bytes first."""
        ...

    def histogram(self, where: Filter, *, width_s: int) -> tuple[HistogramBucket, ...]:
        """Flow logs over time by action, oldest first; empty buckets are left out."""
        ...

    def rule_statistics(self, start_s: int, end_s: int, *, buckets: int = 0) -> tuple[RuleStatistics, ...]:
        """What each rule did in the range."""
        ...

    def policy_endpoints(self, start_s: int, end_s: int) -> tuple[PolicyEndpoints, ...]:
        """How many endpoints each policy applied to."""
        ...

    def facets(self, where: Filter, field: str, *, limit: int = 20, prefix: str = "") -> tuple[Facet, ...]:
        """The most frequent values of a field under a filter, those alone that start with ``prefix``.

        ``field`` may be ``labels``, ``names`` or ``namespaces`` for both ends together: a log counts once for a value,
        whether one end has it or both.
        """
        ...

    def losses(self, start_s: int, end_s: int) -> tuple[Loss, ...]:
        """What went missing in the range, by node and reason; a loss counts where its time touches the range."""
        ...

    def newest_s(self) -> int | None:
        """End of the newest window stored; None for an empty store."""
        ...
