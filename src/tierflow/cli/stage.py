"""What every stage's command does alike: signals, waiting for the broker, metrics and health, the word ``ready``."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import signal
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import click
from aiokafka.errors import KafkaError

from tierflow.cli.broker import LOOPBACK, wait_for_broker
from tierflow.cli.kinds import ADDRESS
from tierflow.cli.settings import setting
from tierflow.schemas.errors import ConfigurationError, UnavailableError
from tierflow.schemas.health import Health, Probes
from tierflow.schemas.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

log = logging.getLogger("tierflow.stage")

BROKER_TIMEOUT_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class MetricsAddress:
    """Where a stage serves ``/metrics``, ``/healthz`` and ``/readyz``; without a port it doesn't."""

    host: str = LOOPBACK
    port: int | None = None


def metrics_settings(function: Any) -> Any:
    """The two settings; the command receives them as one argument ``metrics_at``."""

    @setting("--metrics-host", type=ADDRESS, default=LOOPBACK, help="Address of --metrics-port; 0.0.0.0 is every one.")
    @setting(
        "--metrics-port", type=click.IntRange(0, 65_535), default=None,
        help="Serve /metrics, /healthz and /readyz on this port; 0 chooses one.",
    )  # fmt: skip
    @functools.wraps(function)
    def with_address(*arguments: Any, metrics_host: str, metrics_port: int | None, **options: Any) -> Any:
        return function(*arguments, metrics_at=MetricsAddress(metrics_host, metrics_port), **options)

    return with_address


@dataclass(slots=True)
class Stage:
    """One running stage.

    Attributes:
        stop: set by SIGTERM and Ctrl-C.
        live: its metrics.
        probes: what it says of itself at ``/readyz``, once it is ready, and at ``/healthz``.
        is_ready: whether it has said so, and hasn't ended.
    """

    stop: asyncio.Event = field(default_factory=asyncio.Event)
    live: Metrics = field(default_factory=Metrics)
    probes: Probes = field(default_factory=Probes)
    is_ready: bool = False

    def ready(self) -> None:
        """Say that the stage does its work from now on; `up` waits for this word."""
        self.is_ready = True
        log.info("ready")

    def wrong(self) -> str:
        """Why it isn't ready, or ``""``."""
        return self.probes.ready() if self.is_ready else "not ready"


def stop_on_signals(stop: Callable[[], None]) -> None:
    """Have the running loop call ``stop`` on SIGTERM and Ctrl-C."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)


async def run_stage(
    kafka: str,
    client: Mapping[str, Any],
    metrics_at: MetricsAddress,
    work: Callable[[Stage], Awaitable[None]],
    broker_timeout_s: float = BROKER_TIMEOUT_S,
) -> None:
    """Run ``work`` once the broker answers; it ends when ``Stage.stop`` is set.

    Args:
        kafka: ``host:port`` of the broker.
        client: TLS and SASL arguments of aiokafka's clients.
        metrics_at: where metrics and health are served, from before the broker is there.
        work: does what the stage does, and says when it is ready.
        broker_timeout_s: how long the broker is waited for.

    Raises:
        ConfigurationError: the metrics address can't be listened on.
        UnavailableError: no broker in time, or it refused what can't be tried again.
    """
    stage = Stage()
    stop_on_signals(stage.stop.set)
    async with _served(metrics_at, stage):
        if not await _broker_answers(kafka, broker_timeout_s, client, stage.stop):
            return
        try:
            await work(stage)
        except KafkaError as error:
            raise UnavailableError(f"--kafka {kafka}: {type(error).__name__}: {error}") from error
        finally:
            stage.is_ready = False


async def _broker_answers(kafka: str, timeout_s: float, client: Mapping[str, Any], stop: asyncio.Event) -> bool:
    """Wait for the broker; False when stopped meanwhile."""
    waiting = asyncio.create_task(wait_for_broker(kafka, timeout_s, **client))
    stopping = asyncio.create_task(stop.wait())
    try:
        done, _ = await asyncio.wait({waiting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if waiting not in done:
            return False
        waiting.result()
        return True
    finally:
        for task in (waiting, stopping):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, UnavailableError):
                await task


@contextlib.asynccontextmanager
async def _served(at: MetricsAddress, stage: Stage) -> AsyncIterator[None]:
    if at.port is None:
        yield
        return
    health = Health(stage.live, Probes(stage.wrong, lambda: stage.probes.alive()), at.host, at.port)
    try:
        port = await health.start()
    except OSError as error:
        raise ConfigurationError(f"--metrics-host {at.host} --metrics-port {at.port}: {_reason(error)}") from error
    log.info("metrics", extra={"host": at.host, "port": port})
    try:
        yield
    finally:
        await health.stop()


def _reason(error: OSError) -> str:
    # asyncio wraps the system's own words: "[Errno 98] error while attempting to bind on address …: …".
    return str(error.strerror or error).rpartition(": ")[2]
