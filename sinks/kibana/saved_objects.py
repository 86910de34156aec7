"""Saved objects as Kibana 8 exports them, one JSON object a line. Pure: the same source gives the same bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import orjson

from tierflow.schemas.fields import FieldType
from tierflow.sinks.elasticsearch.indices import FLOWS, KINDS, POLICY_COUNTERS, IndexNames
from tierflow.sinks.kibana.panels import (
    COLUMNS,
    CONTROLS,
    COUNTER_PANELS,
    COUNTERS_VIEW,
    FLOW_PANELS,
    FLOWS_VIEW,
    Bucket,
    Metric,
    Panel,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

CORE_VERSION: Final = "8.8.0"
"""Of every object: the last Kibana that changed what all types share."""
VERSIONS: Final = {"index-pattern": "8.0.0", "visualization": "8.5.0", "search": "10.5.0", "dashboard": "10.2.0"}
"""Of each type, as Kibana 8.19 has them. A Kibana refuses an object whose type is of a later version than it knows."""
SEARCH: Final = "tierflow-flow-logs"
_SOURCE_INDEX: Final = "kibanaSavedObjectMeta.searchSourceJSON.index"
_COLOURS: Final = {"allow": "#54B399", "deny": "#E7664C", "pass": "#6092C0"}

Saved = dict[str, Any]


def export(names: IndexNames) -> bytes:
    """Every object, data views first, as NDJSON."""
    objects = [
        _view(FLOWS_VIEW, "tierflow flow logs", names.all_of(FLOWS), FLOWS),
        _view(COUNTERS_VIEW, "tierflow policy counters", names.all_of(POLICY_COUNTERS), POLICY_COUNTERS),
        _search(),
        *(_visualization(panel) for panel in (*FLOW_PANELS, *COUNTER_PANELS)),
        _dashboard("tierflow-flow-logs-dashboard", "tierflow Flow Logs", FLOW_PANELS, with_table=True),
        _dashboard("tierflow-policy-counters-dashboard", "tierflow Policy Counters", COUNTER_PANELS, with_table=False),
    ]
    summary = {"excludedObjects": [], "excludedObjectsCount": 0, "exportedCount": len(objects),
               "missingRefCount": 0, "missingReferences": []}  # fmt: skip
    lines = [orjson.dumps(each, option=orjson.OPT_SORT_KEYS) for each in (*objects, summary)]
    return b"\n".join(lines) + b"\n"


def _saved(kind: str, identifier: str, attributes: Saved, references: Sequence[Saved]) -> Saved:
    return {
        "attributes": attributes,
        "coreMigrationVersion": CORE_VERSION,
        "id": identifier,
        "managed": False,
        "references": list(references),
        "type": kind,
        "typeMigrationVersion": VERSIONS[kind],
    }


def _view(identifier: str, title: str, pattern: str, kind: str) -> Saved:
    times = {name for name, kind in KINDS[kind].items() if kind is FieldType.DATE_S}
    formats = {name: {"id": "bytes"} for name in KINDS[kind] if name.startswith("bytes_")}
    attributes = {
        "allowHidden": False, "fieldAttrs": "{}", "fieldFormatMap": _text(formats), "fields": "[]",
        "name": title, "runtimeFieldMap": "{}", "sourceFilters": "[]",
        "timeFieldName": "start_time" if "start_time" in times else None, "title": pattern,
    }  # fmt: skip
    return _saved("index-pattern", identifier, attributes, ())


def _search() -> Saved:
    attributes = {
        "columns": list(COLUMNS), "description": "", "grid": {}, "hideChart": False, "isTextBasedQuery": False,
        "kibanaSavedObjectMeta": {"searchSourceJSON": _text(_source(""))},
        "rowsPerPage": 50, "sort": [["end_time", "desc"]], "timeRestore": False, "title": "tierflow flow logs",
        "usesAdHocDataView": False,
    }  # fmt: skip
    return _saved("search", SEARCH, attributes, [_reference(_SOURCE_INDEX, "index-pattern", FLOWS_VIEW)])


def _visualization(panel: Panel) -> Saved:
    aggregations = [
        *(_metric(number, metric) for number, metric in enumerate(panel.metrics, 1)),
        *(_bucket(number, bucket) for number, bucket in enumerate(panel.buckets, len(panel.metrics) + 1)),
    ]
    state = {"aggs": aggregations, "params": _parameters(panel), "title": panel.title, "type": panel.form}
    colours = {"vis": {"colors": _COLOURS}} if panel.form == "histogram" else {}
    attributes = {
        "description": "",
        "kibanaSavedObjectMeta": {"searchSourceJSON": _text(_source(panel.query))},
        "title": panel.title,
        "uiStateJSON": _text(colours),
        "version": 1,
        "visState": _text(state),
    }
    return _saved("visualization", panel.id, attributes, [_reference(_SOURCE_INDEX, "index-pattern", panel.view)])


def _metric(number: int, metric: Metric) -> Saved:
    parameters: Saved = {"customLabel": metric.label}
    if metric.field is not None:
        parameters["field"] = metric.field
    return {"enabled": True, "id": str(number), "params": parameters, "schema": "metric", "type": metric.type}


def _bucket(number: int, bucket: Bucket) -> Saved:
    parameters: Saved = {"customLabel": bucket.label, "field": bucket.field}
    if bucket.type == "date_histogram":
        parameters |= {"drop_partials": False, "extended_bounds": {}, "interval": "auto", "min_doc_count": 1,
                       "scaleMetricValues": False, "useNormalizedEsInterval": True}  # fmt: skip
    else:
        parameters |= {"missingBucket": False, "order": "desc", "orderBy": "1", "otherBucket": False,
                       "size": bucket.size}  # fmt: skip
    return {"enabled": True, "id": str(number), "params": parameters, "schema": bucket.role, "type": bucket.type}


def _parameters(panel: Panel) -> Saved:
    if panel.form == "table":
        return {"perPage": 10, "percentageCol": "", "showMetricsAtAllLevels": False, "showPartialRows": False,
                "showToolbar": True, "showTotal": False, "totalFunc": "sum"}  # fmt: skip
    axis = {"id": "ValueAxis-1", "labels": {"filter": False, "rotate": 0, "show": True, "truncate": 100},
            "name": "LeftAxis-1", "position": "left", "scale": {"mode": "normal", "type": "linear"}, "show": True,
            "style": {}, "title": {"text": panel.metrics[0].label}, "type": "value"}  # fmt: skip
    category = {"id": "CategoryAxis-1", "labels": {"filter": True, "show": True, "truncate": 100}, "position": "bottom",
                "scale": {"type": "linear"}, "show": True, "style": {}, "title": {}, "type": "category"}  # fmt: skip
    series = [
        {"data": {"id": str(number), "label": metric.label}, "drawLinesBetweenPoints": True, "mode": "stacked",
         "show": True, "showCircles": True, "type": "histogram", "valueAxis": "ValueAxis-1"}
        for number, metric in enumerate(panel.metrics, 1)
    ]  # fmt: skip
    return {"addLegend": True, "addTimeMarker": False, "addTooltip": True, "categoryAxes": [category],
            "detailedTooltip": True, "grid": {"categoryLines": False}, "labels": {"show": False},
            "legendPosition": "right", "maxLegendLines": 1, "palette": {"name": "default", "type": "palette"},
            "seriesParams": series, "times": [], "truncateLegend": True, "type": "histogram",
            "valueAxes": [axis]}  # fmt: skip


def _dashboard(identifier: str, title: str, panels: Sequence[Panel], *, with_table: bool) -> Saved:
    shown = [(panel.id, "visualization", panel.grid) for panel in panels]
    if with_table:
        shown.append((SEARCH, "search", (0, 26, 48, 24)))
    placed, references = [], []
    for number, (object_id, kind, grid) in enumerate(shown, 1):
        x, y, width, height = grid
        index = str(number)
        placed.append(
            {"embeddableConfig": {"enhancements": {}},
             "gridData": {"h": height, "i": index, "w": width, "x": x, "y": y},
             "panelIndex": index, "panelRefName": f"panel_{index}", "type": kind}
        )  # fmt: skip
        references.append(_reference(f"{index}:panel_{index}", kind, object_id))
    attributes: Saved = {
        "description": "",
        "kibanaSavedObjectMeta": {
            "searchSourceJSON": _text({"filter": [], "query": {"language": "kuery", "query": ""}})
        },
        "optionsJSON": _text({"hidePanelTitles": False, "syncColors": True, "syncCursor": True, "syncTooltips": False,
                              "useMargins": True}),
        "panelsJSON": _text(placed),
        "refreshInterval": {"pause": True, "value": 60000},
        "timeFrom": "now-24h",
        "timeRestore": True,
        "timeTo": "now",
        "title": title,
        "version": 1,
    }  # fmt: skip
    if with_table:
        attributes["controlGroupInput"], more = _controls()
        references += more
    return _saved("dashboard", identifier, attributes, references)


def _controls() -> tuple[Saved, list[Saved]]:
    panels, references = {}, []
    for order, (field, label) in enumerate(CONTROLS):
        identifier = f"control-{field}"
        panels[identifier] = {
            "explicitInput": {"enhancements": {}, "fieldName": field, "id": identifier, "selectedOptions": [],
                              "title": label},
            "grow": True, "order": order, "type": "optionsListControl", "width": "medium",
        }  # fmt: skip
        references.append(_reference(f"controlGroup_{identifier}:optionsListDataView", "index-pattern", FLOWS_VIEW))
    ignore = {"ignoreFilters": False, "ignoreQuery": False, "ignoreTimerange": False, "ignoreValidations": False}
    group = {"chainingSystem": "HIERARCHICAL", "controlStyle": "oneLine",
             "ignoreParentSettingsJSON": _text(ignore), "panelsJSON": _text(panels),
             "showApplySelections": True}  # fmt: skip
    return group, references


def _source(query: str) -> Saved:
    return {"filter": [], "indexRefName": _SOURCE_INDEX, "query": {"language": "kuery", "query": query}}


def _reference(name: str, kind: str, identifier: str) -> Saved:
    return {"id": identifier, "name": name, "type": kind}


def _text(value: Any) -> str:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()
