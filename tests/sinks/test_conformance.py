"""One suite for every store: the same answers as the plain store in memory, over random documents and questions."""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import orjson
import pytest
import uvicorn
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.sinks.documents import DAY_S, FILTERS, counters, logs, losses, whole_log
from tests.sinks.elasticsearch_sink import INDEX
from tierflow.cli.web import Server, listening
from tierflow.schemas.errors import ConfigurationError
from tierflow.sinks.documents import FLOW_LOG_TYPES, LOSS_TYPES, POLICY_COUNTER_TYPES, flatten
from tierflow.sinks.duckdb.database import Database
from tierflow.sinks.duckdb.store import DuckDBStore
from tierflow.sinks.duckdb.tables import FLOW_LOGS, LOSSES, POLICY_COUNTERS
from tierflow.sinks.duckdb.writer import Load, Writer
from tierflow.sinks.elasticsearch.client import Connection, ElasticsearchSettings
from tierflow.sinks.elasticsearch.indices import KINDS, IndexNames
from tierflow.sinks.elasticsearch.store import ElasticsearchStore
from tierflow.sinks.elasticsearch.writer import Document, ElasticsearchWriter
from tierflow.sinks.read.interface import Filter, Store
from tierflow.sinks.read.memory import MemoryStore
from tierflow.sinks.read.remote import RemoteStore
from tierflow.sinks.read.serve import application

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from starlette.applications import Starlette
    from starlette.types import Receive, Scope, Send

    from tests.services.elasticsearch import Elasticsearch

# A node may take minutes to start on a busy machine, and whichever test needs one first waits for it.
pytestmark = pytest.mark.timeout(900)

Documents = Sequence[dict[str, Any]]

FIELDS = ["end_time", "start_time", "source_name_aggr", "dest_port", "bytes_in", "source_ip", "action", "derived"]
FACETS = ["source_namespace", "dest_port", "policies.all_policies", "source_labels.labels", "source_ip", "derived",
          "source_ips", "start_time", "labels", "names", "namespaces"]  # fmt: skip
PREFIXES = {
    "labels": "fw-",
    "names": "front",
    "source_ip": "10.",
    "source_namespace": "store",
    "source_labels.labels": "a*",
}
"""Of the fields that hold text; one has a character that patterns give a meaning to."""


class Case(Protocol):
    """A kind of store under test."""

    def fill(self, logs: Documents, counters: Documents = (), losses: Documents = ()) -> Store:
        """A fresh store with these documents, each written twice."""
        ...


class DuckDBCase:
    """The embedded store."""

    def __init__(self, folder: Path) -> None:
        self._paths = (folder / f"{number}.duckdb" for number in itertools.count())

    def fill(self, logs: Documents, counters: Documents = (), losses: Documents = ()) -> Store:
        database = Database(next(self._paths))
        writer = Writer(database)
        rows = {
            FLOW_LOGS: [flatten(log, FLOW_LOG_TYPES) for log in logs],
            POLICY_COUNTERS: [flatten(each, POLICY_COUNTER_TYPES) for each in counters],
            LOSSES: [flatten(each, LOSS_TYPES) for each in losses],
        }
        added = writer.write(Load(dict(rows)))
        assert (added, writer.write(Load(dict(rows)))) == (len(logs) + len(counters) + len(losses), 0)
        return DuckDBStore(database)


class ServedCase(DuckDBCase):
    """The embedded store as another process asks it: every question and answer travels as JSON."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._asked: Starlette | None = None

    @contextlib.contextmanager
    def serving(self) -> Iterator[None]:
        async def dispatch(scope: Scope, receive: Receive, send: Send) -> None:
            assert self._asked is not None
            await self._asked(scope, receive, send)

        server = Server(uvicorn.Config(dispatch, log_config=None, lifespan="off"))
        with listening("127.0.0.1", 0) as listener:
            self._store = RemoteStore(f"http://127.0.0.1:{listener.getsockname()[1]}")
            thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
            thread.start()
            try:
                yield
            finally:
                self._store.close()
                server.should_exit = True
                thread.join()

    def fill(self, logs: Documents, counters: Documents = (), losses: Documents = ()) -> Store:
        self._asked = application(super().fill(logs, counters, losses))
        return self._store


class ElasticsearchCase:
    """The real Elasticsearch."""

    def __init__(self, node: Elasticsearch) -> None:
        self._node = node
        self._numbers = itertools.count()
        self._connection = Connection(ElasticsearchSettings(node.url))
        self._names: IndexNames | None = None

    def fill(self, logs: Documents, counters: Documents = (), losses: Documents = ()) -> Store:
        self.clear()
        self._names = IndexNames(f"conformance{next(self._numbers)}_{{kind}}.{{cluster}}.{{day}}")
        writer = ElasticsearchWriter(self._connection, self._names, max_bulk_bytes=20_000)
        writer.prepare(INDEX)
        documents = [
            Document(kind, self._names.of(kind, "", each["start_time"]), each["id"], orjson.dumps(each))
            for kind, given in (("flows", logs), ("policy_counters", counters), ("losses", losses))
            for each in given
        ]
        once, again = writer.write(documents, str), writer.write(documents, str)
        assert (once.added, once.refused, again.added, again.repeated) == (len(documents), (), 0, len(documents))
        writer.prepare(INDEX)
        self._connection.client.indices.refresh(index="conformance*")
        return ElasticsearchStore(self._connection, self._names)

    def clear(self) -> None:
        if self._names is not None:
            for kind in KINDS:
                for index in self._connection.client.indices.get_settings(index=self._names.all_of(kind)):
                    self._connection.client.indices.delete(index=index)
                self._connection.client.indices.delete_index_template(name=self._names.template(kind))


@pytest.fixture(scope="module", params=["duckdb", "served", "elasticsearch", "elasticsearch_nine"])
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Case]:
    if request.param == "duckdb":
        yield DuckDBCase(tmp_path_factory.mktemp("stores"))
        return
    if request.param == "served":
        served = ServedCase(tmp_path_factory.mktemp("served"))
        with served.serving():
            yield served
        return
    found = ElasticsearchCase(request.getfixturevalue(request.param))
    yield found
    found.clear()


def plain(logs: Documents, counters: Documents = (), losses: Documents = ()) -> MemoryStore:
    store = MemoryStore()
    store.add(logs, counters, losses)
    return store


def all_pages(store: Store, where: Filter, sort: str, descending: bool, limit: int) -> Documents:
    found: list[dict[str, Any]] = []
    cursor = None
    while True:
        page = store.flow_logs(where, sort=sort, descending=descending, limit=limit, cursor=cursor)
        found += page.logs
        cursor = page.cursor
        if cursor is None:
            return found
        assert len(page.logs) == limit


EXAMPLES = settings(
    max_examples=int(os.environ.get("TIERFLOW_EXAMPLES", "6")),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@EXAMPLES
@given(logs=logs(), wheres=st.lists(FILTERS, min_size=4, max_size=8), data=st.data())
def test_flow_logs_come_as_they_went_in_page_by_page(
    case: Case, logs: Documents, wheres: Sequence[Filter], data: st.DataObject
) -> None:
    store, oracle = case.fill(logs), plain(logs)
    assert store.newest_s() == oracle.newest_s()
    for where in wheres:
        sort, descending = data.draw(st.sampled_from(FIELDS)), data.draw(st.booleans())
        limit = data.draw(st.integers(1, 15))
        assert all_pages(store, where, sort, descending, limit) == all_pages(oracle, where, sort, descending, limit)


@EXAMPLES
@given(logs=logs(), wheres=st.lists(FILTERS, min_size=4, max_size=8), width_s=st.integers(1, 100))
def test_sums_over_flow_logs_equal_the_plain_ones(
    case: Case, logs: Documents, wheres: Sequence[Filter], width_s: int
) -> None:
    store, oracle = case.fill(logs), plain(logs)
    for where in wheres:
        assert store.flow_groups(where) == oracle.flow_groups(where)
        assert store.histogram(where, width_s=width_s) == oracle.histogram(where, width_s=width_s)
        for field in FACETS:
            assert store.facets(where, field, limit=3) == oracle.facets(where, field, limit=3), field
        for field, prefix in PREFIXES.items():
            assert store.facets(where, field, prefix=prefix) == oracle.facets(where, field, prefix=prefix), field


@EXAMPLES
@given(counters=counters(), start=st.integers(-5, 5), width_s=st.integers(1, 200), buckets=st.integers(0, 7))
def test_policy_statistics_equal_the_plain_ones(
    case: Case, counters: Documents, start: int, width_s: int, buckets: int
) -> None:
    store, oracle = case.fill([], counters), plain([], counters)
    start_s = DAY_S + start * 15
    asked = (start_s, start_s + width_s)
    assert store.rule_statistics(*asked, buckets=buckets) == oracle.rule_statistics(*asked, buckets=buckets)
    assert store.policy_endpoints(*asked) == oracle.policy_endpoints(*asked)


@EXAMPLES
@given(losses=losses(), start=st.integers(-5, 8), width_s=st.integers(1, 200))
def test_losses_equal_the_plain_ones(case: Case, losses: Documents, start: int, width_s: int) -> None:
    store, oracle = case.fill([], losses=losses), plain([], losses=losses)
    start_s = DAY_S + start * 15
    assert store.losses(start_s, start_s + width_s) == oracle.losses(start_s, start_s + width_s)


def test_traffic_that_both_sides_report_counts_once_and_a_denial_at_the_destination_is_one_state(case: Case) -> None:
    sums = {"packets_in": 3, "packets_out": 2, "bytes_in": 300, "bytes_out": 200, "num_flows_started": 1}
    store = case.fill(
        [
            whole_log(id="1", reporter="src", **sums),
            whole_log(id="2", reporter="dst", **sums),
            whole_log(id="3", reporter="src", evidence="unanswered", source_name_aggr="rogue-8-*", **sums),
            whole_log(id="4", reporter="dst", action="deny", evidence="enforced", source_name_aggr="rogue-8-*", **sums),
        ],
        [],
    )
    found = {group.source_name: (group.status, group.packets, group.bytes) for group in store.flow_groups(Filter())}
    assert found == {"frontend-6d99-*": ("allowed", 5, 500), "rogue-8-*": ("denied_by_destination", 5, 500)}


@pytest.mark.parametrize(
    "ask",
    [
        lambda store: store.flow_logs(Filter(), sort="no_such_field"),
        lambda store: store.flow_logs(Filter(), limit=0),
        lambda store: store.flow_logs(Filter(), limit=10_001),
        lambda store: store.flow_logs(Filter(labels="app ==")),
        lambda store: store.flow_logs(Filter(), cursor="%%%"),
        lambda store: store.facets(Filter(), "no_such_field"),
        lambda store: store.facets(Filter(), "dest_port", prefix="4"),
        lambda store: store.histogram(Filter(), width_s=0),
    ],
)
def test_a_wrong_question_is_refused_in_one_line(case: Case, ask: Any) -> None:
    with pytest.raises(ConfigurationError) as refused:
        ask(case.fill([], []))
    assert "\n" not in str(refused.value)


def test_an_empty_store_answers_with_nothing(case: Case) -> None:
    store = case.fill([], [])
    assert store.newest_s() is None
    assert store.flow_logs(Filter()).logs == ()
    assert store.flow_groups(Filter()) == store.facets(Filter(), "labels") == store.histogram(Filter(), width_s=9) == ()
    assert store.rule_statistics(0, 9, buckets=3) == store.policy_endpoints(0, 9) == store.losses(0, 9) == ()


def test_more_than_one_answer_holds_is_asked_for_in_parts(
    elasticsearch: Elasticsearch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tierflow.sinks.elasticsearch.store.PAGE", 3)
    monkeypatch.setattr("tierflow.sinks.elasticsearch.facets.CHUNK", 2)
    # Values that are on both ends of a log have the greatest bound, and not the greatest number.
    logs = [
        whole_log(
            id=f"{port}", dest_port=port, bytes_in=port,
            source_labels__labels=[f"a=b{port % 4}"], dest_labels__labels=[f"a=b{port * port % 4}"],
        )
        for port in range(1, 14)
    ]  # fmt: skip
    case = ElasticsearchCase(elasticsearch)
    for count in (2, 3, 4, 13):
        store, oracle = case.fill(logs[:count]), plain(logs[:count])
        assert store.flow_groups(Filter()) == oracle.flow_groups(Filter())
        for limit in (1, 2, 5):
            assert store.facets(Filter(), "labels", limit=limit) == oracle.facets(Filter(), "labels", limit=limit)
    case.clear()
