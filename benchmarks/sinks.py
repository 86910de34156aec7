"""The stores: documents a second into each, and the console's questions over a day of flow logs.

The day is made in SQL, and its sums are known, so that every answer is checked before its time is said.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
from tests.services.elasticsearch import EIGHT, started
from tests.sinks.documents import DAY_S, whole_log
from tests.sinks.elasticsearch_sink import INDEX

from benchmarks.harness import Report, check
from tierflow.sinks.documents import FLOW_LOG_TYPES, flatten
from tierflow.sinks.duckdb.database import Database
from tierflow.sinks.duckdb.store import DuckDBStore
from tierflow.sinks.duckdb.tables import FLOW_LOGS, NUMBER_TYPES, quoted
from tierflow.sinks.duckdb.writer import Load, Writer
from tierflow.sinks.elasticsearch.client import Connection, ElasticsearchSettings
from tierflow.sinks.elasticsearch.indices import IndexNames
from tierflow.sinks.elasticsearch.store import ElasticsearchStore
from tierflow.sinks.elasticsearch.writer import Document, ElasticsearchWriter
from tierflow.sinks.read.interface import Filter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from tierflow.sinks.read.interface import Store

LOAD = 5_000
NAMES, PORTS = 40, 5
FLOWS = NAMES * NAMES * PORTS * 2
"""Every pair of names over every port, reported by the source and then by the destination."""
DAY = Filter(start_s=DAY_S, end_s=DAY_S + 86_400)
NARROW = Filter(
    start_s=DAY_S + 7, end_s=DAY_S + 86_400, source_namespaces=("space-3",), labels='app == "a" && zone != "dmz"'
)  # fmt: skip
WRITING_S = 300.0
"""Elasticsearch is given no more than this; what is in by then is what is asked."""


def documents(count: int) -> Iterator[dict[str, Any]]:
    """Allowed logs of one day, spread evenly over time and flows."""
    plain = whole_log(packets_in=1, bytes_in=100, num_flows_started=1)
    for number in range(count):
        source, dest = number % NAMES, number // NAMES % NAMES
        start_s = DAY_S + number * 86_400 // count
        yield plain | {
            "id": f"{number:016x}",
            "start_time": start_s,
            "end_time": start_s + 15,
            "reporter": "dst" if number % FLOWS >= FLOWS // 2 else "src",
            "source_name_aggr": f"source-{source}-*",
            "source_namespace": f"space-{source % 8}",
            "dest_name_aggr": f"dest-{dest}-*",
            "dest_port": 8000 + number // NAMES**2 % PORTS,
            "source_labels": {"labels": ["app=a" if source % 2 else "app=b", "zone=dmz" if dest % 2 else "zone=in"]},
        }


def _timed(ask: Callable[[], Any], times: int = 3) -> tuple[float, Any]:
    """Best of ``times``, in ms, and the answer."""
    best, answer = float("inf"), None
    for _ in range(times):
        start = time.perf_counter()
        answer = ask()
        best = min(best, (time.perf_counter() - start) * 1000)
    return best, answer


def _questions(store: Store, count: int) -> dict[str, float]:
    """Every question of the console, each answer checked against what :func:`documents` says."""
    at_dest = count // FLOWS * (FLOWS // 2) + max(0, count % FLOWS - FLOWS // 2)
    figures: dict[str, float] = {}
    figures["visualizer_ms"], groups = _timed(lambda: store.flow_groups(DAY))
    check(sum(group.packets for group in groups) == at_dest, "packets of all flows")
    check(len(groups) == FLOWS // 2, "flows")
    figures["visualizer_filtered_ms"], groups = _timed(lambda: store.flow_groups(NARROW))
    check({group.source_namespace for group in groups} == {"space-3"}, "namespace of the flows chosen")
    check(len(groups) == FLOWS // 2 // 16, "flows chosen")
    figures["page_ms"], page = _timed(lambda: store.flow_logs(DAY, limit=50))
    check([log["id"] for log in page.logs] == [f"{count - 1 - n:016x}" for n in range(50)], "newest flow logs")
    figures["page_filtered_ms"], page = _timed(lambda: store.flow_logs(NARROW, limit=50))
    check({log["source_namespace"] for log in page.logs} == {"space-3"}, "namespace of the logs chosen")
    figures["page_by_bytes_ms"], page = _timed(lambda: store.flow_logs(DAY, sort="bytes_in", limit=50))
    check(page.logs[0]["id"] == f"{count - 1:016x}", "largest flow log")
    figures["histogram_ms"], buckets = _timed(lambda: store.histogram(DAY, width_s=900))
    check(sum(bucket.logs for bucket in buckets) == count, "logs in the histogram")
    figures["facets_ms"], facets = _timed(lambda: store.facets(DAY, "source_labels.labels"))
    check(sum(facet.logs for facet in facets if facet.value.startswith("app=")) == count, "logs by label")
    return figures


def fill_day(database: Database, count: int) -> None:
    """``count`` flow logs of the day, made in SQL from one of each flow, which the store must hold already."""
    made = {name: f"one.{quoted(name)}" for name in NUMBER_TYPES} | {
        "id": "printf('%016x', n)",
        "start_time": f"{DAY_S} + n * 86400 // {count}",
        "end_time": f"{DAY_S} + n * 86400 // {count} + 15",
    }
    with database.cursor() as cursor:
        cursor.execute(f"CREATE TEMP TABLE one AS SELECT * FROM flow_logs ORDER BY id LIMIT {FLOWS}")
        cursor.execute("DELETE FROM flow_logs")
        cursor.execute(
            f"INSERT INTO flow_logs SELECT one.flow, {', '.join(made.values())} FROM range({count}) AS r(n) "
            f"JOIN (SELECT *, row_number() OVER (ORDER BY id) - 1 AS number FROM one) AS one ON number = n % {FLOWS}"
        )
        cursor.execute("CHECKPOINT")


def write_day(writer: Writer, count: int) -> float:
    """Documents a second; what was written is let go of before anything else is timed."""
    rows: list[Mapping[str, Any]] = [flatten(each, FLOW_LOG_TYPES) for each in documents(count)]
    start = time.perf_counter()
    added = sum(writer.write(Load({FLOW_LOGS: rows[at : at + LOAD]})) for at in range(0, count, LOAD))
    rate = count / (time.perf_counter() - start)
    check(added == count, "documents added")
    return rate


def _duckdb(folder: Path, written: int, asked: int) -> dict[str, float]:
    path = folder / "bench.duckdb"
    database = Database(path)
    rate = write_day(Writer(database), written)
    fill_day(database, asked)
    figures = {"documents_per_s": rate, **_questions(DuckDBStore(database), asked)}
    return figures | {"file_mib": path.stat().st_size / 2**20}


def _elasticsearch(count: int) -> tuple[int, dict[str, float]]:
    with started() as node:
        connection = Connection(ElasticsearchSettings(node.url, timeout_s=120))
        names = IndexNames("bench_{kind}-{day}")
        writer = ElasticsearchWriter(connection, names)
        writer.prepare(INDEX)
        retried = list[str]().append
        taken, load, added = 0.0, list[Document](), 0
        for number, each in enumerate(documents(count), 1):
            load.append(Document("flows", names.of("flows", "", each["start_time"]), each["id"], orjson.dumps(each)))
            if len(load) == LOAD or number == count:
                start = time.perf_counter()
                added += writer.write(load, retried).added
                taken += time.perf_counter() - start
                load = []
                if taken > WRITING_S:
                    break
        check(added == number, "documents added")
        connection.client.indices.refresh(index="bench_*")
        # An answer that is remembered would be timed, not found.
        connection.client.indices.put_settings(index="bench_*", settings={"index.requests.cache.enable": False})
        figures = _questions(ElasticsearchStore(connection, names), added)
        return added, {"documents_per_s": added / taken, **figures}


def run(quick: bool) -> list[Report]:
    """The reports; Elasticsearch's only where it was fetched (``make services``)."""
    asked, written, indexed = (96_000, 32_000, 32_000) if quick else (10_000_000, 96_000, 1_000_000)
    reports = []
    with tempfile.TemporaryDirectory() as folder:
        figures = _duckdb(Path(folder), written, asked)
        reports.append(_report("sinks duckdb", {"written": written, "asked": asked, "flows": FLOWS}, figures))
    if EIGHT.there:
        indexed, figures = _elasticsearch(indexed)
        reports.append(_report("sinks elasticsearch", {"written and asked": indexed, "flows": FLOWS}, figures))
    return reports


def _report(name: str, workload: dict[str, Any], figures: dict[str, float]) -> Report:
    report = Report(name, workload, checked="documents counted; packets of all flows; newest log; logs over time")
    units = {"documents_per_s": ("1/s", "higher"), "file_mib": ("MiB", "lower")}
    for each, value in figures.items():
        report.add(each, value, *units.get(each, ("ms", "lower")))
    return report
