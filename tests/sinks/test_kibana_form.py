"""The saved objects against the form that Kibana 8.19 keeps and exports.

The form is that of Kibana's own saved object types (github.com/elastic/kibana, plugins dashboard, saved_search,
visualizations and data_views: model versions, migrations and attribute schemas), and of exports in
github.com/elastic/integrations. A Kibana refuses an attribute that its schema doesn't have, and an object whose type is
of a later version than it knows.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tierflow.sinks.elasticsearch.indices import DEFAULT_NAMES, KINDS, IndexNames
from tierflow.sinks.kibana.saved_objects import export

FILE = Path(__file__).resolve().parents[2] / "deploy/kibana/tierflow.ndjson"

Saved = dict[str, Any]

NEWEST_CORE = "8.8.0"
NEWEST: dict[str, str] = {
    "index-pattern": "8.0.0",
    "visualization": "8.5.0",
    "search": "10.5.0",
    "dashboard": "10.2.0",
}
"""The latest version of each type that 8.17 to 8.19 all know."""

META = {"searchSourceJSON": str}
ATTRIBUTES: dict[str, dict[str, Any]] = {
    "index-pattern": {
        "title": str, "name": str, "timeFieldName": str, "fields": str, "fieldAttrs": str, "fieldFormatMap": str,
        "runtimeFieldMap": str, "sourceFilters": str, "typeMeta": str, "type": str, "allowHidden": bool,
        "allowNoIndex": bool,
    },
    "search": {
        "title": str, "description": str, "columns": [str], "sort": [[str]], "grid": {}, "rowHeight": int,
        "rowsPerPage": int, "hideChart": bool, "breakdownField": str, "kibanaSavedObjectMeta": META,
        "isTextBasedQuery": bool, "usesAdHocDataView": bool, "timeRestore": bool, "viewMode": str,
        "sampleSize": int, "headerRowHeight": int, "density": str, "version": int,
    },
    "visualization": {
        "title": str, "description": str, "version": int, "kibanaSavedObjectMeta": META, "uiStateJSON": str,
        "visState": str, "savedSearchRefName": str,
    },
    "dashboard": {
        "title": str, "description": str, "kibanaSavedObjectMeta": META, "timeRestore": bool, "timeFrom": str,
        "timeTo": str, "refreshInterval": {"pause": bool, "value": int, "display": str, "section": int},
        "controlGroupInput": {
            "panelsJSON": str, "controlStyle": str, "chainingSystem": str, "ignoreParentSettingsJSON": str,
            "showApplySelections": bool,
        },
        "panelsJSON": str, "optionsJSON": str, "version": int,
    },
}  # fmt: skip
OBJECT = {"id", "type", "attributes", "references", "managed", "coreMigrationVersion", "typeMigrationVersion"}
PANEL = {"type", "gridData", "panelIndex", "embeddableConfig", "panelRefName"}
CONTROL = {"type", "order", "grow", "width", "explicitInput"}
SUMMARY = {"excludedObjects", "excludedObjectsCount", "exportedCount", "missingRefCount", "missingReferences"}


def objects() -> dict[str, Saved]:
    *lines, _ = export(IndexNames(DEFAULT_NAMES)).splitlines()
    return {saved["id"]: saved for saved in map(json.loads, lines)}


def fits(value: Any, form: Any) -> bool:
    """Whether a value has a form: a type, a list of one form, or an object with no other keys than the form's."""
    if isinstance(form, list):
        return isinstance(value, list) and all(fits(each, form[0]) for each in value)
    if isinstance(form, dict):
        return isinstance(value, dict) and all(key in form and fits(each, form[key]) for key, each in value.items())
    return type(value) is form


def version(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(".")))


def test_the_file_in_the_tree_is_what_the_source_makes() -> None:
    assert FILE.read_bytes() == export(IndexNames())


@pytest.mark.parametrize("identifier", sorted(objects()))
def test_an_object_has_the_form_and_the_version_of_its_type(identifier: str) -> None:
    saved = objects()[identifier]
    assert saved.keys() == OBJECT
    assert saved["managed"] is False
    assert saved["coreMigrationVersion"] == NEWEST_CORE
    assert version(saved["typeMigrationVersion"]) <= version(NEWEST[saved["type"]])
    form = ATTRIBUTES[saved["type"]]
    for name, value in saved["attributes"].items():
        assert name in form, name
        assert fits(value, form[name]), (name, value)
    assert saved["attributes"]["title"]
    for reference in saved["references"]:
        assert reference.keys() == {"id", "name", "type"}


def test_what_does_not_fit_is_told() -> None:
    assert not fits({"searchSourceJSON": {}}, META)
    assert not fits({"pause": True, "often": 1}, ATTRIBUTES["dashboard"]["refreshInterval"])
    assert not fits([["a", 1]], [[str]])


def test_the_last_line_sums_up_as_an_export_does() -> None:
    *lines, last = export(IndexNames()).splitlines()
    assert json.loads(last).keys() == SUMMARY
    assert json.loads(last)["exportedCount"] == len(lines)


def test_every_reference_leads_to_an_object_of_the_file_and_every_reference_name_is_used() -> None:
    found = objects()
    for saved in found.values():
        text = json.dumps(saved["attributes"])
        for reference in saved["references"]:
            assert found[reference["id"]]["type"] == reference["type"]
            used = reference["name"].rpartition(":")[2]
            assert used in text or used == "optionsListDataView"


def test_panels_and_controls_have_the_form_that_a_dashboard_keeps_them_in() -> None:
    for saved in objects().values():
        if saved["type"] != "dashboard":
            continue
        names = {reference["name"]: reference["type"] for reference in saved["references"]}
        panels = json.loads(saved["attributes"]["panelsJSON"])
        for panel in panels:
            assert panel.keys() == PANEL
            assert panel["gridData"].keys() == {"x", "y", "w", "h", "i"}
            assert panel["gridData"]["i"] == panel["panelIndex"]
            assert panel["gridData"]["x"] + panel["gridData"]["w"] <= 48
            assert names[f"{panel['panelIndex']}:{panel['panelRefName']}"] == panel["type"]
        assert not any(
            overlap(one["gridData"], other["gridData"]) for one in panels for other in panels if one is not other
        )
        controls = json.loads(saved["attributes"].get("controlGroupInput", {}).get("panelsJSON", "{}"))
        for identifier, control in controls.items():
            assert control.keys() == CONTROL
            assert control["type"] == "optionsListControl"
            assert control["explicitInput"]["id"] == identifier
            assert names[f"controlGroup_{identifier}:optionsListDataView"] == "index-pattern"


def overlap(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return bool(
        one["x"] < other["x"] + other["w"] and other["x"] < one["x"] + one["w"]
        and one["y"] < other["y"] + other["h"] and other["y"] < one["y"] + one["h"]
    )  # fmt: skip


def test_nested_state_is_text_and_is_json_as_kibana_exports_it() -> None:
    for saved in objects().values():
        attributes = saved["attributes"]
        texts = [attributes[name] for name in attributes if name.endswith(("JSON", "visState", "fieldFormatMap"))]
        texts += [attributes.get("kibanaSavedObjectMeta", {}).get("searchSourceJSON", "{}")]
        texts += [value for name, value in attributes.get("controlGroupInput", {}).items() if name.endswith("JSON")]
        for text in texts:
            assert isinstance(text, str)
            json.loads(text)


def test_a_search_source_names_its_data_view_by_a_reference() -> None:
    for saved in objects().values():
        if saved["type"] not in ("search", "visualization"):
            continue
        source = json.loads(saved["attributes"]["kibanaSavedObjectMeta"]["searchSourceJSON"])
        assert source["indexRefName"] == saved["references"][0]["name"]
        assert source["query"].keys() == {"language", "query"}
        assert source["query"]["language"] == "kuery"


def test_a_visualization_says_in_full_what_it_asks() -> None:
    for saved in objects().values():
        if saved["type"] != "visualization":
            continue
        state = json.loads(saved["attributes"]["visState"])
        assert state.keys() == {"aggs", "params", "title", "type"}
        assert [each["id"] for each in state["aggs"]] == [str(number) for number in range(1, len(state["aggs"]) + 1)]
        for each in state["aggs"]:
            assert each.keys() == {"enabled", "id", "params", "schema", "type"}
            assert (each["schema"] == "metric") == (each["type"] in ("count", "sum"))


def test_every_field_that_an_object_names_is_declared() -> None:
    declared = set().union(*KINDS.values())
    for saved in objects().values():
        for aggregation in json.loads(saved["attributes"].get("visState", '{"aggs": []}'))["aggs"]:
            assert aggregation["params"].get("field", "action") in declared
        assert set(saved["attributes"].get("columns", ())) <= declared
        assert {field for field, _ in saved["attributes"].get("sort", ())} <= declared
        controls = saved["attributes"].get("controlGroupInput", {}).get("panelsJSON", "{}")
        assert set(re.findall(r'"fieldName":"([^"]+)"', controls)) <= declared
