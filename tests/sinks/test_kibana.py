"""The saved objects: their form, and the query of each panel, taken from the object itself, on the real store."""

from __future__ import annotations

import http.server
import json
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import orjson
import pytest
from click.testing import CliRunner

from tests.sinks.documents import DAY_S, whole_counter, whole_log
from tierflow.cli.kibana import command
from tierflow.schemas.errors import TierflowError
from tierflow.sinks.elasticsearch.client import ElasticsearchSettings, connect
from tierflow.sinks.elasticsearch.indices import DEFAULT_NAMES, KINDS, IndexNames
from tierflow.sinks.elasticsearch.writer import Document, ElasticsearchWriter
from tierflow.sinks.kibana.saved_objects import export

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.services.elasticsearch import Elasticsearch

FILE = Path(__file__).resolve().parents[2] / "deploy/kibana/tierflow.ndjson"
PATTERN = "kibana_{kind}.{cluster}.{day}"
ROGUE = "1|default|storefront/default.trusted|deny|2"

Saved = dict[str, Any]


def objects(pattern: str = DEFAULT_NAMES) -> dict[str, Saved]:
    *lines, _ = export(IndexNames(pattern)).splitlines()
    return {saved["id"]: saved for saved in map(json.loads, lines)}


def test_the_file_in_the_tree_is_what_the_source_makes() -> None:
    assert FILE.read_bytes() == export(IndexNames())


def test_every_reference_leads_to_an_object_of_the_file_and_every_reference_name_is_used() -> None:
    found = objects()
    for saved in found.values():
        text = json.dumps(saved["attributes"])
        for reference in saved["references"]:
            assert found[reference["id"]]["type"] == reference["type"]
            used = reference["name"].rpartition(":")[2]
            assert used in text or used == "optionsListDataView"
        assert saved["managed"] is False
        assert {"coreMigrationVersion", "typeMigrationVersion"} <= saved.keys()


def test_nested_state_is_text_and_is_json_as_kibana_exports_it() -> None:
    for saved in objects().values():
        attributes = saved["attributes"]
        texts = [attributes[name] for name in attributes if name.endswith(("JSON", "visState", "fieldFormatMap"))]
        texts += [attributes.get("kibanaSavedObjectMeta", {}).get("searchSourceJSON", "{}")]
        texts += [value for name, value in attributes.get("controlGroupInput", {}).items() if name.endswith("JSON")]
        for text in texts:
            assert isinstance(text, str)
            json.loads(text)


def test_every_field_that_an_object_names_is_declared() -> None:
    declared = set().union(*KINDS.values())
    for saved in objects().values():
        for aggregation in json.loads(saved["attributes"].get("visState", '{"aggs": []}'))["aggs"]:
            assert aggregation["params"].get("field", "action") in declared
        assert set(saved["attributes"].get("columns", ())) <= declared


def query_of(saved: Saved) -> Saved:
    """What Kibana asks for a visualization: the filter of KQL's one form used here, then nested buckets."""
    state = json.loads(saved["attributes"]["visState"])
    text = json.loads(saved["attributes"]["kibanaSavedObjectMeta"]["searchSourceJSON"])["query"]["query"]
    field, _, value = text.partition(" : ")
    query: Saved = {"term": {field: value.strip('"')}} if text else {"match_all": {}}
    metrics = [each for each in state["aggs"] if each["schema"] == "metric"]
    sums = {each["id"]: {"sum": {"field": each["params"]["field"]}} for each in metrics if each["type"] == "sum"}
    nested: Saved = sums
    for each in reversed([each for each in state["aggs"] if each["schema"] != "metric"]):
        parameters = each["params"]
        if each["type"] == "date_histogram":
            split: Saved = {
                "date_histogram": {"field": parameters["field"], "fixed_interval": "1h", "min_doc_count": 1}
            }
        else:
            order = "1" if "1" in sums else "_count"
            split = {"terms": {"field": parameters["field"], "size": parameters["size"], "order": {order: "desc"}}}
        nested = sums | {each["id"]: split | {"aggs": nested}}
    return {"size": 0, "query": query, "aggs": nested}


def rows_of(answer: Saved, metrics: list[str]) -> list[tuple[Any, ...]]:
    """The table behind a panel: bucket keys, then metrics."""
    splits = [name for name, value in answer.items() if isinstance(value, dict) and "buckets" in value]
    if not splits:
        return [tuple(answer["doc_count"] if each not in answer else answer[each]["value"] for each in metrics)]
    return [(bucket["key"], *rest) for bucket in answer[splits[0]]["buckets"] for rest in rows_of(bucket, metrics)]


@pytest.fixture(scope="module")
def filled(elasticsearch: Elasticsearch) -> Iterator[Elasticsearch]:
    names = IndexNames(PATTERN)
    writer = ElasticsearchWriter(connect(ElasticsearchSettings(elasticsearch.url)), names, elasticsearch.url)
    writer.prepare(shards=1, replicas=0)
    logs = [
        whole_log(id="1", reporter="src", bytes_in=20, bytes_out=30, start_time=DAY_S + 1),
        whole_log(id="2", reporter="dst", bytes_in=30, bytes_out=20, start_time=DAY_S + 1),
        whole_log(id="3", reporter="src", source_name_aggr="rogue-8-*", evidence="unanswered", start_time=DAY_S + 2),
        whole_log(
            id="4", action="deny", evidence="enforced", source_name_aggr="rogue-8-*", start_time=DAY_S + 3700,
            num_flows_started=7, policies__enforced_policies=[ROGUE],
        ),
        whole_log(id="5", source_namespace="acme", dest_namespace="acme", start_time=DAY_S + 5),
    ]  # fmt: skip
    counters = [
        whole_counter(id="1", connections_started=7, packets_in=7, bytes_in=420, action="deny", rule_index=2),
        whole_counter(id="2", record="endpoints", action=None, rule_index=None, endpoints=2),
    ]
    writer.write(
        [
            Document(kind, names.of(kind, "", each["start_time"]), each["id"], orjson.dumps(each))
            for kind, given in (("flows", logs), ("policy_counters", counters))
            for each in given
        ],
        str,
    )
    elasticsearch.ask("POST", "/kibana_*/_refresh")
    yield elasticsearch
    for kind in KINDS:
        elasticsearch.ask("DELETE", f"/_index_template/{names.template(kind)}")


@pytest.mark.parametrize(
    ("panel", "rows"),
    [
        (
            "tierflow-flows-over-time",
            [(DAY_S * 1000, "allow", 4), ((DAY_S + 3600) * 1000, "deny", 1)],
        ),
        (
            "tierflow-top-talkers",
            [
                ("frontend-6d99-*", "backend-77-*", 30, 20),
                ("rogue-8-*", "backend-77-*", 0, 0),
            ],
        ),
        ("tierflow-denied-by-policy", [(ROGUE, "rogue-8-*", 1, 7)]),
        ("tierflow-policy-bytes-over-time", [(DAY_S * 1000, "deny", 420)]),
        (
            "tierflow-policy-rules",
            [("default", "storefront/default.trusted", "ingress", 2, "deny", 7, 7, 0, 420, 0)],
        ),
    ],
)
def test_the_query_of_each_panel_gives_the_expected_rows(
    filled: Elasticsearch, panel: str, rows: list[tuple[Any, ...]]
) -> None:
    found = objects(PATTERN)
    saved = found[panel]
    index = found[saved["references"][0]["id"]]["attributes"]["title"]
    metrics = [each["id"] for each in json.loads(saved["attributes"]["visState"])["aggs"] if each["schema"] == "metric"]
    answer = filled.ask("POST", f"/{index}/_search", query_of(saved))
    assert rows_of(answer["aggregations"], metrics) == rows  # type: ignore[arg-type]


def test_filtering_both_namespaces_and_opening_an_entry_shows_over_thirty_fields(filled: Elasticsearch) -> None:
    found = objects(PATTERN)
    search = found["tierflow-flow-logs"]
    index = found[search["references"][0]["id"]]["attributes"]["title"]
    terms = [{"term": {field: "storefront"}} for field in ("source_namespace", "dest_namespace")]
    sort = [{field: order} for field, order in search["attributes"]["sort"]]
    answer: Any = filled.ask("POST", f"/{index}/_search", {"query": {"bool": {"filter": terms}}, "sort": sort})
    entries = [hit["_source"] for hit in answer["hits"]["hits"]]
    assert entries[0]["id"] == "4"
    assert len(entries) == 4
    opened = {name: value for name, value in entries[0].items() if value is not None}
    assert len(opened) > 30
    assert opened["source_name_aggr"] == "rogue-8-*"
    assert opened["dest_name_aggr"] == "backend-77-*"
    assert opened["policies"]["all_policies"]
    assert "labels" in opened["source_labels"]


class _Kibana(http.server.BaseHTTPRequestHandler):
    """Answers an import as Kibana's documentation has it."""

    got: ClassVar[dict[str, Any]] = {}

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        type(self).got = {"path": self.path, "headers": dict(self.headers), "body": body}
        answer = json.dumps({"success": True, "successCount": 10}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *arguments: object) -> None:
        del arguments


def test_import_sends_the_file_as_kibana_wants_it() -> None:
    with http.server.HTTPServer(("127.0.0.1", 0), _Kibana) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}/s/space"
        done = CliRunner().invoke(command, ["import", "--kibana", url, "--kibana-api-key", "k"])
        thread.join(10)
    assert done.exit_code == 0, done.output
    assert _Kibana.got["path"] == "/s/space/api/saved_objects/_import?overwrite=true"
    assert _Kibana.got["headers"]["kbn-xsrf"] == "true"
    assert _Kibana.got["headers"]["Authorization"] == "ApiKey k"
    assert export(IndexNames()) in _Kibana.got["body"]


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "ftp://kibana", "kibana:5601"])
def test_a_kibana_that_is_not_there_is_one_line(url: str) -> None:
    done = CliRunner().invoke(command, ["import", "--kibana", url])
    assert isinstance(done.exception, TierflowError)
    assert str(done.exception).startswith(f"--kibana {url}: ")
    assert "\n" not in str(done.exception)
