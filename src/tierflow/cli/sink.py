"""``tierflow sink``: flow logs and policy counters to a store."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import click
import uvicorn
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from tierflow.cli.kafka import KafkaSecurity, kafka_security
from tierflow.cli.kinds import Finite
from tierflow.cli.logs import log_setting
from tierflow.cli.settings import kafka_setting, setting
from tierflow.cli.sink_elasticsearch import command as elasticsearch_command
from tierflow.cli.stage import MetricsAddress, Stage, metrics_settings, run_stage
from tierflow.cli.state import state_folder
from tierflow.cli.store import default_address
from tierflow.cli.web import Server, listening
from tierflow.schemas.clock import SystemClock
from tierflow.schemas.errors import ConfigurationError, TierflowError, UnavailableError
from tierflow.sinks.consume import DuckDBSink
from tierflow.sinks.duckdb.database import MEMORY_MIB, Database
from tierflow.sinks.duckdb.retention import Retention, keep_within
from tierflow.sinks.duckdb.store import DuckDBStore
from tierflow.sinks.duckdb.writer import Writer
from tierflow.sinks.read.serve import application

if TYPE_CHECKING:
    from collections.abc import Iterator


@click.group("sink")
def command() -> None:
    """Write flow logs and policy counters to a store."""


command.add_command(elasticsearch_command)


@command.command("duckdb")
@kafka_setting
@kafka_security
@log_setting
@setting(
    "--database", type=click.Path(dir_okay=False, path_type=Path), default=None,
    show_default="flows.duckdb in the state folder", help="DuckDB file; made when it isn't there.",
)  # fmt: skip
@setting("--retention-hours", type=Finite(0.01, 876_000), default=24 * 8, help="Documents older than this go.")
@setting("--max-bytes", type=click.IntRange(1 << 20), default=16 << 30, help="Past this size the oldest hours go.")
@setting("--memory-mib", type=click.IntRange(64), default=MEMORY_MIB, help="What DuckDB's buffers may take.")
@setting(
    "--listen", default=None, metavar="unix:PATH|HOST:PORT", show_default="unix: and store.sock in the state folder",
    help="Where the read side is served.",
)  # fmt: skip
@setting("--topic-prefix", default="", help="Put before each topic's name.")
@metrics_settings
def duckdb_command(
    kafka: str,
    kafka_security: KafkaSecurity,
    database: Path | None,
    retention_hours: float,
    max_bytes: int,
    memory_mib: int,
    listen: str | None,
    topic_prefix: str,
    metrics_at: MetricsAddress,
) -> None:
    """Fill a DuckDB file, and serve its read side to the command line and the page."""
    path = database or state_folder() / "flows.duckdb"
    opened = Database(path, memory_mib)
    client = kafka_security.client_arguments()
    retention = Retention(int(retention_hours * 3600), max_bytes)
    with _listening(listen or default_address()) as server_socket:

        async def work(stage: Stage) -> None:
            await _run(kafka, client, topic_prefix, opened, server_socket, retention, stage)

        asyncio.run(run_stage(kafka, client, metrics_at, work))


@contextlib.contextmanager
def _listening(address: str) -> Iterator[socket.socket]:
    if address.startswith("unix:"):
        path = Path(address.removeprefix("unix:"))
        if _answers(path):
            raise ConfigurationError(f"--listen {address}: another sink serves there already")
        if path.is_socket():  # of one that was killed
            path.unlink()
        elif path.exists():
            raise ConfigurationError(f"--listen {address}: something that is no socket is there; it is left alone")
        listener = socket.socket(socket.AF_UNIX)
        try:
            listener.bind(str(path))
            path.chmod(0o600)
        except OSError as error:
            raise ConfigurationError(f"--listen {address}: {error.strerror or error}") from error
        try:
            yield listener
        finally:
            listener.close()
            path.unlink(missing_ok=True)
        return
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise ConfigurationError(f"--listen {address}: accepted are unix:PATH and HOST:PORT")
    try:
        listener = listening(host, int(port))
    except (OSError, OverflowError) as error:
        raise ConfigurationError(f"--listen {address}: {error}") from error
    with listener:
        yield listener


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
        return True


async def _run(
    kafka: str,
    client: dict[str, object],
    topic_prefix: str,
    database: Database,
    server_socket: socket.socket,
    retention: Retention,
    stage: Stage,
) -> None:
    clock, stop, metrics = SystemClock(), stage.stop, stage.live
    consumer = AIOKafkaConsumer(
        bootstrap_servers=kafka, enable_auto_commit=False, auto_offset_reset="earliest", **client
    )
    writer = Writer(database)
    letters = AIOKafkaProducer(bootstrap_servers=kafka, **client)
    sink = DuckDBSink(consumer, letters, writer, clock, metrics, topic_prefix=topic_prefix)
    server = Server(uvicorn.Config(application(DuckDBStore(database)), log_config=None, lifespan="off"))
    await sink.start()
    serving = asyncio.create_task(server.serve(sockets=[server_socket]))
    forgetting = asyncio.create_task(keep_within(retention, writer, clock, metrics, stop))
    stage.ready()
    try:
        await _first_failure([asyncio.create_task(sink.run(stop)), forgetting], stop)
    finally:
        stop.set()
        server.should_exit = True
        await asyncio.gather(serving, forgetting, return_exceptions=True)
        await sink.stop()
        database.close()


async def _first_failure(tasks: list[asyncio.Task[None]], stop: asyncio.Event) -> None:
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait([*tasks, stopping], return_when=asyncio.FIRST_COMPLETED)
    stop.set()
    for task in tasks:
        try:
            await task
        except TierflowError as error:
            raise UnavailableError(str(error)) from error
    await stopping
