"""``tierflow inventory``: publish who holds which address and the policies in force; show who held one."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np

from tierflow.cli.settings import kafka_setting, setting
from tierflow.inventory.history import History
from tierflow.inventory.manifests import ManifestSource
from tierflow.inventory.topic import Publisher, Reader
from tierflow.inventory.versions import Versions
from tierflow.schemas.clock import NS_PER_S, SystemClock
from tierflow.schemas.errors import ConfigurationError
from tierflow.schemas.inventory import Heartbeat, Message
from tierflow.schemas.metrics import Metrics
from tierflow.schemas.record import address_halves

if TYPE_CHECKING:
    from tierflow.inventory.snapshot import EndpointVersion

LOOK_EVERY_S = 0.1
HEARTBEAT_EVERY_S = 1.0


@click.group("inventory", invoke_without_command=True)
@kafka_setting
@setting(
    "--manifests",
    multiple=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of Kubernetes objects, watched for changes; may be repeated.",
)
@setting("--retention-s", type=click.IntRange(60), default=3600, help="Seconds that ended versions are kept.")
@click.pass_context
def command(context: click.Context, kafka: str, manifests: tuple[Path, ...], retention_s: int) -> None:
    """Publish who holds which address, and the policies in force."""
    if context.invoked_subcommand is not None:
        return
    if not manifests:
        raise ConfigurationError("inventory: nothing says which objects there are; give --manifests FOLDER")
    asyncio.run(_publish(kafka, manifests, retention_s))


async def _publish(kafka: str, folders: tuple[Path, ...], retention_s: int) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    clock, live, versions = SystemClock(), Metrics(), Versions()
    epoch = await _take_over(kafka, live, versions) + 1
    source = ManifestSource(folders, versions)
    publisher = Publisher(kafka, live)
    await publisher.start()
    identity = f"{socket.gethostname()}:{os.getpid()}"
    try:
        now = clock.now_ns()
        # Objects that were there before anybody looked hold for records of the past too.
        await publisher.publish([*source.poll(now, since_ns=0), Heartbeat(now, identity, epoch)])
        said = _say_problems(source, ())
        click.echo("ready", err=True)
        beat = clock.monotonic_s()
        while not stop.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), LOOK_EVERY_S)
            now = clock.now_ns()
            messages: list[Message] = list(await asyncio.to_thread(source.poll, now))
            if messages or clock.monotonic_s() - beat >= HEARTBEAT_EVERY_S:
                beat = clock.monotonic_s()
                messages += versions.expire(now - retention_s * NS_PER_S)
                messages.append(Heartbeat(now, identity, epoch))
                await publisher.publish(messages)
                said = _say_problems(source, said)
    finally:
        await publisher.stop()


async def _take_over(kafka: str, live: Metrics, versions: Versions) -> int:
    reader, epochs = Reader(kafka, live), [0]

    def take(message: Message) -> None:
        versions.load(message)
        if isinstance(message, Heartbeat):
            epochs.append(message.epoch)

    try:
        await reader.start()
        await reader.catch_up(take)
    finally:
        await reader.stop()
    return max(epochs)


def _say_problems(source: ManifestSource, said: tuple[str, ...]) -> tuple[str, ...]:
    for problem in source.problems:
        if problem not in said:
            click.echo(f"skipped: {problem}", err=True)
    return source.problems


@command.command("show")
@kafka_setting
@click.option("--address", required=True, metavar="IP", help="The address in question.")
@click.option(
    "--at", "at", metavar="TIME", help="ISO 8601 time (UTC if it names no zone) or Unix seconds; default now."
)
def show(kafka: str, address: str, at: str | None) -> None:
    """Say who held an address at a time."""
    time_ns = SystemClock().now_ns() if at is None else _time_ns(at)
    try:
        hi, lo = address_halves(address)
    except ValueError as error:
        raise ConfigurationError(f"--address {address}: accepted is an IPv4 or IPv6 address") from error
    history = History()
    asyncio.run(_read(kafka, history))
    snapshot = history.snapshot()
    halves = np.array([hi], np.uint64), np.array([lo], np.uint64)
    number = int(snapshot.lookup(*halves, np.array([time_ns], np.int64))[0])
    if number >= 0:
        click.echo("\n".join(_describe(snapshot.endpoints[number])))
        return
    entry = int(snapshot.network_set(*halves)[0])
    if entry >= 0:
        found = snapshot.network_sets[entry]
        click.echo(f"network set {found.namespace or '-'}/{found.name}")
        return
    kind = "private" if snapshot.private(*halves)[0] else "public"
    click.echo(f"nobody known; a {kind} address (known up to {_time_text(snapshot.watermark_ns)})")


async def _read(kafka: str, history: History) -> None:
    reader = Reader(kafka, Metrics())
    try:
        await reader.start()
        await reader.catch_up(history.apply)
    finally:
        await reader.stop()


def _describe(version: EndpointVersion) -> list[str]:
    until = "now" if version.valid_to_ns is None else _time_text(version.valid_to_ns)
    return [
        f"{version.kind} {version.namespace or '-'}/{version.endpoint.name}",
        f"  aggregated name   {version.name_aggr}",
        f"  node              {version.node or '-'}",
        f"  service account   {version.endpoint.service_account or '-'}",
        f"  labels            {', '.join(version.labels_list) or '-'}",
        f"  addresses         {', '.join(version.endpoint.addresses)}",
        f"  from              {_time_text(version.valid_from_ns)}",
        f"  to                {until}",
    ]


def _time_ns(text: str) -> int:
    try:
        return int(float(text) * NS_PER_S)
    except ValueError:
        pass
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError as error:
        raise ConfigurationError(
            f"--at {text}: accepted is a time such as 2026-01-31T12:00:00Z, or Unix seconds"
        ) from error
    return int((parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp() * NS_PER_S)


def _time_text(time_ns: int) -> str:
    return (
        "always" if time_ns == 0 else datetime.fromtimestamp(time_ns / NS_PER_S, UTC).isoformat(timespec="milliseconds")
    )
