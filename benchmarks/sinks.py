"""The stores: documents a second into each, and the console's questions over a day of flow logs.

The day is made in SQL, and its sums are known, so that every answer is checked before its time is said.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
from tests.services.elasticsearch import HOME, started
from tests.sinks.documents import DAY_S, whole_log

from benchmarks.harness import Report, check
from tierflow.sinks.documents import FLOW_LOG_TYPES, flatten
from tierflow.sinks.duckdb.store import DuckDBStore
from tierflow.sinks.duckdb.tables import FLOW_LOGS, quoted
from tierflow.sinks.duckdb.writer import Load, Writer, open_database
from tierflow.sinks.elasticsearch.client import ElasticsearchSettings, connect
from tierflow.sinks.elasticsearch.indices import IndexNames
from tierflow.sinks.elasticsearch.store import ElasticsearchStore
from tierflow.sinks.elasticsearch.writer import Document, ElasticsearchWriter
from tierflow.sinks.read.interface import Filter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tierflow.sinks.read.interface import Store

LOAD = 5_000
NAMES = 40
DAY = Filter(start_s=DAY_S, end_s=DAY_S + 86_400)


def documents(count: int) -> Iterator[dict[str, Any]]:
    """Allowed logs of one day from the destination's side, over NAMES x NAMES pairs."""
    for number in range(count):
        yield whole_log(
            id=f"{number:016x}",
            start_time=DAY_S + number * 86_400 // count,
            source_name_aggr=f"source-{number % NAMES}-*",
            dest_name_aggr=f"dest-{number // NAMES % NAMES}-*",
            source_labels__labels=["app=a", "zone=dmz"],
            packets_in=1,
            bytes_in=100,
            num_flows_started=1,
        )


def _timed(ask: Callable[[], Any], times: int = 3) -> tuple[float, Any]:
    """Best of ``times``, in ms, and the answer."""
    best, answer = float("inf"), None
    for _ in range(times):
        start = time.perf_counter()
        answer = ask()
        best = min(best, (time.perf_counter() - start) * 1000)
    return best, answer


def _questions(store: Store, count: int) -> dict[str, float]:
    groups_ms, groups = _timed(lambda: store.flow_groups(DAY))
    check(sum(group.packets for group in groups) == count, "packets of all flows")
    check(len(groups) == NAMES * NAMES, "flows")
    page_ms, page = _timed(lambda: store.flow_logs(DAY, limit=50))
    check(page.logs[0]["id"] == f"{count - 1:016x}", "newest flow log")
    histogram_ms, buckets = _timed(lambda: store.histogram(DAY, width_s=900))
    check(sum(bucket.logs for bucket in buckets) == count, "logs in the histogram")
    return {"visualizer_ms": groups_ms, "page_ms": page_ms, "histogram_ms": histogram_ms}


def _duckdb(folder: Path, written: int, asked: int) -> dict[str, float]:
    path = folder / "bench.duckdb"
    connection = open_database(path)
    writer = Writer(connection, path)
    rows = [flatten(each, FLOW_LOG_TYPES) for each in documents(written)]
    start = time.perf_counter()
    added = sum(writer.write(Load({FLOW_LOGS: rows[at : at + LOAD]})) for at in range(0, written, LOAD))
    rate = written / (time.perf_counter() - start)
    check(added == written, "documents added")
    columns = {name: quoted(name) for name in FLOW_LOG_TYPES}
    made = columns | {
        "id": "printf('%016x', n)",
        "start_time": f"{DAY_S} + n * 86400 // {asked}",
        "end_time": f"{DAY_S} + n * 86400 // {asked} + 15",
        "source_name_aggr": f"'source-' || (n % {NAMES}) || '-*'",
        "dest_name_aggr": f"'dest-' || (n // {NAMES} % {NAMES}) || '-*'",
    }
    connection.execute("CREATE TEMP TABLE one AS SELECT * FROM flow_logs LIMIT 1")
    connection.execute("DELETE FROM flow_logs")
    connection.execute(f"INSERT INTO flow_logs SELECT {', '.join(made.values())} FROM one, range({asked}) AS r(n)")
    connection.execute("CHECKPOINT")
    figures = {"documents_per_s": rate, **_questions(DuckDBStore(connection), asked)}
    return figures | {"file_mib": path.stat().st_size / 2**20}


def _elasticsearch(count: int) -> dict[str, float]:
    with started() as node:
        client = connect(ElasticsearchSettings(node.url, timeout_s=120))
        names = IndexNames("bench_{kind}-{day}")
        writer = ElasticsearchWriter(client, names, node.url)
        writer.prepare(shards=1, replicas=0)
        taken, load, added = 0.0, [], 0
        for number, each in enumerate(documents(count), 1):
            load.append(Document("flows", names.of("flows", "", each["start_time"]), each["id"], orjson.dumps(each)))
            if len(load) == LOAD or number == count:
                start = time.perf_counter()
                added += writer.write(load, str).added
                taken += time.perf_counter() - start
                load = []
        check(added == count, "documents added")
        client.indices.refresh(index="bench_*")
        return {"documents_per_s": count / taken, **_questions(ElasticsearchStore(client, names, node.url), count)}


def run(quick: bool) -> list[Report]:
    """The reports; Elasticsearch's only where it was fetched (``make services``)."""
    asked, written, indexed = (100_000, 10_000, 10_000) if quick else (10_000_000, 100_000, 1_000_000)
    reports = []
    with tempfile.TemporaryDirectory() as folder:
        figures = _duckdb(Path(folder), written, asked)
        reports.append(_report("sinks duckdb", {"written": written, "asked": asked}, figures))
    if (HOME / "lib").is_dir():
        reports.append(_report("sinks elasticsearch", {"written and asked": indexed}, _elasticsearch(indexed)))
    return reports


def _report(name: str, workload: dict[str, Any], figures: dict[str, float]) -> Report:
    report = Report(name, workload, checked="documents counted; packets of all flows; newest log; logs over time")
    units = {"documents_per_s": ("1/s", "higher"), "file_mib": ("MiB", "lower")}
    for each, value in figures.items():
        report.add(each, value, *units.get(each, ("ms", "lower")))
    return report
