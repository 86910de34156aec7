"""A real Elasticsearch with its security on: TLS of an own authority, users, API keys; and all of them renewed."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import pytest

from tests.services.certificates import Authority
from tests.services.elasticsearch import User, secured, started, user_files
from tests.sinks.elasticsearch_sink import INDEX, Running, events, names, stored, whole
from tests.sinks.serving import PassingOn, serving
from tierflow.schemas.errors import ConfigurationError, TierflowError, UnavailableError
from tierflow.sinks import metrics as counted
from tierflow.sinks.elasticsearch.client import Connection, ElasticsearchSettings
from tierflow.sinks.elasticsearch.store import ElasticsearchStore
from tierflow.sinks.elasticsearch.writer import ElasticsearchWriter
from tierflow.sinks.read.interface import Filter

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.services.elasticsearch import Elasticsearch

# A node may take minutes to start on a busy machine, and whichever test needs one first waits for it.
pytestmark = pytest.mark.timeout(900)

ADMIN = User("admin", "of-the-tests")
SINK = User("tierflow", "first")
READER = User("reader", "only-reads", "reader")
KEY = base64.b64encode(b"id:key-of-the-tests").decode()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def node(authority: Authority) -> Iterator[Elasticsearch]:
    with started(**secured(authority, ADMIN, SINK, READER)) as running:
        yield running


def prepare(url: str, **settings: Any) -> None:
    writer = ElasticsearchWriter(Connection(ElasticsearchSettings(url, **settings)), names("secured"))
    writer.prepare(INDEX)


class _Keys(PassingOn):
    """Knows one API key: this distribution can't make any, as it lacks what its index of keys is analysed with."""

    def handle_request(self) -> None:
        if self.headers.get("Authorization") == f"ApiKey {KEY}":
            self.pass_on()
        else:
            self.answer(401, b'{"error": {"type": "security_exception", "reason": "unable to authenticate"}}')


def test_an_api_key_lets_in_and_a_wrong_one_is_told_in_one_line(elasticsearch: Elasticsearch, tmp_path: Path) -> None:
    held = tmp_path / "key"
    held.write_text(KEY + "\n")
    with serving(type("Keys", (_Keys,), {"target": elasticsearch.url})) as port:
        url = f"http://127.0.0.1:{port}"
        prepare(url, api_key=KEY)
        prepare(url, api_key_file=held)
        with pytest.raises(UnavailableError, match=r"401.*-api-key") as told:
            prepare(url, api_key="not-this-one")
    assert "\n" not in str(told.value)
    assert "not-this-one" not in str(told.value)


def test_a_user_who_may_not_write_is_told_in_one_line_what_is_missing(
    node: Elasticsearch, authority: Authority
) -> None:
    with pytest.raises(UnavailableError, match=r"may not do that \(403\).*index_template") as told:
        prepare(node.url, ca_file=authority.file, username=READER.name, password=READER.password)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"username": SINK.name, "password": "wrong"}, r"refuses these credentials \(401\)"),
        ({}, r"refuses these credentials \(401\)"),
        (
            {"username": SINK.name, "password": "first", "ca_file": None},
            "certificate verify failed.*--elasticsearch-ca-file",
        ),
    ],
)
def test_a_wrong_password_none_or_an_unknown_authority_is_one_line(
    node: Elasticsearch, authority: Authority, settings: dict[str, Any], said: str
) -> None:
    with pytest.raises(UnavailableError, match=said) as told:
        prepare(node.url, **{"ca_file": authority.file} | settings)
    assert "\n" not in str(told.value)
    assert "wrong" not in str(told.value)


def test_plain_http_to_a_port_with_tls_is_one_line(node: Elasticsearch) -> None:
    with pytest.raises(TierflowError, match="--elasticsearch http://") as told:
        prepare(node.url.replace("https", "http"))
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("content", "said"), [(None, "No such file"), ("", "the file is empty"), ("x", "exclude each other")]
)
def test_a_password_file_that_cannot_be_used_is_named(tmp_path: Path, content: str | None, said: str) -> None:
    path = tmp_path / "password"
    if content is not None:
        path.write_text(content)
    given = "y" if content else None
    with pytest.raises(ConfigurationError, match=said):
        Connection(ElasticsearchSettings("https://host:1", username=SINK.name, password=given, password_file=path))


async def test_a_rotated_password_is_waited_for_and_read_anew(
    node: Elasticsearch, authority: Authority, tmp_path: Path
) -> None:
    password = tmp_path / "password"
    password.write_text("first\n")
    settings = ElasticsearchSettings(
        node.url, authority.file, username=SINK.name, password_file=password, timeout_s=20
    )  # fmt: skip
    store = ElasticsearchStore(Connection(settings), names("rotated"))
    first = Running(settings, names("rotated"))
    first.writer.prepare(INDEX)
    await first.feed(events(50))
    node.ask("POST", f"/{first.names.all_of('flows')}/_refresh")
    assert len(store.flow_logs(Filter(), limit=200).logs) == 50
    rotated = User(SINK.name, "second")
    node.put(user_files(ADMIN, rotated, READER))
    node.wait_for(lambda: prepare(node.url, ca_file=authority.file, username=SINK.name, password="second"))
    again = Running(settings, first.names)

    await again.feed(events(200), lambda: password.write_text("second\n") and None)
    assert stored(node, first.names) == whole(200)
    assert again.metrics.value(counted.STORE_UP) == 1
    # The console's connection, open since before, takes the new password with its next question.
    assert len(store.flow_logs(Filter(), limit=200).logs) == 200


async def test_an_expired_certificate_is_waited_out_until_it_is_renewed(
    node: Elasticsearch, authority: Authority, tmp_path: Path
) -> None:
    settings = ElasticsearchSettings(
        node.url, authority.file, username=ADMIN.name, password=ADMIN.password, timeout_s=20
    )  # fmt: skip
    Running(settings, names("expired")).writer.prepare(INDEX)
    expired, fresh = authority.issue(days=-1), authority.issue()
    node.put({"http.key": expired.key, "http.pem": expired.chain})

    def told() -> str:
        # A connection of its own each time: one that is open stays so, whatever becomes of the certificate.
        try:
            Running(settings, names("expired")).writer.prepare(INDEX)
        except UnavailableError as error:
            return str(error)
        raise AssertionError("the certificate that is valid is still in use")

    node.wait_for(told)
    assert "certificate has expired" in told()
    assert "\n" not in told()
    running = Running(settings, names("expired"))
    await running.feed(events(100), lambda: node.put({"http.key": fresh.key, "http.pem": fresh.chain}))
    assert stored(node, running.names) == whole(100)
