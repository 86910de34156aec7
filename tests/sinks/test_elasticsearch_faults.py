"""What the Elasticsearch sink does when the store fails it: nothing lost, nothing twice, memory bounded."""

from __future__ import annotations

import asyncio
import base64
import http.server
import json
import os
import ssl
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import orjson
import pytest
from aiokafka.errors import KafkaTimeoutError, NotLeaderForPartitionError, TopicAuthorizationFailedError

from tests.guard import temporary_folder
from tests.services.elasticsearch import NOBODY, started
from tests.sinks.documents import DAY_S, whole_log
from tests.sinks.elasticsearch_sink import BOUND_S, INDEX, Running, events, names, stored, whole
from tests.sinks.serving import PassingOn, serving
from tests.sinks.small_disk import small_disk
from tierflow.schemas import topics
from tierflow.schemas.clock import NS_PER_S, ManualClock
from tierflow.schemas.errors import ConfigurationError, TransientError, UnavailableError
from tierflow.sinks import metrics as counted
from tierflow.sinks.elasticsearch.app import AppSettings, keep
from tierflow.sinks.elasticsearch.client import Connection, ElasticsearchSettings
from tierflow.sinks.elasticsearch.indices import IndexSettings
from tierflow.sinks.elasticsearch.sink import SinkSettings
from tierflow.sinks.elasticsearch.writer import ElasticsearchWriter
from tierflow.sinks.retry import Retry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.services.elasticsearch import Elasticsearch

# A node may take minutes to start on a busy machine, and whichever test needs one first waits for it.
pytestmark = pytest.mark.timeout(900)


def test_a_node_has_all_its_files_in_its_own_folder(elasticsearch: Elasticsearch) -> None:
    started = {int(path.name) for path in Path("/proc").glob("[0-9]*") if _of_session(path, elasticsearch.pid)}
    assert len(started) >= 2, "the launcher and the node"
    used = set()
    for pid in started:
        mapped = (line.split(maxsplit=5) for line in Path(f"/proc/{pid}/maps").read_text().splitlines())
        used |= {fields[5] for fields in mapped if len(fields) == 6}
        used |= {str(each.readlink()) for each in Path(f"/proc/{pid}/fd").iterdir()}
    there = {Path(name) for name in used if not name.endswith(" (deleted)")}
    temporary = {path for path in there if path.is_relative_to(tempfile.gettempdir())}
    assert any("jansi" in path.name for path in temporary), "it unpacks a library"
    assert {path for path in temporary if not path.is_relative_to(elasticsearch.folder)} == set()


def _of_session(process: Path, leader: int) -> bool:
    try:
        return int((process / "stat").read_text().rpartition(")")[2].split()[3]) == leader
    except OSError:
        return False


async def test_a_replay_after_a_crash_before_the_commit_changes_nothing(elasticsearch: Elasticsearch) -> None:
    for _ in range(2):
        running = Running(elasticsearch.url, names("replay"))
        running.writer.prepare(INDEX)
        await running.feed(events(300))
        assert stored(elasticsearch, running.names) == whole(300)
    assert running.metrics.value(counted.REPEATED) == 300
    assert running.metrics.value(counted.DOCUMENTS, topic=topics.FLOWS_LOGS.name, result="stored") == 300


async def test_documents_that_cannot_be_used_go_to_the_dead_letter_topic_with_the_reason(
    elasticsearch: Elasticsearch,
) -> None:
    running = Running(elasticsearch.url, names("dead"))
    running.writer.prepare(INDEX)
    refused = orjson.dumps(whole_log(id="x", source_ip="not an address", start_time=DAY_S))
    await running.feed(events(10, b"{no json", orjson.dumps({"id": "1"}), refused))
    assert [letter["reason"] for letter in running.letters] == ["bad_json", "schema", "store"]
    assert [letter["offset"] for letter in running.letters] == [10, 11, 12]
    assert base64.b64decode(running.letters[2]["value_base64"]) == refused
    assert "source_ip" in running.letters[2]["detail"]
    assert stored(elasticsearch, running.names) == whole(10)
    assert running.metrics.value(counted.DOCUMENTS, topic=topics.FLOWS_LOGS.name, result="rejected") == 3


async def test_a_broker_away_from_dead_letters_is_waited_for(elasticsearch: Elasticsearch) -> None:
    running = Running(
        elasticsearch.url, names("brokeraway"), broker_errors=[KafkaTimeoutError(), NotLeaderForPartitionError()]
    )
    running.writer.prepare(INDEX)
    await running.feed(events(10, b"{no json"))
    assert [letter["reason"] for letter in running.letters] == ["bad_json"]
    assert stored(elasticsearch, running.names) == whole(10)
    assert running.metrics.value(counted.RETRIES, cause="dead_letter") == 2


async def test_a_broker_that_refuses_dead_letters_for_good_ends_the_sink_and_nothing_is_acknowledged(
    elasticsearch: Elasticsearch,
) -> None:
    running = Running(elasticsearch.url, names("brokerno"), broker_errors=[TopicAuthorizationFailedError()])
    running.writer.prepare(INDEX)
    given = events(10, b"{no json")
    with pytest.raises(TopicAuthorizationFailedError):
        await running.feed(given)
    assert not any(event.acknowledged for event in given)


async def test_a_topic_of_which_most_is_refused_stops_the_sink_and_acknowledges_nothing(
    elasticsearch: Elasticsearch,
) -> None:
    settings = SinkSettings(linger_s=0.2)
    running = Running(elasticsearch.url, names("wrong"), settings)
    running.writer.prepare(INDEX)
    given = events(20, *([b"{}"] * 180))
    with pytest.raises(UnavailableError, match="180 of 200 documents refused"):
        await running.feed(given)
    assert not any(event.acknowledged for event in given)
    assert running.letters == []


async def test_a_read_only_index_is_waited_out(elasticsearch: Elasticsearch) -> None:
    running = Running(elasticsearch.url, names("readonly"))
    running.writer.prepare(INDEX)
    index = running.names.of("flows", "", DAY_S)
    block = "index.blocks.read_only_allow_delete"
    elasticsearch.ask("PUT", f"/{index}")
    elasticsearch.ask("PUT", f"/{index}/_settings", {block: True})
    await running.feed(events(200), lambda: elasticsearch.ask("PUT", f"/{index}/_settings", {block: None}) and None)
    assert stored(elasticsearch, running.names) == whole(200)
    assert running.metrics.value(counted.STORE_UP) == 1
    assert running.metrics.value(counted.RETRIES, cause="blocked") >= 1
    assert running.letters == []


@pytest.fixture(scope="module")
def fragile() -> Iterator[Elasticsearch]:
    """A node of these tests' own, that thinks its disk full at 60 MiB less than it has."""
    with temporary_folder("tierflow-disk-") as parent, small_disk(parent / "data", 200) as folder:
        os.chown(folder, NOBODY, NOBODY)
        parent.chmod(0o755)
        mark = "cluster.routing.allocation.disk."
        settings = {
            "path.data": str(folder), f"{mark}threshold_enabled": "true", f"{mark}watermark.low": "80mb",
            f"{mark}watermark.high": "70mb", f"{mark}watermark.flood_stage": "60mb",
            "cluster.info.update.interval": "10s",
        }  # fmt: skip
        with started(settings) as node:
            yield node


@pytest.mark.root
async def test_a_disk_past_its_flood_stage_is_waited_out(fragile: Elasticsearch) -> None:
    running = Running(fragile.url, names("flooded"))
    running.writer.prepare(INDEX)
    await running.feed(events(100))
    ballast = Path(fragile.settings["path.data"]) / "ballast"
    ballast.write_bytes(bytes(160 << 20))
    index = running.names.of("flows", "", DAY_S)

    def blocked() -> None:
        held: Any = fragile.ask("GET", f"/{index}/_settings")
        assert held[index]["settings"]["index"]["blocks"]["read_only_allow_delete"] == "true"

    fragile.wait_for(blocked)
    again = Running(fragile.url, running.names)
    await again.feed(events(300), ballast.unlink)
    assert stored(fragile, running.names) == whole(300)
    assert again.metrics.value(counted.RETRIES, cause="blocked") >= 1
    assert again.metrics.value(counted.STORE_UP) == 1
    assert again.letters == []


@pytest.mark.root
async def test_elasticsearch_killed_in_the_middle_and_started_again_has_every_document_once(
    fragile: Elasticsearch,
) -> None:
    running = Running(fragile.url, names("killed"))
    running.writer.prepare(INDEX)
    await running.feed(events(100))
    fragile.kill()
    again = Running(fragile.url, running.names)
    await again.feed(events(400), fragile.start)
    assert stored(fragile, running.names) == whole(400)
    assert again.metrics.value(counted.REPEATED) >= 100


class _Busy(PassingOn):
    """Every other bulk gets 429, and one that was passed on gets 503, as if it hadn't been taken."""

    bulks = 0

    def handle_request(self) -> None:
        kind = type(self)
        if "_bulk" not in self.path:
            self.pass_on()
            return
        kind.bulks += 1
        if kind.bulks % 2:
            self.answer(429, b'{"error": {"type": "es_rejected_execution_exception", "reason": "full"}}')
            return
        status, answer = self.asked()
        if kind.bulks == 2:
            status, answer = 503, b'{"error": {"type": "unavailable", "reason": "gone after the write"}}'
        self.answer(status, answer)


async def test_429_and_an_answer_lost_after_the_write_lose_and_double_nothing(elasticsearch: Elasticsearch) -> None:
    handler = type("Busy", (_Busy,), {"target": elasticsearch.url})
    with serving(handler) as port:
        running = Running(f"http://127.0.0.1:{port}", names("busy"))
        running.writer.prepare(INDEX)
        await running.feed(events(200))
    assert stored(elasticsearch, running.names) == whole(200)
    assert running.metrics.value(counted.REPEATED) > 0
    assert running.metrics.value(counted.FAILURES) >= 4


async def test_a_store_that_takes_nothing_stops_the_reading_at_the_bound() -> None:
    settings = SinkSettings(linger_s=0, max_pending_bytes=20_000, max_documents=5, retry=Retry(0.01, 0.01))
    running = Running("http://127.0.0.1:1", names("away"), settings)
    given = events(200)
    size = len(given[0].message.value)
    taking = asyncio.create_task(running._feed(given))
    storing = asyncio.create_task(running.sink.run(running.stop))
    async with asyncio.timeout(BOUND_S):
        while running.metrics.value(counted.FAILURES) < 3:  # noqa: ASYNC110 - a condition, with a bound
            await asyncio.sleep(0.01)
    assert not taking.done()
    assert running.sink._bytes <= settings.max_pending_bytes + size
    running.stop.set()
    taking.cancel()
    await asyncio.gather(storing, taking, return_exceptions=True)
    assert not any(event.acknowledged for event in given)


def test_an_index_of_another_mapping_is_named_with_its_field(elasticsearch: Elasticsearch) -> None:
    index = names("conflict").of("flows", "", DAY_S)
    elasticsearch.ask("PUT", f"/{index}", {"mappings": {"properties": {"id": {"type": "long"}}}})
    with pytest.raises(ConfigurationError, match=f"index {index} .*: field id is long, must be keyword"):
        Running(elasticsearch.url, names("conflict")).writer.prepare(INDEX)


def prepare(url: str, **settings: Any) -> None:
    ElasticsearchWriter(Connection(ElasticsearchSettings(url, **settings)), names("x")).prepare(INDEX)


@pytest.mark.parametrize(
    "url", ["nonsense", "ftp://host:1", "http://", "http://host:port", "http://a b", "http://[::1"]
)
def test_a_wrong_url_is_refused_by_name(url: str) -> None:
    with pytest.raises(ConfigurationError, match="accepted is https://HOST:PORT"):
        prepare(url)


def test_a_password_in_the_url_is_refused_and_not_repeated() -> None:
    with pytest.raises(ConfigurationError, match="no user name or password in the URL") as caught:
        prepare("http://elastic:hunter2@127.0.0.1:1")
    assert "hunter2" not in str(caught.value)


def test_nothing_listening_is_worth_waiting_for() -> None:
    with pytest.raises(TransientError, match=r"http://127\.0\.0\.1:1: "):
        prepare("http://127.0.0.1:1")


class _Other(http.server.BaseHTTPRequestHandler):
    status, body, product = 200, b"{}", ""

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(self.status)
        self.send_header("Content-Type", "application/json")
        if self.product:
            self.send_header("X-Elastic-Product", self.product)
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *arguments: object) -> None:
        del arguments


def test_another_product_or_version_is_told_in_one_line() -> None:
    with serving(_Other) as port, pytest.raises(UnavailableError, match="Elasticsearch 8 and 9") as told:
        prepare(f"http://127.0.0.1:{port}")
    assert "\n" not in str(told.value)


def test_a_wrong_password_names_the_settings() -> None:
    body = json.dumps({"error": {"type": "security_exception", "reason": "no"}, "status": 401}).encode()
    handler = type("Refusing", (_Other,), {"status": 401, "body": body, "product": "Elasticsearch"})
    with serving(handler) as port, pytest.raises(UnavailableError, match="--elasticsearch-username"):
        prepare(f"http://127.0.0.1:{port}", username="u", password="wrong")


def test_an_expired_certificate_is_told_in_one_line(tmp_path: Path) -> None:
    key, fresh, certificate = tmp_path / "key.pem", tmp_path / "fresh.pem", tmp_path / "certificate.pem"
    for arguments in (
        ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", fresh, "-subj", "/CN=127.0.0.1",
         "-addext", "subjectAltName=IP:127.0.0.1", "-days", "1"],
        # Only this form takes a negative number of days.
        ["x509", "-in", fresh, "-signkey", key, "-days", "-1", "-out", certificate],
    ):  # fmt: skip
        subprocess.run(["openssl", *arguments], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with serving(_Other, context) as port, pytest.raises(UnavailableError, match="expired") as told:
        prepare(f"https://127.0.0.1:{port}", ca_file=certificate)
    assert "\n" not in str(told.value)


def test_retention_deletes_whole_days_past_the_last_kept_and_nothing_else(elasticsearch: Elasticsearch) -> None:
    writer = Running(elasticsearch.url, names("old")).writer
    writer.prepare(INDEX)
    kept, gone = names("old").of("flows", "", DAY_S - 2 * 86_400), names("old").of("flows", "", DAY_S - 3 * 86_400)
    for index in (kept, gone, "old_flows-archive"):
        elasticsearch.ask("PUT", f"/{index}")
    assert writer.forget(DAY_S + 5, keep_days=2) == [gone]


async def test_beside_the_sink_old_indices_go_and_templates_are_put_again(elasticsearch: Elasticsearch) -> None:
    running, stop = Running(elasticsearch.url, names("kept")), asyncio.Event()
    running.writer.prepare(INDEX)
    elasticsearch.ask("PUT", f"/{running.names.of('flows', '', DAY_S - 9 * 86_400)}")
    template = f"/_index_template/{running.names.template('flows')}"
    elasticsearch.ask("DELETE", template)
    settings = AppSettings("nowhere:1", keep_days=8, index=INDEX)
    clock = ManualClock((DAY_S + 5) * NS_PER_S)
    keeping = asyncio.create_task(keep(settings, running.writer, clock, running.metrics, stop))
    async with asyncio.timeout(BOUND_S):
        while running.metrics.value(counted.FORGOTTEN) != 1:  # noqa: ASYNC110 - a condition, with a bound
            await asyncio.sleep(0.01)
    await asyncio.to_thread(elasticsearch.wait_for, lambda: elasticsearch.ask("GET", template))
    stop.set()
    await keeping


def test_a_lifecycle_policy_that_the_cluster_lacks_is_told_in_one_line(elasticsearch: Elasticsearch) -> None:
    running = Running(elasticsearch.url, names("lifecycle"))
    # This distribution has no lifecycle management at all.
    with pytest.raises(ConfigurationError, match=r"--elasticsearch-lifecycle kept: .* no lifecycle management"):
        running.writer.prepare(IndexSettings(lifecycle="kept"))


class _Managed(PassingOn):
    """A cluster with lifecycle management and the policy ``kept``; templates are kept, as ours would refuse them."""

    templates: ClassVar[list[dict[str, Any]]] = []

    def handle_request(self) -> None:
        if self.path.startswith("/_ilm/policy/"):
            known = self.path.endswith("/kept")
            self.answer(200 if known else 404, b'{"kept": {"policy": {}}}' if known else b'{"error": "none"}')
        elif self.path.startswith("/_index_template/"):
            self.templates.append(json.loads(self.body))
            self.answer(200, b'{"acknowledged": true}')
        else:
            self.pass_on()


def test_a_lifecycle_policy_goes_into_every_template(elasticsearch: Elasticsearch) -> None:
    with serving(type("Managed", (_Managed,), {"target": elasticsearch.url})) as port:
        writer = Running(f"http://127.0.0.1:{port}", names("managed")).writer
        writer.prepare(IndexSettings(lifecycle="kept"))
        with pytest.raises(ConfigurationError, match="no such policy"):
            writer.prepare(IndexSettings(lifecycle="other"))
    held = [template["template"]["settings"]["index"]["lifecycle"] for template in _Managed.templates]
    assert held == [{"name": "kept"}] * 3
