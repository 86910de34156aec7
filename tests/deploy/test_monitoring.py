"""Alerts and dashboard ask for metrics and labels that are declared, and Prometheus' own tool takes the rules."""

from __future__ import annotations

import json
import re
import runpy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.deploy.rendering import rendered
from tests.services.helm import helm as helm
from tests.services.prometheus import prometheus as prometheus
from tierflow.schemas.metrics import catalogue

if TYPE_CHECKING:
    from tests.services.prometheus import Prometheus
    from tierflow.schemas.metrics import MetricSpec

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy" / "helm" / "tierflow"
ALERTS: list[dict[str, Any]] = yaml.safe_load((CHART / "alerts.yaml").read_text())
DASHBOARD: dict[str, Any] = json.loads((CHART / "dashboard.json").read_text())
FROM_PROMETHEUS = {"instance", "app_kubernetes_io_component", "job", "le"}
"""Labels that Prometheus, or the ServiceMonitor, adds."""


def declared() -> dict[str, MetricSpec]:
    """Metrics by the names that they have in Prometheus."""
    runpy.run_path(str(ROOT / "docs" / "generate.py"))["_import_everything"]()
    names: dict[str, MetricSpec] = {}
    for spec in catalogue():
        for suffix in ("_bucket", "_sum", "_count") if spec.kind == "histogram" else ("",):
            names[spec.name + suffix] = spec
    return names


def queries() -> list[tuple[str, str]]:
    """Where it stands, and the query."""
    found = [(alert["alert"], alert["expr"]) for alert in ALERTS]
    for panel in DASHBOARD["panels"]:
        found += [(panel["title"], target["expr"]) for target in panel.get("targets", ())]
    return found


@pytest.mark.parametrize(("where", "query"), queries(), ids=lambda value: value.split("(")[0][:40])
def test_every_query_names_declared_metrics_and_labels(where: str, query: str) -> None:
    known = declared()
    metrics = set(re.findall(r"\btierflow_\w+", query))
    assert metrics or query.startswith("up{"), where
    assert metrics <= set(known), where
    labels = {label for metric in metrics for label in known[metric].labels} | FROM_PROMETHEUS
    asked = set(re.findall(r"(\w+)(?:=~?|!=)\"", query))
    for group in re.findall(r"by \(([^)]*)\)", query):
        asked |= {label.strip() for label in group.split(",")}
    assert asked <= labels, where


def test_lag_loss_lateness_and_rejection_have_an_alert_each_with_words_for_a_person() -> None:
    text = " ".join(alert["expr"] for alert in ALERTS)
    for metric in (
        "stream_lag_messages", "sink_lag_messages", "collector_records_lost", "stream_loss_events",
        "stream_late_records", "stream_rejected_batches", "sink_documents_total",
    ):  # fmt: skip
        assert f"tierflow_{metric}" in text
    assert len({alert["alert"] for alert in ALERTS}) == len(ALERTS)
    for alert in ALERTS:
        assert {"summary", "description"} == set(alert["annotations"])
        assert alert["labels"]["severity"] == "warning"


def test_the_rule_object_holds_all_alerts_and_the_dashboard_is_in_a_config_map(helm: str) -> None:
    documents = {document["kind"]: document for document in rendered(helm, "production")}
    assert documents["PrometheusRule"]["spec"]["groups"] == [{"name": "tierflow", "rules": ALERTS}]
    assert json.loads(documents["ConfigMap"]["data"]["tierflow.json"]) == DASHBOARD
    assert documents["ServiceMonitor"]["spec"]["endpoints"] == [{"port": "metrics", "interval": "30s"}]


def test_no_two_panels_overlap_and_every_one_says_what_it_shows() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
        assert panel["type"] == "row" or panel["description"]


QUIET = {
    'up{app_kubernetes_io_component="stream", instance="a"}': "1x40",
    'tierflow_stream_lag_messages{partition="1"}': "3x40",
    'tierflow_sink_lag_messages{topic="flows.logs.v1"}': "3x40",
    "tierflow_sink_store_up": "1x40",
    "tierflow_collector_records_lost_total": "7x40",
    'tierflow_stream_loss_events_total{reason="sequence_gap"}': "7x40",
    "tierflow_stream_late_records_total": "0x40",
    "tierflow_stream_read_records_total": "0+100x40",
    'tierflow_stream_rejected_batches_total{reason="bad_magic"}': "7x40",
    'tierflow_sink_documents_total{topic="flows.logs.v1", result="rejected"}': "7x40",
    "tierflow_stream_joined_early_batches_total": "7x40",
    "tierflow_inventory_policies_left_out": "0x40",
}
"""A day like any other, a value a minute."""
WRONG = {
    "TierflowDown": {'up{app_kubernetes_io_component="stream", instance="a"}': "0x40"},
    "TierflowStreamLag": {'tierflow_stream_lag_messages{partition="1"}': "0+500x40"},
    "TierflowSinkLag": {'tierflow_sink_lag_messages{topic="flows.logs.v1"}': "200000x40"},
    "TierflowStoreDown": {"tierflow_sink_store_up": "0x40"},
    "TierflowRecordsLost": {"tierflow_collector_records_lost_total": "0+1x40"},
    "TierflowBatchesLost": {'tierflow_stream_loss_events_total{reason="sequence_gap"}': "0+1x40"},
    "TierflowRecordsLate": {"tierflow_stream_late_records_total": "0+2x40"},
    "TierflowRejected": {'tierflow_stream_rejected_batches_total{reason="bad_magic"}': "0+1x40"},
    "TierflowDocumentsRejected": {'tierflow_sink_documents_total{topic="flows.logs.v1", result="rejected"}': "0+1x40"},
    "TierflowPolicyLeftOut": {"tierflow_inventory_policies_left_out": "2x40"},
    "TierflowInventoryBehind": {"tierflow_stream_joined_early_batches_total": "0+1x40"},
}
"""What has to go otherwise for each alert."""


def rules() -> str:
    """The alerts, and the dashboard's queries as recording rules."""
    titles = {panel["title"] for panel in DASHBOARD["panels"]}
    panels = [query.replace("$__rate_interval", "5m") for where, query in queries() if where in titles]
    recorded = [{"record": f"panel:{index}", "expr": query} for index, query in enumerate(panels)]
    groups = [{"name": "tierflow", "rules": ALERTS}, {"name": "dashboard", "rules": recorded}]
    return yaml.safe_dump({"groups": groups})


def script() -> str:
    """Each alert's query gives nothing on a quiet day, and something when its own series goes wrong."""
    lines = []
    for alert in ALERTS:
        for series, expected in ((QUIET, ""), (QUIET | WRONG[alert["alert"]], "  {} 1\n")):
            loaded = "".join(f"  {name} {values}\n" for name, values in series.items())
            lines.append(f"clear\nload 1m\n{loaded}\neval instant at 35m count(({alert['expr']})) > bool 0\n{expected}")
    return "\n".join(lines)


def test_prometheus_takes_every_query_and_each_alert_speaks_when_it_should_and_only_then(
    prometheus: Prometheus,
) -> None:
    assert set(WRONG) == {alert["alert"] for alert in ALERTS}
    assert prometheus.complaints(rules(), script()) == ""


def test_prometheus_refuses_a_query_that_is_none_and_an_alert_that_is_silent(prometheus: Prometheus) -> None:
    assert "parse error" in prometheus.complaints(rules().replace("rate(", "rate((", 1), script())
    assert "expected" in prometheus.complaints(rules(), script().replace("0+500x40", "3x40"))
