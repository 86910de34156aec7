"""The processes that ``tierflow up`` supervises: their commands, and when each counts as ready."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from aiokafka.errors import KafkaError

from tierflow.cli.broker import LOOPBACK, broker_argv, check_port_free, wait_for_broker
from tierflow.cli.state import state_folder
from tierflow.cli.supervisor import Child
from tierflow.schemas import topics
from tierflow.schemas.admin import ensure_topics
from tierflow.schemas.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

Source = Literal["auto", "ebpf", "synthetic"]

SESSION_TIMEOUT_S: Final = 6
"""The least that Kafka allows by default; the embedded broker lets a worker wait for half of it before it joins."""


@dataclass(frozen=True, slots=True)
class UpSettings:
    """What ``tierflow up`` was asked to run.

    Attributes:
        lab: set up the storefront lab, and take it down at the end.
        source: where records come from; ``auto`` is eBPF for root, else synthetic.
        kafka: an existing broker, or None for the embedded one on ``broker_port``.
        broker_port: loopback port of the embedded broker.
        broker_memory_mib: memory at which the embedded broker is started afresh: it never forgets a message.
        console_port: loopback port of the page.
        window_s: width of an aggregation window.
        lateness_s: how long a window waits for late records.
        interval_s: how often the collector drains.
        interfaces: patterns of the interfaces to watch.
        manifests: folders of Kubernetes objects.
        node: this node's name.
        cluster: this cluster's name.
    """

    lab: bool
    source: Source
    kafka: str | None
    broker_port: int
    broker_memory_mib: int
    console_port: int
    window_s: int
    lateness_s: int
    interval_s: float
    interfaces: str
    manifests: tuple[Path, ...]
    node: str
    cluster: str

    @property
    def bootstrap(self) -> str:
        """``host:port`` of the broker that the stages use."""
        return self.kafka or f"{LOOPBACK}:{self.broker_port}"


def broker(up: UpSettings) -> Child | None:
    """The embedded broker, or None where there is another.

    Raises:
        ConfigurationError: its port is in use.
        UnavailableError: this installation has none.
    """
    if up.kafka is not None:
        return None
    check_port_free(up.broker_port, "--broker-port")
    return Child(
        "broker",
        broker_argv(up.broker_port),
        # What it held is gone when it is started again, topics included.
        ready=lambda: topics_are_there(up.bootstrap, 30.0),
        memory_limit_bytes=up.broker_memory_mib << 20,
    )


async def topics_are_there(bootstrap: str, timeout_s: float) -> None:
    """Wait for the broker, and make the topics, so that the stages behind it can start side by side.

    Raises:
        UnavailableError: it doesn't answer within ``timeout_s``, or refuses a topic.
    """
    await wait_for_broker(bootstrap, timeout_s)
    try:
        await ensure_topics(bootstrap, topics.ALL)
    except KafkaError as error:
        raise UnavailableError(f"--kafka {bootstrap}: {type(error).__name__}: {error}") from error


def inventory(up: UpSettings, manifests: Sequence[Path]) -> Child:
    """The inventory of folders of Kubernetes objects."""
    folders = (part for folder in manifests for part in ("--manifests", str(folder)))
    return _stage("inventory", "inventory", "--kafka", up.bootstrap, *folders)


def stages(up: UpSettings, source: Source) -> Iterator[Child]:
    """What needs the broker alone to start."""
    state = state_folder()
    kafka = ("--kafka", up.bootstrap)
    yield _stage(
        "stream", "stream", *kafka, "--session-timeout-s", str(SESSION_TIMEOUT_S),
        "--window-s", str(up.window_s), "--lateness-s", str(up.lateness_s), "--data-dir", str(state / "stream"),
    )  # fmt: skip
    yield _stage("sink", "sink", "duckdb", *kafka, "--database", str(state / "flows.duckdb"))
    yield _stage(
        "collector", "collect", *kafka, "--source", source, "--interfaces", up.interfaces,
        "--interval-s", str(up.interval_s), "--keepalive-s", str(up.window_s),
        "--node", up.node, "--cluster", up.cluster,
    )  # fmt: skip
    yield _stage("console", "console", *kafka, "--port", str(up.console_port))


def _stage(name: str, *arguments: str) -> Child:
    return Child(name, [sys.executable, "-m", "tierflow.cli.main", *arguments])
