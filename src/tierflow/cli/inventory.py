"""``tierflow inventory``: publish who holds which address and the policies in force; show who held one."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
import numpy as np

from tierflow.cli.broker import wait_for_broker
from tierflow.cli.kafka import KafkaSecurity, kafka_security
from tierflow.cli.logs import log_setting
from tierflow.cli.settings import kafka_setting, setting
from tierflow.cli.stage import MetricsAddress, Stage, metrics_settings, run_stage
from tierflow.inventory.history import History
from tierflow.inventory.manifests import ManifestSource
from tierflow.inventory.publish import PublishSettings, publish, take_over
from tierflow.inventory.topic import Publisher, Reader
from tierflow.inventory.versions import Versions
from tierflow.schemas.clock import NS_PER_S, SystemClock
from tierflow.schemas.errors import ConfigurationError, TransientError, UnavailableError
from tierflow.schemas.metrics import Metrics
from tierflow.schemas.record import address_halves
from tierflow.schemas.topics import INVENTORY

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tierflow.inventory.kubernetes.lease import Lease
    from tierflow.inventory.kubernetes.source import KubernetesSource
    from tierflow.inventory.publish import Source
    from tierflow.inventory.snapshot import EndpointVersion
    from tierflow.schemas.inventory import ObjectVersion

log = logging.getLogger("tierflow.inventory")

LOOK_EVERY_S: Final = 0.1
RENEW_EVERY_S: Final = 2.0
BROKER_TIMEOUT_S: Final = 60.0


@click.group("inventory", invoke_without_command=True)
@kafka_setting
@kafka_security
@log_setting
@setting(
    "--manifests",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Folder of Kubernetes objects, watched for changes; may be repeated.",
)
@setting("--kubernetes/--no-kubernetes", default=False, help="Watch a cluster instead.")
@setting("--kubeconfig", type=click.Path(path_type=Path), default=None, help="How to reach the cluster from outside.")
@setting(
    "--lease", metavar="NAMESPACE/NAME", default=None, help="Lease that lets one of several publishers write at a time."
)
@setting("--retention-s", type=click.IntRange(60), default=3600, help="Seconds that ended versions are kept.")
@setting("--topic-prefix", default="", help="Put before each topic's name.")
@metrics_settings
@click.pass_context
def command(
    context: click.Context,
    kafka: str,
    kafka_security: KafkaSecurity,
    manifests: tuple[Path, ...],
    kubernetes: bool,
    kubeconfig: Path | None,
    lease: str | None,
    retention_s: int,
    topic_prefix: str,
    metrics_at: MetricsAddress,
) -> None:
    """Publish who holds which address, and the policies in force."""
    if context.invoked_subcommand is not None:
        return
    if bool(manifests) == kubernetes:
        raise ConfigurationError("inventory: give either --manifests FOLDER or --kubernetes")
    if lease is not None and (not kubernetes or lease.count("/") != 1):
        raise ConfigurationError(f"--lease {lease}: accepted is NAMESPACE/NAME, together with --kubernetes")
    client = kafka_security.client_arguments()

    async def work(stage: Stage) -> None:
        run = _Run(kafka, client, topic_prefix, retention_s * NS_PER_S, stage)
        await (run.manifests(manifests) if manifests else run.kubernetes(kubeconfig, lease))

    asyncio.run(run_stage(kafka, client, metrics_at, work, BROKER_TIMEOUT_S))


class _Manifests:
    """Folders as a source: what they held at the first look has always been so."""

    def __init__(self, folders: tuple[Path, ...], versions: Versions) -> None:
        self._source = ManifestSource(folders, versions)
        self._said: tuple[str, ...] = ()
        self.watermark_ns = 0

    def look(self) -> list[ObjectVersion]:
        now = SystemClock().now_ns()
        found = self._source.poll(now, since_ns=None if self.watermark_ns else 0)
        self.watermark_ns = now
        return found

    def complaints(self) -> list[str]:
        new = [problem for problem in self._source.problems if problem not in self._said]
        self._said = self._source.problems
        return new


class _Cluster:
    """A cluster as a source."""

    def __init__(self, source: KubernetesSource) -> None:
        self._source = source

    def look(self) -> list[ObjectVersion]:
        return self._source.drain(LOOK_EVERY_S)

    @property
    def watermark_ns(self) -> int:
        return self._source.watermark_ns

    def complaints(self) -> list[str]:
        said, self._source.said = self._source.said, []
        return said


class _Run:
    def __init__(
        self, kafka: str, security: Mapping[str, object], prefix: str, retention_ns: int, stage: Stage
    ) -> None:
        self._kafka, self._security, self._retention_ns, self._stage = kafka, security, retention_ns, stage
        self._live = stage.live
        self._topic = INVENTORY.with_prefix(prefix)
        self._identity = f"{socket.gethostname()}:{os.getpid()}:{os.urandom(4).hex()}"
        self._clock = SystemClock()

    async def manifests(self, folders: tuple[Path, ...]) -> None:
        versions = Versions()
        epoch = await self._take_over(versions)
        await self._publish(_Manifests(folders, versions), versions, epoch + 1, LOOK_EVERY_S)

    async def kubernetes(self, kubeconfig: Path | None, lease: str | None) -> None:
        # The Kubernetes client takes longer to import than all else here, and folders don't need it.
        from tierflow.inventory.kubernetes.api import Api, connect
        from tierflow.inventory.kubernetes.lease import Lease
        from tierflow.inventory.kubernetes.source import KubernetesSource

        stop, versions = self._stage.stop, Versions()
        api = Api(partial(connect, kubeconfig))
        held = None
        if lease is not None:
            namespace, _, name = lease.partition("/")
            held = Lease(api, namespace, name, self._identity, self._clock)
            if not await self._wait_for(held, stop):
                return
        lost = asyncio.Event()
        renewing = asyncio.create_task(self._renew(held, stop, lost)) if held else None
        try:
            epoch = await self._take_over(versions)
            source = KubernetesSource(api, versions, self._clock, self._live)
            source.start()
            try:
                await self._publish(_Cluster(source), versions, epoch + 1, 0.0)
            finally:
                await asyncio.to_thread(source.stop)
        finally:
            if renewing is not None:
                renewing.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await renewing
        if lost.is_set():
            raise UnavailableError(f"--lease {lease}: another publisher has it, or it couldn't be renewed in time")
        if held is not None:
            with contextlib.suppress(TransientError):
                await asyncio.to_thread(held.release)

    async def _wait_for(self, lease: Lease, stop: asyncio.Event) -> bool:
        said = ""
        while not stop.is_set():
            try:
                if await asyncio.to_thread(lease.try_hold):
                    return True
                text = "standby: another publisher holds the lease"
            except TransientError as error:
                text = str(error)
            if text != said:
                said = text
                log.info(text)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), RENEW_EVERY_S)
        return False

    async def _renew(self, lease: Lease, stop: asyncio.Event, lost: asyncio.Event) -> None:
        while True:
            await asyncio.sleep(RENEW_EVERY_S)
            with contextlib.suppress(TransientError):
                await asyncio.to_thread(lease.try_hold)
            if not lease.held:
                lost.set()
                stop.set()
                return

    async def _take_over(self, versions: Versions) -> int:
        # A standby may have waited for its lease for days.
        await wait_for_broker(self._kafka, BROKER_TIMEOUT_S, **self._security)
        return await take_over(Reader(self._kafka, self._live, self._topic, self._security), versions)

    async def _publish(self, source: Source, versions: Versions, epoch: int, pause_s: float) -> None:
        publisher = Publisher(self._kafka, self._live, self._topic, self._security)
        await publisher.start()
        try:
            await publish(
                source, versions, publisher, PublishSettings(self._identity, epoch, self._retention_ns), self._clock,
                self._stage.stop, pause_s=pause_s, ready=self._stage.ready, say=log.warning,
            )  # fmt: skip
        finally:
            await publisher.stop()


@command.command("show")
@kafka_setting
@kafka_security
@click.option("--address", required=True, metavar="IP", help="The address in question.")
@click.option("--at", metavar="TIME", help="ISO 8601 time (UTC if it names no zone) or Unix seconds; default now.")
@setting("--topic-prefix", default="", help="Put before each topic's name.")
def show(kafka: str, kafka_security: KafkaSecurity, address: str, at: str | None, topic_prefix: str) -> None:
    """Say who held an address at a time."""
    time_ns = SystemClock().now_ns() if at is None else _time_ns(at)
    try:
        hi, lo = address_halves(address)
    except ValueError as error:
        raise ConfigurationError(f"--address {address}: accepted is an IPv4 or IPv6 address") from error
    history = History()
    reader = Reader(kafka, Metrics(), INVENTORY.with_prefix(topic_prefix), kafka_security.client_arguments())
    asyncio.run(_read(kafka, kafka_security, reader, history))
    click.echo("\n".join(_answer(history, hi, lo, time_ns)))


async def _read(kafka: str, security: KafkaSecurity, reader: Reader, history: History) -> None:
    await wait_for_broker(kafka, 10, **security.client_arguments())
    try:
        await reader.start()
        await reader.catch_up(history.apply)
    finally:
        await reader.stop()


def _answer(history: History, hi: int, lo: int, time_ns: int) -> Iterator[str]:
    snapshot = history.snapshot()
    halves = np.array([hi], np.uint64), np.array([lo], np.uint64)
    number = int(snapshot.lookup(*halves, np.array([time_ns], np.int64))[0])
    if number >= 0:
        yield from _describe(snapshot.endpoints[number])
        return
    services = sorted({(each.namespace, each.name) for each in snapshot.services_at(hi, lo)})
    for namespace, name in services:
        yield f"service {namespace}/{name}"
    entry = int(snapshot.network_set(*halves)[0])
    if entry >= 0:
        found = snapshot.network_sets[entry]
        yield f"network set {found.namespace or '-'}/{found.name}"
    if not services and entry < 0:
        kind = "private" if snapshot.private(*halves)[0] else "public"
        yield f"nobody known; a {kind} address (the inventory knows up to {_time_text(snapshot.watermark_ns)})"


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
    if time_ns <= 0:
        return "always"
    return datetime.fromtimestamp(time_ns / NS_PER_S, UTC).isoformat(timespec="milliseconds")
