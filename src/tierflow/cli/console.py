"""``tierflow console``: serve the page and its API."""

from __future__ import annotations

import asyncio
import re
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tierflow.cli.elasticsearch import elasticsearch_settings
from tierflow.cli.kafka import KafkaSecurity, kafka_security
from tierflow.cli.kinds import ADDRESS
from tierflow.cli.logs import log_setting
from tierflow.cli.settings import kafka_setting, setting, topic_prefix_setting
from tierflow.cli.stage import MetricsAddress, Stage, run_stage
from tierflow.cli.state import state_folder
from tierflow.cli.store import open_store
from tierflow.schemas.clock import SystemClock
from tierflow.schemas.errors import ConfigurationError
from tierflow.schemas.secrets import secret_file

if TYPE_CHECKING:
    import socket

    from tierflow.sinks.elasticsearch.client import ElasticsearchSettings
    from tierflow.sinks.elasticsearch.store import ElasticsearchStore
    from tierflow.sinks.read.remote import RemoteStore


LOOPBACK = "127.0.0.1"
QUERY_TIMEOUT_S = 20.0
"""Bound on one question to the store: the server gives up then too."""
ADDRESS_FILE = "console.url"
TOKEN = re.compile(r"[A-Za-z0-9_-]{16,}")


@click.command("console")
@kafka_setting
@kafka_security
@log_setting
@elasticsearch_settings
@setting(
    "--store", metavar="ADDRESS", default=None, help="Where the store's read side is; without it, the embedded one."
)
@setting(
    "--host", type=ADDRESS, default=LOOPBACK, help="Address to listen on; 0.0.0.0 is every one, as behind a Service."
)
@setting("--port", type=click.IntRange(0, 65535), default=8080, help="Port to listen on; 0 chooses a free one.")
@setting(
    "--token-file", type=click.Path(path_type=Path), default=None,
    help="File with the token that opens a session; without it, each start makes one.",
)  # fmt: skip
@topic_prefix_setting
@setting("--allow-host", "allow_host", multiple=True, help="Further host name to answer to, as behind a proxy.")
def command(
    kafka: str,
    kafka_security: KafkaSecurity,
    elasticsearch: ElasticsearchSettings | None,
    elasticsearch_index: str,
    store: str | None,
    host: str,
    port: int,
    token_file: Path | None,
    topic_prefix: str,
    allow_host: tuple[str, ...],
) -> None:
    """Serve the page; the address printed opens one session, and console.url in the state folder the next."""
    opened = open_store(store, elasticsearch, elasticsearch_index, QUERY_TIMEOUT_S)
    token = secrets.token_urlsafe(24) if token_file is None else _token(token_file)
    shown = token if token_file is None else f"TOKEN (the one in {token_file})"
    client = kafka_security.client_arguments()
    with _bind(host, port) as bound:

        async def work(stage: Stage) -> None:
            await _serve(kafka, client, topic_prefix, opened, bound, token, shown, allow_host, stage)

        asyncio.run(run_stage(kafka, client, MetricsAddress(), work))


def _token(path: Path) -> str:
    token = secret_file("--token-file", path)
    if not TOKEN.fullmatch(token):
        raise ConfigurationError(f"--token-file {path}: accepted are 16 or more letters, digits, - and _")
    return token


async def _serve(
    kafka: str,
    security: dict[str, Any],
    topic_prefix: str,
    store: RemoteStore | ElasticsearchStore,
    bound: socket.socket,
    token: str,
    shown: str,
    allow_host: tuple[str, ...],
    stage: Stage,
) -> None:
    import uvicorn

    from tierflow.cli.web import Server
    from tierflow.console.server.app import console_app
    from tierflow.console.server.inventory import TopicInventory
    from tierflow.console.server.session import PrintedTokenSessions, SharedTokenSessions
    from tierflow.console.server.settings import ConsoleSettings
    from tierflow.inventory.topic import Reader
    from tierflow.schemas.metrics import Metrics
    from tierflow.schemas.topics import INVENTORY

    default = ConsoleSettings(token=token)
    settings = ConsoleSettings(token=token, hosts=(*default.hosts, *(host.lower() for host in allow_host)))
    inventory = TopicInventory(Reader(kafka, Metrics(), INVENTORY.with_prefix(topic_prefix), security))
    page = f"http://{LOOPBACK}:{bound.getsockname()[1]}/?token="

    def renew() -> str:
        fresh = secrets.token_urlsafe(24)
        _publish(page + fresh)
        return fresh

    # A printed token opens one session; one from a file is its owner's to share.
    clock = SystemClock()
    sessions = PrintedTokenSessions(token, renew) if shown == token else SharedTokenSessions(token, clock)
    app = console_app(store, inventory, sessions, clock, settings)
    await inventory.start()
    follow = asyncio.create_task(inventory.follow())
    server = Server(uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=2))
    serve = asyncio.create_task(server.serve(sockets=[bound]))
    stopping = asyncio.create_task(stage.stop.wait())
    file = _publish(page + token)
    try:
        while not server.started and not serve.done():  # noqa: ASYNC110  # uvicorn tells by this flag alone
            await asyncio.sleep(0.02)
        if server.started:
            click.echo(f"open {page}{shown}", err=True)
            stage.ready()
        await asyncio.wait({serve, follow, stopping}, return_when=asyncio.FIRST_COMPLETED)
        server.should_exit = True
        await serve
        if follow.done():
            follow.result()
    finally:
        follow.cancel()
        stopping.cancel()
        file.unlink(missing_ok=True)
        await inventory.stop()
        store.close()


def _bind(host: str, port: int) -> socket.socket:
    from tierflow.cli.web import listening

    try:
        return listening(host, port)
    except OSError as error:
        raise ConfigurationError(f"--host {host} --port {port}: {error.strerror}; 0 chooses a free port") from error


def _publish(address: str) -> Path:
    """Leave the address where ``tierflow up`` finds it, for the owner's eyes only."""
    file = state_folder() / ADDRESS_FILE
    fresh = file.with_name(f"{ADDRESS_FILE}.new")
    fresh.unlink(missing_ok=True)
    fresh.touch(mode=0o600)
    fresh.write_text(address + "\n")
    return fresh.replace(file)
