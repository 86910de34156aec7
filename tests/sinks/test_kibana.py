"""The query of each panel, taken from the saved object itself, on the real store; and the import into a Kibana."""

from __future__ import annotations

import base64
import email
import http.server
import itertools
import json
import re
from typing import TYPE_CHECKING, Any, ClassVar

import orjson
import pytest
from click.testing import CliRunner, Result

from tests.console.storefront import Traffic
from tests.sinks.documents import DAY_S, whole_counter, whole_log
from tests.sinks.elasticsearch_sink import INDEX
from tests.sinks.serving import serving
from tierflow.cli.kibana import command
from tierflow.schemas.errors import TierflowError
from tierflow.sinks.elasticsearch.client import Connection, ElasticsearchSettings
from tierflow.sinks.elasticsearch.indices import DEFAULT_NAMES, KINDS, IndexNames
from tierflow.sinks.elasticsearch.writer import Document, ElasticsearchWriter
from tierflow.sinks.kibana.panels import COUNTER_PANELS, FLOW_PANELS
from tierflow.sinks.kibana.saved_objects import export

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.services.elasticsearch import Elasticsearch

# A node may take minutes to start on a busy machine, and whichever test needs one first waits for it.
pytestmark = pytest.mark.timeout(900)

PATTERN = "kibana_{kind}.{cluster}.{day}"
STOREFRONT = "front_{kind}.{cluster}.{day}"
DENIALS = {
    "default|storefront/default.dmz|deny|1",
    "default|storefront/default.trusted|deny|2",
    "default|storefront/default.restricted|deny|2",
    "platform|platform.logging|deny|1",
}
ROGUE = "1|default|storefront/default.trusted|deny|2"

Saved = dict[str, Any]
Documents = dict[str, list[dict[str, Any]]]


def objects(pattern: str = DEFAULT_NAMES) -> dict[str, Saved]:
    *lines, _ = export(IndexNames(pattern)).splitlines()
    return {saved["id"]: saved for saved in map(json.loads, lines)}


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
    writer = ElasticsearchWriter(Connection(ElasticsearchSettings(elasticsearch.url)), names)
    writer.prepare(INDEX)
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


def value_of(document: dict[str, Any], field: str) -> Any:
    value: Any = document
    for part in field.split("."):
        value = value[part]
    return value


def plain_rows(saved: Saved, documents: list[dict[str, Any]]) -> dict[tuple[Any, ...], tuple[Any, ...]]:
    """The same table by hand: documents chosen and grouped in Python, a value of an array a group of its own."""
    state = json.loads(saved["attributes"]["visState"])
    text = json.loads(saved["attributes"]["kibanaSavedObjectMeta"]["searchSourceJSON"])["query"]["query"]
    field, _, value = text.partition(" : ")
    metrics = [each for each in state["aggs"] if each["schema"] == "metric"]
    found: dict[tuple[Any, ...], list[int]] = {}
    for document in documents:
        if text and value_of(document, field) != value.strip('"'):
            continue
        keys = []
        for each in (each for each in state["aggs"] if each["schema"] != "metric"):
            held = value_of(document, each["params"]["field"])
            if each["type"] == "date_histogram":
                held = held // 3600 * 3_600_000
            keys.append(held if isinstance(held, list) else [held])
        for key in itertools.product(*keys):
            sums = found.setdefault(key, [0] * len(metrics))
            for at, metric in enumerate(metrics):
                sums[at] += 1 if metric["type"] == "count" else value_of(document, metric["params"]["field"])
    return {key: tuple(sums) for key, sums in found.items()}


@pytest.fixture(scope="module")
def storefront(elasticsearch: Elasticsearch) -> Documents:
    """Two hours of the storefront, the rogue in the second, judged by its real policies."""
    traffic, logs, counters = Traffic(), list[dict[str, Any]](), list[dict[str, Any]]()
    for number in range(8):
        more = traffic.window(DAY_S + 900 * (number + 1), rogue=number >= 4)
        logs += more[0]
        counters += more[1]
    names = IndexNames(STOREFRONT)
    writer = ElasticsearchWriter(Connection(ElasticsearchSettings(elasticsearch.url)), names)
    writer.prepare(INDEX)
    given = {"flows": logs, "policy_counters": counters}
    documents = [
        Document(kind, names.of(kind, "", each["start_time"]), each["id"], orjson.dumps(each))
        for kind, some in given.items()
        for each in some
    ]
    assert writer.write(documents, lambda _: None).added == len(documents)
    elasticsearch.ask("POST", "/front_*/_refresh")
    return given


@pytest.mark.parametrize("panel", [each.id for each in (*FLOW_PANELS, *COUNTER_PANELS)])
def test_on_the_storefront_each_panel_shows_what_its_documents_add_up_to(
    elasticsearch: Elasticsearch, storefront: Documents, panel: str
) -> None:
    found = objects(STOREFRONT)
    saved = found[panel]
    index = found[saved["references"][0]["id"]]["attributes"]["title"]
    metrics = [each["id"] for each in json.loads(saved["attributes"]["visState"])["aggs"] if each["schema"] == "metric"]
    answer: Any = elasticsearch.ask("POST", f"/{index}/_search", query_of(saved))
    splits = len(json.loads(saved["attributes"]["visState"])["aggs"]) - len(metrics)
    rows = {row[:splits]: row[splits:] for row in rows_of(answer["aggregations"], metrics)}
    expected = plain_rows(saved, storefront["flows" if "front_flows" in index else "policy_counters"])
    assert rows
    assert {key: rows[key] for key in rows} == {key: expected[key] for key in rows}
    if panel == "tierflow-denied-by-policy":
        # All there is, and it is the rogue's five targets: three tiers' rules, the trusted zone's for two of them.
        assert rows.keys() == expected.keys()
        assert {
            hit.split("|", 1)[1] for hit, source in rows if source.startswith("rogue") and "|deny|" in hit
        } == DENIALS


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
    """Answers an import as Kibana's documentation has it; refuses a form that isn't the documented one."""

    got: ClassVar[dict[str, Any]] = {}
    status = 200
    answer: ClassVar[dict[str, Any]] = {"success": True, "successCount": 10}

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        form = email.message_from_bytes(b"Content-Type: " + self.headers["Content-Type"].encode() + b"\r\n\r\n" + body)
        (part,) = form.get_payload()
        file = part.get_payload(decode=True)  # type: ignore[union-attr]  # a part of a multipart message
        type(self).got = {
            "path": self.path, "headers": dict(self.headers), "file": file, "name": part.get_filename(),  # type: ignore[union-attr]  # as above
        }  # fmt: skip
        answer = json.dumps(self.answer).encode()
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *arguments: object) -> None:
        del arguments


def imported(handler: type[_Kibana], *arguments: str, space: str = "", **variables: str) -> Result:
    with serving(handler) as port:
        return CliRunner().invoke(
            command, ["import", "--kibana", f"http://127.0.0.1:{port}{space}", *arguments], env=variables
        )


def test_import_sends_the_file_as_kibana_wants_it() -> None:
    done = imported(_Kibana, space="/s/space", TIERFLOW_KIBANA_API_KEY="k")
    assert done.exit_code == 0, done.output
    assert "10 saved objects imported" in done.output
    assert _Kibana.got["path"] == "/s/space/api/saved_objects/_import?overwrite=true"
    assert _Kibana.got["headers"]["kbn-xsrf"] == "true"
    assert _Kibana.got["headers"]["Authorization"] == "ApiKey k"
    assert _Kibana.got["name"].endswith(".ndjson")
    assert _Kibana.got["file"].replace(b"\r\n", b"\n") == export(IndexNames())


def test_import_takes_the_names_of_the_indices_and_a_user(tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("p\n")
    pattern = "tigera_secure_ee_{kind}.{cluster}.{day}"
    done = imported(
        _Kibana,
        "--kibana-username",
        "u",
        "--no-overwrite",
        "--elasticsearch-index",
        pattern,
        "--kibana-password-file",
        str(password),
    )
    assert done.exit_code == 0, done.output
    assert _Kibana.got["path"].endswith("overwrite=false")
    assert _Kibana.got["headers"]["Authorization"] == "Basic " + base64.b64encode(b"u:p").decode()
    assert b"tigera_secure_ee_flows.*.*" in _Kibana.got["file"]


@pytest.mark.parametrize(
    ("status", "answer", "said"),
    [
        (401, {"statusCode": 401, "message": "no"}, "401"),
        (200, {"success": False, "errors": [{"id": "x", "error": {"type": "conflict"}}]}, "object x refused.*conflict"),
        (422, {"message": "Document belongs to a more recent version of Kibana"}, "more recent version"),
    ],
)
def test_an_import_that_kibana_refuses_is_one_line(status: int, answer: dict[str, Any], said: str) -> None:
    done = imported(type("Refusing", (_Kibana,), {"status": status, "answer": answer}))
    assert isinstance(done.exception, TierflowError)
    assert re.search(said, str(done.exception))
    assert "\n" not in str(done.exception)


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "ftp://kibana", "kibana:5601"])
def test_a_kibana_that_is_not_there_is_one_line(url: str) -> None:
    done = CliRunner().invoke(command, ["import", "--kibana", url])
    assert isinstance(done.exception, TierflowError)
    assert str(done.exception).startswith(f"--kibana {url}: ")
    assert "\n" not in str(done.exception)
