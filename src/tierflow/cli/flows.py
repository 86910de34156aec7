"""``tierflow flows``: query flow logs."""

from __future__ import annotations

import csv
import os
import re
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

import click
import orjson
from rich.console import Console
from rich.table import Table

from tierflow.cli.elasticsearch import elasticsearch_settings
from tierflow.cli.kinds import Protocol
from tierflow.cli.settings import setting
from tierflow.cli.store import open_store
from tierflow.cli.times import parse_duration_s, parse_time_s
from tierflow.schemas.flow_log import FIELD_NAMES, Evidence
from tierflow.sinks.documents import FLOW_LOG_TYPES, flatten
from tierflow.sinks.read.interface import Filter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from tierflow.sinks.elasticsearch.client import ElasticsearchSettings
    from tierflow.sinks.read.interface import Store

Output = Literal["table", "json", "csv"]
FOLLOW_S = 1.0
PIPED_COLUMNS = 160
"""Width of a table that no terminal bounds: names and policies stand in it whole."""
_COLUMNS = ("end", "by", "verdict", "source", "destination", "port", "packets", "bytes", "decided by")
_LEAST_WIDTH = {100: ("packets", "bytes"), 70: ("end", "by", "port")}
"""Columns of the table that a terminal narrower than this leaves out."""
_REPLICA_SET_HASH = re.compile(r"-[a-z0-9]{6,10}-\*$")
LATE_WINDOWS_S = 600
"""How far back of the newest window `--follow` looks for logs that came late."""


@click.command("flows")
@elasticsearch_settings
@setting(
    "--store", default=None, metavar="ADDRESS", show_default="the embedded sink's",
    help="Store to ask: unix:PATH or http://HOST:PORT.",
)  # fmt: skip
@click.option("-n", "--namespace", multiple=True, help="Namespace of either end; may be repeated, may end in *.")
@click.option("--source-namespace", multiple=True, help="Namespace of the source.")
@click.option("--dest-namespace", multiple=True, help="Namespace of the destination.")
@click.option("--name", multiple=True, help="Name or aggregated name of either end; may end in *.")
@click.option("--source-name", multiple=True, help="Name of the source.")
@click.option("--dest-name", multiple=True, help="Name of the destination.")
@click.option("--action", multiple=True, type=click.Choice(["allow", "deny"]), help="Verdict.")
@click.option("--reporter", multiple=True, type=click.Choice(["src", "dst", "fwd"]), help="Side that reports.")
@click.option(
    "--evidence",
    multiple=True,
    type=click.Choice([each.value for each in Evidence]),
    help="What the packets say of the verdict.",
)
@click.option("--port", multiple=True, type=click.IntRange(0, 65_535), help="Destination port.")
@click.option("--protocol", multiple=True, type=Protocol(), metavar="NAME|NUMBER", help="IP protocol, as tcp or 6.")
@click.option("-l", "--labels", default="", help="Selector in Calico's language that either end matches.")
@click.option("--source-labels", default="", help="Selector for the source.")
@click.option("--dest-labels", default="", help="Selector for the destination.")
@click.option("--policy", multiple=True, help="Part of a policy hit, for instance default.trusted.")
@click.option("--since", default=None, metavar="DURATION", help="As 90s, 15m, 3h or 2d; the default is 15m.")
@click.option(
    "--from",
    "from_time",
    default=None,
    metavar="TIME",
    help="ISO 8601 (local unless it names its zone) or Unix seconds.",
)
@click.option("--to", "to_time", default=None, metavar="TIME", help="Likewise; the default is now.")
@click.option("--sort", default="end_time", help="Field to sort by, newest or largest first.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=100, show_default=True, help="Flow logs at most.")
@click.option("-o", "--output", type=click.Choice(["table", "json", "csv"]), default="table", show_default=True)
@click.option("-f", "--follow", is_flag=True, help="Go on with what arrives, until Ctrl-C.")
def command(
    store: str | None,
    elasticsearch: ElasticsearchSettings | None,
    elasticsearch_index: str,
    since: str | None,
    from_time: str | None,
    to_time: str | None,
    sort: str,
    limit: int,
    output: Output,
    follow: bool,
    **chosen: Any,
) -> None:
    """Query flow logs: as a table, JSON lines or CSV."""
    if since is not None and from_time is not None:
        raise click.UsageError("--since and --from exclude each other.")
    now_s = int(time.time())
    start_s = parse_time_s("--from", from_time) if from_time else now_s - parse_duration_s("--since", since or "15m")
    where = Filter(
        start_s=start_s,
        end_s=parse_time_s("--to", to_time) if to_time else None,
        actions=chosen["action"],
        reporters=chosen["reporter"],
        evidence=chosen["evidence"],
        protocols=chosen["protocol"],
        ports=chosen["port"],
        namespaces=chosen["namespace"],
        source_namespaces=chosen["source_namespace"],
        dest_namespaces=chosen["dest_namespace"],
        names=chosen["name"],
        source_names=chosen["source_name"],
        dest_names=chosen["dest_name"],
        labels=chosen["labels"],
        source_labels=chosen["source_labels"],
        dest_labels=chosen["dest_labels"],
        policies=chosen["policy"],
    )
    remote = open_store(store, elasticsearch, elasticsearch_index)
    try:
        page = remote.flow_logs(where, sort=sort, limit=limit)
        logs = page.logs[::-1] if sort == "end_time" else page.logs
        write = _WRITERS[output]
        write(logs, True)
        if not logs and output == "table" and not follow:
            click.echo(_why_empty(remote, where), err=True)
        if output == "table":
            _say_losses(remote, where)
        if page.cursor is not None and not follow:
            click.echo(f"tierflow: more flow logs match; these are {limit}: --limit shows up to 10000", err=True)
        if follow:
            _follow(remote, where, {log["id"] for log in logs}, write)
    except BrokenPipeError:
        # The reader (head, say) has enough.
        sys.stderr.close()
    except KeyboardInterrupt:
        return
    finally:
        remote.close()


def _follow(store: Store, where: Filter, seen: set[str], write: Callable[[Iterable[Any], bool], None]) -> None:
    while True:
        time.sleep(FOLLOW_S)
        newest = store.newest_s()
        if newest is None:
            continue
        recent = replace(where, start_s=max(where.start_s or 0, newest - LATE_WINDOWS_S))
        fresh = [log for log in _all_pages(store, recent) if log["id"] not in seen]
        seen.update(log["id"] for log in fresh)
        if fresh:
            write(sorted(fresh, key=lambda log: (log["end_time"], log["id"])), False)


def _all_pages(store: Store, where: Filter) -> Iterator[dict[str, Any]]:
    cursor = None
    while True:
        page = store.flow_logs(where, limit=1000, cursor=cursor)
        yield from page.logs
        cursor = page.cursor
        if cursor is None:
            return


def _say_losses(store: Store, where: Filter) -> None:
    """Say on standard error what is missing from the answer, by node and reason."""
    end_s = where.end_s or store.newest_s()
    if end_s is None:
        return
    for loss in store.losses(where.start_s or 0, end_s):
        counted = f"{loss.records} records" + (
            f" and {loss.uncounted} times an unknown number" if loss.uncounted else ""
        )
        click.echo(f"tierflow: missing here: {loss.host}: {loss.reason}, {loss.losses} times, {counted}", err=True)


def _why_empty(store: Store, where: Filter) -> str:
    newest = store.newest_s()
    if newest is None:
        return "no flow logs yet: the first come when the first window closes"
    if store.flow_logs(Filter(start_s=where.start_s, end_s=where.end_s), limit=1).logs:
        return "no flow log matches; there are others in this time range"
    return (
        f"no flow logs in this time range; the newest ends at {_clock(newest)} (--since or --from reach further back)"
    )


def _clock(time_s: int) -> str:
    return datetime.fromtimestamp(time_s, UTC).astimezone().strftime("%H:%M:%S")


def _end(log: dict[str, Any], side: str) -> str:
    """Namespace and aggregated name, without the ReplicaSet's hash: a table is for reading, JSON has it all."""
    name = _REPLICA_SET_HASH.sub("-*", log[f"{side}_name_aggr"])
    namespace = log[f"{side}_namespace"]
    return name if namespace == "-" else f"{namespace}/{name}"


def _table(logs: Iterable[dict[str, Any]], first: bool) -> None:
    logs = list(logs)
    if not logs:
        return
    piped = not sys.stdout.isatty() and "COLUMNS" not in os.environ
    console = Console(highlight=False, markup=False, width=PIPED_COLUMNS if piped else None)
    # Times, counters and ports are shown whole or, where the terminal is narrow, not at all; names and policies share
    # what width is left.
    short = {"end": 8, "by": 3, "verdict": 9, "port": 8, "packets": 7, "bytes": 7}
    for least, names in _LEAST_WIDTH.items():
        short = {name: width for name, width in short.items() if console.width >= least or name not in names}
    left = console.width - sum(short.values()) - len(short) - 2
    long = {"source": left * 38 // 100, "destination": left * 38 // 100, "decided by": left * 24 // 100}
    shown = [name for name in _COLUMNS if name in short or name in long]
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), show_header=first, header_style="bold")
    for name in shown:
        width = short[name] if name in short else max(6, long[name])
        justify: Literal["left", "right"] = "right" if name in ("packets", "bytes") else "left"
        table.add_column(name, width=width, no_wrap=True, overflow="ellipsis", justify=justify)
    for log in logs:
        port = log["proto"] if log["dest_port"] is None else f"{log['proto']}/{log['dest_port']}"
        style = "red" if log["action"] == "deny" else None
        packets, size = log["packets_in"] + log["packets_out"], log["bytes_in"] + log["bytes_out"]
        seen = (_clock(log["end_time"]), log["reporter"], _verdict(log))
        ends = (_end(log, "source"), _end(log, "dest"), port)
        row = dict(zip(_COLUMNS, (*seen, *ends, str(packets), str(size), _decided_by(log)), strict=True))
        table.add_row(*(row[name] for name in shown), style=style)
    console.print(table)


def _verdict(log: dict[str, Any]) -> str:
    """The verdict, or what is remarkable about it: a denial that leaked, an allowed flow that nobody answered."""
    remarkable = {("deny", "leak"): "LEAK", ("allow", "unanswered"): "no answer"}
    verdict: str = log["action"]
    return remarkable.get((verdict, log["evidence"]), verdict)


def _decided_by(log: dict[str, Any]) -> str:
    """Rule and policy of the last enforced hit, without the policy's namespace, which is that of its endpoint."""
    hits = log["policies"]["enforced_policies"]
    if not hits:
        return "-"
    last = max(hits, key=lambda hit: int(hit.split("|", 1)[0])).split("|")
    policy = last[2].rpartition("/")[2].replace("__PROFILE__.kns.", "profile ")
    return f"#{last[4]} {policy}"


def _json(logs: Iterable[dict[str, Any]], first: bool) -> None:
    del first
    for log in logs:
        click.echo(orjson.dumps(log))


def _csv(logs: Iterable[dict[str, Any]], first: bool) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    if first:
        writer.writerow(FIELD_NAMES)
    for log in logs:
        flat = flatten(log, FLOW_LOG_TYPES)
        writer.writerow([" ".join(map(str, value)) if isinstance(value, list) else value for value in flat.values()])


_WRITERS: dict[Output, Callable[[Iterable[dict[str, Any]], bool], None]] = {"table": _table, "json": _json, "csv": _csv}
