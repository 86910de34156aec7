"""``tierflow inventory show``: who held an address at a time."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click
import numpy as np

from tierflow.cli.broker import wait_for_broker
from tierflow.cli.kafka import KafkaSecurity, kafka_security
from tierflow.cli.settings import kafka_setting, topic_prefix_setting
from tierflow.cli.times import parse_time_ns
from tierflow.inventory.history import History
from tierflow.inventory.topic import Reader
from tierflow.schemas.clock import NS_PER_S, SystemClock
from tierflow.schemas.errors import ConfigurationError, UnavailableError
from tierflow.schemas.metrics import Metrics
from tierflow.schemas.record import address_halves
from tierflow.schemas.topics import INVENTORY

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tierflow.inventory.snapshot import EndpointVersion, Snapshot


@click.command("show")
@kafka_setting
@kafka_security
@click.option("--address", required=True, metavar="IP", help="The address in question.")
@click.option("--at", metavar="TIME", help="ISO 8601 (local unless it names its zone) or Unix seconds; default now.")
@topic_prefix_setting
def show(kafka: str, kafka_security: KafkaSecurity, address: str, at: str | None, topic_prefix: str) -> None:
    """Say who held an address at a time."""
    time_ns = SystemClock().now_ns() if at is None else parse_time_ns("--at", at)
    try:
        hi, lo = address_halves(address)
    except ValueError as error:
        raise ConfigurationError(f"--address {address}: accepted is an IPv4 or IPv6 address") from error
    history = History()
    reader = Reader(kafka, Metrics(), INVENTORY.with_prefix(topic_prefix), kafka_security.client_arguments())
    asyncio.run(_read(kafka, kafka_security, reader, history))
    if not history.watermark_ns:
        raise UnavailableError(f"--kafka {kafka}: the inventory is empty: has `tierflow inventory` run there?")
    click.echo("\n".join(answer(history, hi, lo, time_ns, SystemClock().now_ns() if at is None else None)))


async def _read(kafka: str, security: KafkaSecurity, reader: Reader, history: History) -> None:
    await wait_for_broker(kafka, 10, **security.client_arguments())
    try:
        await reader.start()
        await reader.catch_up(history.apply)
    finally:
        await reader.stop()


def answer(history: History, hi: int, lo: int, time_ns: int, now_ns: int | None = None) -> Iterator[str]:
    """Lines that say who held an address.

    Args:
        history: all that is known.
        hi: upper half of the address.
        lo: lower half.
        time_ns: the time in question.
        now_ns: the time of now where that is the one in question: that the inventory ends shortly before it is no news.
    """
    snapshot = history.snapshot()
    lines = list(_holder(snapshot, hi, lo, time_ns))
    if time_ns < history.known_from_ns:
        begin = _time_text(history.known_from_ns)
        if lines:
            yield from lines
            yield f"(the retained past begins at {begin}: before it another may have held the address)"
        else:
            yield f"not known: the retained past begins at {begin}"
        return
    yield from lines or _nobody(snapshot, hi, lo, time_ns)
    if time_ns > snapshot.watermark_ns and now_ns is None:
        yield f"(the inventory knows up to {_time_text(snapshot.watermark_ns)}: it may have changed since)"


def _holder(snapshot: Snapshot, hi: int, lo: int, time_ns: int) -> Iterator[str]:
    halves, times = (np.array([hi], np.uint64), np.array([lo], np.uint64)), np.array([time_ns], np.int64)
    number = int(snapshot.lookup(*halves, times)[0])
    if number >= 0:
        yield from _describe(snapshot.endpoints[number])
        return
    ports = snapshot.services_at(hi, lo, time_ns)
    for namespace, name in sorted({(each.namespace, each.name) for each in ports}):
        yield f"service {namespace}/{name}"
    entry = int(snapshot.network_set(*halves, times)[0])
    if entry >= 0:
        found = snapshot.network_sets[entry]
        yield f"network set {found.namespace or '-'}/{found.name}"


def _nobody(snapshot: Snapshot, hi: int, lo: int, time_ns: int) -> Iterator[str]:
    private = snapshot.private(np.array([hi], np.uint64), np.array([lo], np.uint64), np.array([time_ns], np.int64))[0]
    yield f"nobody known; a {'private' if private else 'public'} address"


def _describe(version: EndpointVersion) -> Iterator[str]:
    until = "now" if version.valid_to_ns is None else _time_text(version.valid_to_ns)
    yield f"{version.kind} {version.namespace or '-'}/{version.endpoint.name}"
    yield f"  aggregated name   {version.name_aggr}"
    yield f"  node              {version.node or '-'}"
    yield f"  service account   {version.endpoint.service_account or '-'}"
    yield f"  labels            {', '.join(version.labels_list) or '-'}"
    yield f"  addresses         {', '.join(version.endpoint.addresses)}"
    yield f"  from              {_time_text(version.valid_from_ns)}"
    yield f"  to                {until}"


def _time_text(time_ns: int) -> str:
    if time_ns <= 0:
        return "always"
    return datetime.fromtimestamp(time_ns / NS_PER_S, UTC).isoformat(timespec="milliseconds")
