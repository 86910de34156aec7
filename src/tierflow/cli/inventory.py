"""``tierflow inventory``: publish who holds which address and the policies in force; show who held one."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
from click.core import ParameterSource

from tierflow.cli.broker import wait_for_broker
from tierflow.cli.inventory_show import show
from tierflow.cli.kafka import KafkaSecurity, kafka_security
from tierflow.cli.logs import log_setting
from tierflow.cli.settings import kafka_setting, setting, topic_prefix_setting
from tierflow.cli.stage import MetricsAddress, Stage, metrics_settings, run_stage
from tierflow.inventory.address_ranges import private_prefixes
from tierflow.inventory.manifests import ManifestSource
from tierflow.inventory.names import NAMINGS
from tierflow.inventory.objects import POLICIES_LEFT_OUT
from tierflow.inventory.publish import PublishSettings, publish, take_over
from tierflow.inventory.topic import Publisher, Reader
from tierflow.inventory.versions import Versions
from tierflow.schemas.clock import SystemClock
from tierflow.schemas.errors import ConfigurationError, TransientError, UnavailableError
from tierflow.schemas.inventory import Settings
from tierflow.schemas.topics import INVENTORY

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tierflow.inventory.kubernetes.lease import Lease
    from tierflow.inventory.kubernetes.source import KubernetesSource
    from tierflow.inventory.names import Naming
    from tierflow.inventory.publish import Source
    from tierflow.schemas.inventory import ObjectVersion
    from tierflow.schemas.metrics import Metrics

log = logging.getLogger("tierflow.inventory")

LOOK_EVERY_S: Final = 0.1
TOGETHER_S: Final = 0.01
"""Changes this close behind one another are published together: at 1,000 a second publisher and readers spend a third
less processor time, for 30 ms more until a change is known (docs/inventory.md)."""
RENEW_EVERY_S: Final = 2.0
BROKER_TIMEOUT_S: Final = 60.0


@click.group("inventory", invoke_without_command=True)
@kafka_setting
@kafka_security
@log_setting
@setting(
    "--manifests",
    multiple=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of Kubernetes objects, watched for changes; may be repeated.",
)
@setting("--kubernetes/--no-kubernetes", default=False, help="Watch a cluster instead.")
@setting("--kubeconfig", type=click.Path(path_type=Path), default=None, help="How to reach the cluster from outside.")
@setting(
    "--lease", metavar="NAMESPACE/NAME", default=None, help="Lease that lets one of several publishers write at a time."
)
@setting(
    "--aggregated-names",
    type=click.Choice(sorted(NAMINGS)),
    default="calico",
    help="Names of many pods in one: Calico's, or by the workload that owns them.",
)
@setting(
    "--private-range",
    multiple=True,
    default=("upstream",),
    metavar="upstream|wider|CIDR",
    help="Addresses shown as pvt when nothing else is known of them; may be repeated. wider adds CGNAT, loopback, "
    "link-local and IPv6 unique local addresses.",
)
@setting("--retention-s", type=click.IntRange(60), default=3600, help="Seconds that ended versions are kept.")
@topic_prefix_setting
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
    aggregated_names: str,
    private_range: tuple[str, ...],
    retention_s: int,
    topic_prefix: str,
    metrics_at: MetricsAddress,
) -> None:
    """Publish who holds which address, and the policies in force."""
    if context.invoked_subcommand is not None:
        given = [name for name in context.params if context.get_parameter_source(name) is ParameterSource.COMMANDLINE]
        if given:
            flags = ", ".join(f"--{name.replace('_', '-')}" for name in given)
            raise click.UsageError(f"{flags}: say it behind {context.invoked_subcommand}.")
        return
    if bool(manifests) == kubernetes:
        raise ConfigurationError("inventory: give either --manifests FOLDER or --kubernetes")
    if lease is not None and (not kubernetes or lease.count("/") != 1):
        raise ConfigurationError(f"--lease {lease}: accepted is NAMESPACE/NAME, together with --kubernetes")
    try:
        for_readers = Settings(private_prefixes(private_range), retention_s)
    except ValueError as error:
        raise ConfigurationError(
            f"--private-range {error}: accepted are upstream, wider and prefixes such as 10.0.0.0/8"
        ) from error
    client = kafka_security.client_arguments()

    async def work(stage: Stage) -> None:
        run = _Run(kafka, client, topic_prefix, for_readers, NAMINGS[aggregated_names], stage)
        await (run.manifests(manifests) if manifests else run.kubernetes(kubeconfig, lease))

    asyncio.run(run_stage(kafka, client, metrics_at, work, BROKER_TIMEOUT_S))


class _Manifests:
    """Folders as a source: what they held at the first look has always been so."""

    def __init__(self, folders: tuple[Path, ...], versions: Versions, naming: Naming, live: Metrics) -> None:
        self._source = ManifestSource(folders, versions, naming)
        self._live = live
        self._said: tuple[str, ...] = ()
        self.watermark_ns = 0

    def look(self) -> list[ObjectVersion]:
        now = SystemClock().now_ns()
        found = self._source.poll(now, since_ns=None if self.watermark_ns else 0)
        self._live.set(POLICIES_LEFT_OUT, self._source.policies_left_out)
        self.watermark_ns = now
        return found

    def clock_went_back(self) -> None:
        """Every look's time is the watermark, so the next one puts it right."""

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

    def clock_went_back(self) -> None:
        self._source.clock_went_back()

    def complaints(self) -> list[str]:
        said, self._source.said = self._source.said, []
        return said


class _Run:
    def __init__(
        self,
        kafka: str,
        security: Mapping[str, object],
        prefix: str,
        for_readers: Settings,
        naming: Naming,
        stage: Stage,
    ) -> None:
        self._kafka, self._security, self._stage = kafka, security, stage
        self._for_readers, self._naming = for_readers, naming
        self._live = stage.live
        self._topic = INVENTORY.with_prefix(prefix)
        self._identity = f"{socket.gethostname()}:{os.getpid()}:{os.urandom(4).hex()}"
        self._clock = SystemClock()

    async def manifests(self, folders: tuple[Path, ...]) -> None:
        versions = Versions()
        epoch = await self._take_over(versions)
        await self._publish(_Manifests(folders, versions, self._naming, self._live), versions, epoch + 1, LOOK_EVERY_S)

    async def kubernetes(self, kubeconfig: Path | None, lease: str | None) -> None:
        # The Kubernetes client takes longer to import than all else here, and folders don't need it.
        from tierflow.inventory.kubernetes.api import Api, connect
        from tierflow.inventory.kubernetes.lease import Lease
        from tierflow.inventory.kubernetes.source import KubernetesSource

        stop, versions = self._stage.stop, Versions()
        api = Api(partial(connect, kubeconfig), self._clock)
        # Wrong at the start is wrong; later a file that can't be read is waited for, as a token that is being rotated.
        api.load()
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
            source = KubernetesSource(api, versions, self._clock, self._live, self._naming)
            source.start()
            try:
                await self._publish(
                    _Cluster(source), versions, epoch + 1, TOGETHER_S, lambda: held is None or held.held
                )
            finally:
                await asyncio.to_thread(source.stop)
        finally:
            if renewing is not None:
                renewing.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await renewing
        if lost.is_set() or (held is not None and not held.held):
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
                # Ready to take over: a rolling update goes on.
                self._stage.is_ready = True
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

    async def _publish(
        self,
        source: Source,
        versions: Versions,
        epoch: int,
        pause_s: float,
        may: Callable[[], bool] = lambda: True,
    ) -> None:
        publisher = Publisher(self._kafka, self._live, self._topic, self._security)
        await publisher.start()
        try:
            await publish(
                source, versions, publisher, PublishSettings(self._identity, epoch, self._for_readers), self._clock,
                self._stage.stop, pause_s=pause_s, may=may, ready=self._stage.ready, say=log.warning,
            )  # fmt: skip
        finally:
            await publisher.stop()


command.add_command(show)
