"""``tierflow console``: serve the page and its API."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import signal
import socket
from typing import TYPE_CHECKING, Any

import click

from tierflow.cli.broker import wait_for_broker
from tierflow.cli.elasticsearch import elasticsearch_settings
from tierflow.cli.settings import kafka_setting, setting
from tierflow.cli.state import state_folder
from tierflow.cli.store import open_store
from tierflow.schemas.clock import SystemClock
from tierflow.schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

    from tierflow.sinks.elasticsearch.client import ElasticsearchSettings
    from tierflow.sinks.elasticsearch.store import ElasticsearchStore
    from tierflow.sinks.read.remote import RemoteStore

LOOPBACK = "127.0.0.1"
QUERY_TIMEOUT_S = 20.0
"""Bound on one question to the store: the server gives up then too."""
ADDRESS_FILE = "console.url"

BROKER_TIMEOUT_S = 10.0


@click.command("console")
@kafka_setting
@elasticsearch_settings
@setting(
    "--store", metavar="ADDRESS", default=None, help="Where the store's read side is; without it, the embedded one."
)
@setting("--port", type=click.IntRange(0, 65535), default=8080, help="Loopback port; 0 chooses a free one.")
@setting("--allow-host", "allow_host", multiple=True, help="Further host name to answer to, as behind a proxy.")
def command(
    kafka: str,
    elasticsearch: ElasticsearchSettings | None,
    elasticsearch_index: str,
    store: str | None,
    port: int,
    allow_host: tuple[str, ...],
) -> None:
    """Serve the page; the address printed holds the token that opens a session."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(
            _serve(kafka, open_store(store, elasticsearch, elasticsearch_index, QUERY_TIMEOUT_S), port, allow_host)
        )


async def _serve(kafka: str, store: RemoteStore | ElasticsearchStore, port: int, allow_host: tuple[str, ...]) -> None:
    import uvicorn

    from tierflow.console.server.app import console_app
    from tierflow.console.server.inventory import TopicInventory
    from tierflow.console.server.session import TokenSessions
    from tierflow.console.server.settings import ConsoleSettings
    from tierflow.inventory.topic import Reader
    from tierflow.schemas.metrics import Metrics

    default = ConsoleSettings(token=secrets.token_urlsafe(24))
    settings = ConsoleSettings(token=default.token, hosts=(*default.hosts, *(host.lower() for host in allow_host)))
    inventory = TopicInventory(Reader(kafka, Metrics()))
    app = console_app(store, inventory, TokenSessions(settings.token), SystemClock(), settings)
    bound = _bind(port)
    await wait_for_broker(kafka, BROKER_TIMEOUT_S)
    await inventory.start()
    follow = asyncio.create_task(inventory.follow())
    server = uvicorn.Server(
        uvicorn.Config(app, log_level="warning", access_log=False, lifespan="off", timeout_graceful_shutdown=2)
    )
    serve = asyncio.create_task(_run(server, bound))
    address = f"http://{LOOPBACK}:{bound.getsockname()[1]}/?token={settings.token}"
    file = _publish(address)
    try:
        while not server.started and not serve.done():  # noqa: ASYNC110  # uvicorn tells by this flag alone
            await asyncio.sleep(0.02)
        if server.started:
            click.echo(f"open {address}", err=True)
            click.echo("ready", err=True)
        await asyncio.wait({serve, follow}, return_when=asyncio.FIRST_COMPLETED)
        server.should_exit = True
        await serve
        if follow.done():
            follow.result()
    finally:
        follow.cancel()
        file.unlink(missing_ok=True)
        await inventory.stop()
        store.close()


async def _run(server: Any, bound: socket.socket) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, lambda: setattr(server, "should_exit", True))
    with contextlib.suppress(KeyboardInterrupt):
        await server.serve(sockets=[bound])


def _bind(port: int) -> socket.socket:
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((LOOPBACK, port))
    except OSError as error:
        raise ConfigurationError(f"--port {port}: {error.strerror}; 0 chooses a free one") from error
    return bound


def _publish(address: str) -> Path:
    """Leave the address where ``tierflow up`` finds it, for the owner's eyes only."""
    file = state_folder() / ADDRESS_FILE
    file.unlink(missing_ok=True)
    file.touch(mode=0o600)
    file.write_text(address + "\n")
    return file
