"""What the Elasticsearch sink does when the store fails it: nothing lost, nothing twice, memory bounded."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import http.server
import json
import ssl
import subprocess
import threading
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from tests.services.elasticsearch import started
from tests.sinks.documents import DAY_S, whole_log
from tierflow.schemas import topics
from tierflow.schemas.clock import ManualClock
from tierflow.schemas.errors import ConfigurationError, TransientError, UnavailableError
from tierflow.schemas.metrics import Metrics
from tierflow.sinks import metrics as counted
from tierflow.sinks.elasticsearch.client import ElasticsearchSettings, connect
from tierflow.sinks.elasticsearch.indices import IndexNames
from tierflow.sinks.elasticsearch.sink import ElasticsearchSink, SinkSettings
from tierflow.sinks.elasticsearch.writer import ElasticsearchWriter
from tierflow.sinks.retry import Retry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.services.elasticsearch import Elasticsearch

BOUND_S = 60


@dataclass
class Message:
    """As Faust's, by what the sink reads."""

    value: bytes
    offset: int
    topic: str = topics.FLOWS_LOGS.name
    partition: int = 0
    key: bytes = b"node"


@dataclass
class Event:
    """As Faust's."""

    message: Message
    acknowledged: bool = False

    def ack(self) -> bool:
        self.acknowledged = True
        return True


@dataclass
class Running:
    """A sink under test, with what it sent to the dead-letter topic."""

    url: str
    names: IndexNames
    settings: SinkSettings = field(
        default_factory=lambda: SinkSettings(linger_s=0, max_documents=50, retry=Retry(0.05, 0.2))
    )
    metrics: Metrics = field(default_factory=Metrics)
    letters: list[dict[str, Any]] = field(default_factory=list)
    stop: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.writer = ElasticsearchWriter(connect(ElasticsearchSettings(self.url, timeout_s=5)), self.names, self.url)
        self.sink = ElasticsearchSink(
            self.writer, self.names, self._send, ManualClock(0), self.metrics, lambda: 0.5, self.settings
        )

    async def _send(self, key: bytes, value: bytes) -> None:
        assert key == topics.FLOWS_LOGS.name.encode()
        self.letters.append(orjson.loads(value))

    async def feed(self, events: list[Event], meanwhile: Callable[[], None] | None = None) -> None:
        """Hand over events and run until all are acknowledged; ``meanwhile`` runs once the sink waits for the store."""
        running = asyncio.create_task(self.sink.run(self.stop))
        feeding = asyncio.create_task(self._feed(events))
        try:
            async with asyncio.timeout(BOUND_S):
                if meanwhile is not None:
                    while self.metrics.value(counted.FAILURES) == 0:  # noqa: ASYNC110 - a condition, with a bound
                        await asyncio.sleep(0.01)
                    assert self.metrics.value(counted.STORE_UP) == 0
                    assert not all(event.acknowledged for event in events)
                    await asyncio.to_thread(meanwhile)
                while not all(event.acknowledged for event in events):
                    if running.done():
                        running.result()
                    await asyncio.sleep(0.01)
        finally:
            self.stop.set()
            feeding.cancel()
            await asyncio.gather(running, feeding, return_exceptions=True)

    async def _feed(self, events: list[Event]) -> None:
        for event in events:
            await self.sink.take(event)


def events(count: int, *more: bytes) -> list[Event]:
    values = [orjson.dumps(whole_log(id=f"{number:06x}", bytes_in=number, start_time=DAY_S)) for number in range(count)]
    return [Event(Message(value, offset)) for offset, value in enumerate([*values, *more])]


def stored(node: Elasticsearch, names: IndexNames) -> tuple[int, int]:
    """Number of documents, and the sum of a field: neither a lost nor a doubled one leaves both as they were."""
    index = names.all_of("flows")
    node.ask("POST", f"/{index}/_refresh")
    answer: Any = node.ask(
        "POST", f"/{index}/_search",
        {"size": 0, "track_total_hits": True, "aggs": {"bytes": {"sum": {"field": "bytes_in"}}}},
    )  # fmt: skip
    return answer["hits"]["total"]["value"], int(answer["aggregations"]["bytes"]["value"])


def whole(count: int) -> tuple[int, int]:
    return count, count * (count - 1) // 2


def names(text: str) -> IndexNames:
    return IndexNames(f"{text}_{{kind}}-{{day}}")


async def test_a_replay_after_a_crash_before_the_commit_changes_nothing(elasticsearch: Elasticsearch) -> None:
    for _ in range(2):
        running = Running(elasticsearch.url, names("replay"))
        running.writer.prepare(shards=1, replicas=0)
        await running.feed(events(300))
        assert stored(elasticsearch, running.names) == whole(300)
    assert running.metrics.value(counted.REPEATED) == 300
    assert running.metrics.value(counted.DOCUMENTS, topic=topics.FLOWS_LOGS.name, result="stored") == 300


async def test_documents_that_cannot_be_used_go_to_the_dead_letter_topic_with_the_reason(
    elasticsearch: Elasticsearch,
) -> None:
    running = Running(elasticsearch.url, names("dead"))
    running.writer.prepare(shards=1, replicas=0)
    refused = orjson.dumps(whole_log(id="x", source_ip="not an address", start_time=DAY_S))
    await running.feed(events(10, b"{no json", orjson.dumps({"id": "1"}), refused))
    assert [letter["reason"] for letter in running.letters] == ["bad_json", "schema", "store"]
    assert [letter["offset"] for letter in running.letters] == [10, 11, 12]
    assert base64.b64decode(running.letters[2]["value_base64"]) == refused
    assert "source_ip" in running.letters[2]["detail"]
    assert stored(elasticsearch, running.names) == whole(10)
    assert running.metrics.value(counted.DOCUMENTS, topic=topics.FLOWS_LOGS.name, result="rejected") == 3


async def test_a_topic_of_which_most_is_refused_stops_the_sink_and_acknowledges_nothing(
    elasticsearch: Elasticsearch,
) -> None:
    settings = SinkSettings(linger_s=0.2, judged=100)
    running = Running(elasticsearch.url, names("wrong"), settings)
    running.writer.prepare(shards=1, replicas=0)
    given = events(20, *([b"{}"] * 180))
    with pytest.raises(UnavailableError, match="180 of 200 documents refused"):
        await running.feed(given)
    assert not any(event.acknowledged for event in given)
    assert running.letters == []


async def test_a_read_only_index_is_waited_out(elasticsearch: Elasticsearch) -> None:
    running = Running(elasticsearch.url, names("readonly"))
    running.writer.prepare(shards=1, replicas=0)
    index = running.names.of("flows", "", DAY_S)
    block = "index.blocks.read_only_allow_delete"
    elasticsearch.ask("PUT", f"/{index}")
    elasticsearch.ask("PUT", f"/{index}/_settings", {block: True})
    await running.feed(events(200), lambda: elasticsearch.ask("PUT", f"/{index}/_settings", {block: None}) and None)
    assert stored(elasticsearch, running.names) == whole(200)
    assert running.metrics.value(counted.STORE_UP) == 1
    assert running.metrics.value(counted.RETRIES, cause="blocked") >= 1
    assert running.letters == []


async def test_elasticsearch_killed_in_the_middle_and_started_again_has_every_document_once() -> None:
    with started() as node:
        running = Running(node.url, names("killed"))
        running.writer.prepare(shards=1, replicas=0)
        await running.feed(events(100))
        node.kill()
        again = Running(node.url, running.names)
        await again.feed(events(400), node.start)
        assert stored(node, running.names) == whole(400)
        assert again.metrics.value(counted.REPEATED) >= 100


class _Busy(http.server.BaseHTTPRequestHandler):
    """A proxy: every other bulk gets 429, and one that was passed on gets 503, as if it hadn't been taken."""

    target = ""
    bulks = 0

    def _pass_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        kind = type(self)
        if "_bulk" in self.path:
            kind.bulks += 1
            if kind.bulks % 2:
                self._answer(429, b'{"error": {"type": "es_rejected_execution_exception", "reason": "full"}}')
                return
        # The client's media types name the version that it speaks.
        headers = {name: value for name in ("Content-Type", "Accept") if (value := self.headers.get(name))}
        request = urllib.request.Request(self.target + self.path, body or None, headers, method=self.command)
        try:
            with urllib.request.urlopen(request, timeout=10) as response:
                status, answer = response.status, response.read()
        except urllib.error.HTTPError as error:
            status, answer = error.code, error.read()
        if "_bulk" in self.path and kind.bulks == 2:
            status, answer = 503, b'{"error": {"type": "unavailable", "reason": "gone after the write"}}'
        self._answer(status, answer)

    do_POST = do_PUT = do_GET = _pass_on  # noqa: N815 - the names that http.server calls

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/vnd.elasticsearch+json;compatible-with=8")
        self.send_header("X-Elastic-Product", "Elasticsearch")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        del arguments


@contextlib.contextmanager
def serving(handler: type[http.server.BaseHTTPRequestHandler], context: ssl.SSLContext | None = None) -> Iterator[int]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        if context is not None:
            server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        server.handle_error = lambda *_: None  # type: ignore[method-assign]  # a refused handshake is what is tested
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


async def test_429_and_an_answer_lost_after_the_write_lose_and_double_nothing(elasticsearch: Elasticsearch) -> None:
    handler = type("Busy", (_Busy,), {"target": elasticsearch.url})
    with serving(handler) as port:
        running = Running(f"http://127.0.0.1:{port}", names("busy"))
        running.writer.prepare(shards=1, replicas=0)
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
        Running(elasticsearch.url, names("conflict")).writer.prepare(shards=1, replicas=0)


def prepare(url: str, **settings: Any) -> None:
    ElasticsearchWriter(connect(ElasticsearchSettings(url, **settings)), names("x"), url).prepare(shards=1, replicas=0)


@pytest.mark.parametrize("url", ["nonsense", "ftp://host:1", "http://", "http://host:port"])
def test_a_wrong_url_is_refused_by_name(url: str) -> None:
    with pytest.raises(ConfigurationError, match="accepted is https://HOST:PORT"):
        prepare(url)


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
    writer.prepare(shards=1, replicas=0)
    kept, gone = names("old").of("flows", "", DAY_S - 2 * 86_400), names("old").of("flows", "", DAY_S - 3 * 86_400)
    for index in (kept, gone, "old_flows-archive"):
        elasticsearch.ask("PUT", f"/{index}")
    assert writer.forget(DAY_S + 5, keep_days=2) == [gone]
