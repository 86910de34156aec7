"""The panels of the dashboards, declared: what each shows, over which query, and where it stands. Pure.

Visualizations are in Kibana's aggregation-based form: their saved state names metric, buckets and fields in full, so
that the query behind a panel can be told from the saved object alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

FLOWS_VIEW: Final = "tierflow-flows"
COUNTERS_VIEW: Final = "tierflow-policy-counters"
COLUMNS: Final = (
    "num_flows", "action", "source_name_aggr", "source_namespace", "dest_name_aggr", "dest_namespace", "dest_port",
    "reporter",
)  # fmt: skip
"""Of the flow log table, as upstream's saved search has them."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One number: a count, or a sum over a field."""

    type: Literal["count", "sum"]
    label: str
    field: str | None = None


@dataclass(frozen=True, slots=True)
class Bucket:
    """How documents are split: over time, or by the top values of a field."""

    type: Literal["date_histogram", "terms"]
    role: Literal["segment", "group", "bucket"]
    field: str
    label: str
    size: int = 10


@dataclass(frozen=True, slots=True)
class Panel:
    """One visualization.

    Attributes:
        id: of the saved object.
        view: id of the data view.
        form: Kibana's visualization type.
        query: in KQL.
        grid: x, y, width and height on the dashboard's 48 columns.
    """

    id: str
    title: str
    view: str
    form: Literal["histogram", "table"]
    metrics: tuple[Metric, ...]
    buckets: tuple[Bucket, ...]
    grid: tuple[int, int, int, int]
    query: str = ""


# Both sides report a flow between pods: what counts traffic fixes the reporter.
_AT_DESTINATION: Final = 'reporter : "dst"'
_TIME: Final = Bucket("date_histogram", "segment", "start_time", "Time")

FLOW_PANELS: Final = (
    Panel(
        "tierflow-flows-over-time", "Number of Flows", FLOWS_VIEW, "histogram", (Metric("count", "Flow logs"),),
        (_TIME, Bucket("terms", "group", "action", "Action", 2)), (0, 0, 32, 12),
    ),
    Panel(
        "tierflow-top-talkers", "Top talkers", FLOWS_VIEW, "table",
        (Metric("sum", "Bytes in", "bytes_in"), Metric("sum", "Bytes out", "bytes_out")),
        (
            Bucket("terms", "bucket", "source_name_aggr", "Source"),
            Bucket("terms", "bucket", "dest_name_aggr", "Destination"),
        ),
        (0, 12, 24, 14), _AT_DESTINATION,
    ),
    Panel(
        "tierflow-denied-by-policy", "Denied by policy", FLOWS_VIEW, "table",
        (Metric("count", "Flow logs"), Metric("sum", "Connections started", "num_flows_started")),
        (
            Bucket("terms", "bucket", "policies.enforced_policies", "Policy hit", 20),
            Bucket("terms", "bucket", "source_name_aggr", "Source"),
        ),
        (24, 12, 24, 14), 'action : "deny"',
    ),
)  # fmt: skip

COUNTER_PANELS: Final = (
    Panel(
        "tierflow-policy-bytes-over-time", "Bytes by action", COUNTERS_VIEW, "histogram",
        (Metric("sum", "Bytes in", "bytes_in"),),
        (_TIME, Bucket("terms", "group", "action", "Action", 3)), (0, 0, 48, 12), 'record : "traffic"',
    ),
    Panel(
        "tierflow-policy-rules", "Rules", COUNTERS_VIEW, "table",
        (
            Metric("sum", "Connections", "connections_started"), Metric("sum", "Packets in", "packets_in"),
            Metric("sum", "Packets out", "packets_out"), Metric("sum", "Bytes in", "bytes_in"),
            Metric("sum", "Bytes out", "bytes_out"),
        ),
        (
            Bucket("terms", "bucket", "tier", "Tier"), Bucket("terms", "bucket", "policy", "Policy", 50),
            Bucket("terms", "bucket", "rule_direction", "Direction", 2),
            Bucket("terms", "bucket", "rule_index", "Rule", 20), Bucket("terms", "bucket", "action", "Action", 3),
        ),
        (0, 12, 48, 20), 'record : "traffic"',
    ),
)  # fmt: skip

CONTROLS: Final = (
    ("action", "Flow action"),
    ("dest_port", "Destination port"),
    ("source_namespace", "Source namespace"),
    ("dest_namespace", "Destination namespace"),
    ("source_name_aggr", "Source name"),
    ("dest_name_aggr", "Destination name"),
)
"""Field and label of each drop-down of the flow log dashboard."""
