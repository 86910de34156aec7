"""The Grafana dashboard, written down as rows of panels; ``make docs`` makes the JSON that the chart ships.

    python deploy/grafana.py          prints the dashboard

One panel is a title, a unit and queries with their legends; everything else is the same for all of them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

COLUMNS: Final = 24
HEIGHT: Final = 8
DATASOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}


@dataclass(frozen=True, slots=True)
class Panel:
    """One graph: what it shows, in Grafana's unit, of which (query, legend)."""

    title: str
    unit: str
    queries: tuple[tuple[str, str], ...]
    about: str


ROWS: Final[tuple[tuple[str, tuple[Panel, ...]], ...]] = (
    (
        "What is seen",
        (
            Panel(
                "Connections by action", "cps",
                (("sum by (action) (rate(tierflow_policy_rule_connections_total[$__rate_interval]))", "{{action}}"),),
                "Connections judged by policy rules, both directions.",
            ),
            Panel(
                "Denied packets by policy", "pps",
                (
                    (
                        ('topk(10, sum by (tier, policy) (rate(tierflow_policy_rule_packets_total{action="deny"}'
                        "[$__rate_interval])))"),
                        "{{tier}} {{policy}}",
                    ),
                ),
                "The ten policies that deny most.",
            ),
            Panel(
                "Flow logs written", "short",
                (
                    ("sum(rate(tierflow_stream_flow_logs_total[$__rate_interval]))", "flow logs a second"),
                    ("sum(rate(tierflow_stream_windows_total[$__rate_interval]))", "windows a second"),
                ),
                "What the stream workers write.",
            ),
        ),
    ),
    (
        "What goes through",
        (
            Panel(
                "Raw records", "short",
                (
                    ("sum(rate(tierflow_collector_records_sent_total[$__rate_interval]))", "sent a second"),
                    ("sum(rate(tierflow_stream_read_records_total[$__rate_interval]))", "read a second"),
                ),
                "At rest both lines are one.",
            ),
            Panel(
                "Waiting", "short",
                (
                    ("sum(tierflow_stream_lag_messages)", "raw batches"),
                    ("sum by (topic) (tierflow_sink_lag_messages)", "{{topic}}"),
                    ("sum(tierflow_stream_unsettled_batches)", "batches in open windows"),
                ),
                "Messages that wait for workers and sinks.",
            ),
            Panel(
                "From a window's end to its flow logs", "s",
                (
                    (
                        ("histogram_quantile(0.5, sum by (le) (rate(tierflow_stream_window_delay_seconds_bucket"
                        "[$__rate_interval])))"),
                        "median",
                    ),
                    (
                        ("histogram_quantile(0.99, sum by (le) (rate(tierflow_stream_window_delay_seconds_bucket"
                        "[$__rate_interval])))"),
                        "99 of 100",
                    ),
                ),
                "How fresh flow logs are.",
            ),
        ),
    ),
    (
        "What goes wrong",
        (
            Panel(
                "Lost", "short",
                (
                    ("sum(increase(tierflow_collector_records_lost_total[$__rate_interval]))", "records at collectors"),
                    ("sum(increase(tierflow_stream_lost_batches_total[$__rate_interval]))", "batches"),
                    ("sum by (reason) (increase(tierflow_stream_loss_events_total[$__rate_interval]))", "{{reason}}"),
                ),
                "All of it is in flows.loss too; nothing here is the aim.",
            ),
            Panel(
                "Late, early, rejected", "short",
                (
                    ("sum(increase(tierflow_stream_late_records_total[$__rate_interval]))", "late records"),
                    (
                        "sum(increase(tierflow_stream_joined_early_batches_total[$__rate_interval]))",
                        "batches joined early",
                    ),
                    (
                        "sum by (reason) (increase(tierflow_stream_rejected_batches_total[$__rate_interval]))",
                        "rejected: {{reason}}",
                    ),
                    (
                        'sum by (topic) (increase(tierflow_sink_documents_total{result="rejected"}[$__rate_interval]))',
                        "rejected: {{topic}}",
                    ),
                ),
                "What came too late, was joined before the inventory was there, or could not be used.",
            ),
            Panel(
                "Store and broker", "short",
                (
                    ("min(tierflow_sink_store_up)", "store up"),
                    ("sum by (cause) (increase(tierflow_sink_retries_total[$__rate_interval]))", "retries: {{cause}}"),
                    (
                        "sum(increase(tierflow_collector_send_failures_total[$__rate_interval]))",
                        "collectors' failed sends",
                    ),
                ),
                "Whether the others answer.",
            ),
        ),
    ),
)  # fmt: skip


def dashboard() -> dict[str, Any]:
    """The dashboard as Grafana imports it."""
    panels: list[dict[str, Any]] = []
    top = 0
    for title, row in ROWS:
        panels.append(
            {"id": len(panels) + 1, "type": "row", "title": title, "collapsed": False, "panels": [],
             "gridPos": {"h": 1, "w": COLUMNS, "x": 0, "y": top}}
        )  # fmt: skip
        width = COLUMNS // len(row)
        for index, panel in enumerate(row):
            panels.append(_panel(panel, len(panels) + 1, {"h": HEIGHT, "w": width, "x": index * width, "y": top + 1}))
        top += HEIGHT + 1
    return {
        "uid": "tierflow",
        "title": "tierflow",
        "tags": ["tierflow"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "templating": {
            "list": [{"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Prometheus"}]
        },
        "panels": panels,
    }


def _panel(panel: Panel, number: int, position: dict[str, int]) -> dict[str, Any]:
    return {
        "id": number,
        "type": "timeseries",
        "title": panel.title,
        "description": panel.about,
        "datasource": DATASOURCE,
        "gridPos": position,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
        "targets": [
            {"refId": chr(ord("A") + index), "datasource": DATASOURCE, "expr": query, "legendFormat": legend}
            for index, (query, legend) in enumerate(panel.queries)
        ],
    }


def text() -> str:
    """The file's content."""
    return json.dumps(dashboard(), indent=2) + "\n"


if __name__ == "__main__":
    print(text(), end="")
