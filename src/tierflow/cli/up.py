"""``tierflow up``: the whole pipeline on this machine, as supervised child processes."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import shutil
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import click
from rich.console import Console

from tierflow.cli.broker import LOOPBACK, broker_argv, check_port_free, wait_for_broker
from tierflow.cli.settings import setting
from tierflow.cli.state import state_folder
from tierflow.cli.supervisor import Child, Supervisor
from tierflow.collector.synthetic import STOREFRONT_PODS
from tierflow.lab.paper import publish_pods
from tierflow.schemas.clock import SystemClock
from tierflow.schemas.errors import ConfigurationError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator

Source = Literal["auto", "ebpf", "synthetic"]

LOG_BYTES_KEPT: Final = 16 * 1024 * 1024
"""A log that has grown past this is emptied when `up` starts."""


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


@click.command("up")
@setting("--lab/--no-lab", default=False, help="Set up the storefront lab too.")
@setting("--source", type=click.Choice(["auto", "ebpf", "synthetic"]), default="auto", help="Where records come from.")
@setting("--kafka", metavar="HOST:PORT", default=None, help="An existing Kafka; without it, an embedded broker.")
@setting("--broker-port", type=click.IntRange(1, 65535), default=19092, help="Port of the embedded broker.")
@setting(
    "--broker-memory-mib",
    type=click.IntRange(64),
    default=2048,
    help="Memory at which the embedded broker, which keeps all messages in memory, is started afresh.",
)
@setting("--console-port", type=click.IntRange(0, 65535), default=8080, help="Port of the page; 0 chooses one.")
@setting("--window-s", type=click.IntRange(1), default=15, help="Width of an aggregation window in seconds.")
@setting("--lateness-s", type=click.IntRange(0), default=2, help="Seconds that a window waits for late records.")
@setting("--interval-s", type=click.FloatRange(0.1, 60), default=1.0, help="Seconds between drains of the kernel.")
@setting("--interfaces", default="tf*,cali*,veth*", help="Interfaces to watch, as patterns.")
@setting(
    "--manifests",
    multiple=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of Kubernetes objects; may be repeated.",
)
@setting("--node", default="lab-node", help="Name of this node.")
@setting("--cluster", default="", help="Name of this cluster.")
def command(manifests: tuple[Path, ...], **options: object) -> None:
    """Run broker, inventory, collector, streams, sink and console on this machine until Ctrl-C."""
    up = UpSettings(manifests=tuple(manifests), **options)  # type: ignore[arg-type]  # click has checked the types
    screen = Console(stderr=True, highlight=False)
    with _only_one():
        sys.exit(asyncio.run(_run(up, screen)))


@contextlib.contextmanager
def _only_one() -> Iterator[None]:
    path = state_folder() / "up.lock"
    with path.open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            lock.seek(0)
            raise ConfigurationError(
                f"tierflow up is running already (process {lock.read().strip() or 'unknown'}); "
                "TIERFLOW_STATE=<folder> runs another beside it"
            ) from error
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


async def _run(up: UpSettings, screen: Console) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)

    logs = _log_folder()
    supervisor = Supervisor(logs, lambda line: screen.print(f"  ! {line}"))
    source = _source(up, screen)
    lab = up.lab and source == "ebpf"
    starting = asyncio.create_task(_start_all(up, source, supervisor, screen))
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
            _say_what_next(up, lab, screen)
            await stopping
        screen.print("\nstopping")
        return 0
    finally:
        for task in (starting, stopping):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await task
        await supervisor.stop()
        if lab:
            await _tierflow("lab", "down")


async def _start_all(up: UpSettings, source: Source, supervisor: Supervisor, screen: Console) -> None:
    manifests = list(up.manifests)
    if up.lab:
        if source == "ebpf":
            with screen.status("storefront: namespaces, policies, traffic"):
                await _tierflow("lab", "set-up")
            screen.print("  ✓ storefront lab")
        manifests += _lab_manifests(real=source == "ebpf")
    if not manifests:
        raise ConfigurationError("up: nothing says which pods there are; give --lab or --manifests FOLDER")
    for child in _children(up, source, manifests):
        with screen.status(child.name):
            await supervisor.start(child)
        screen.print(f"  ✓ {child.name}")


def _children(up: UpSettings, source: Source, manifests: list[Path]) -> Iterator[Child]:
    kafka = up.kafka or f"{LOOPBACK}:{up.broker_port}"
    state = state_folder()
    if up.kafka is None:
        check_port_free(up.broker_port, "--broker-port")
        yield Child(
            "broker",
            broker_argv(up.broker_port),
            ready=lambda: wait_for_broker(kafka, 30),
            memory_limit_bytes=up.broker_memory_mib << 20,
        )
    if up.console_port:
        check_port_free(up.console_port, "--console-port")
    yield _stage(
        "inventory", "inventory", "--kafka", kafka,
        *(part for folder in manifests for part in ("--manifests", str(folder))),
    )  # fmt: skip
    yield _stage(
        "stream", "stream", "--kafka", kafka,
        "--window-s", str(up.window_s), "--lateness-s", str(up.lateness_s), "--data-dir", str(state / "stream"),
    )  # fmt: skip
    yield _stage("sink", "sink", "duckdb", "--kafka", kafka, "--database", str(state / "flows.duckdb"))
    yield _stage(
        "collector", "collect", "--kafka", kafka, "--source", source, "--interfaces", up.interfaces,
        "--interval-s", str(up.interval_s), "--keepalive-s", str(up.window_s),
        "--node", up.node, "--cluster", up.cluster,
    )  # fmt: skip
    yield _stage("console", "console", "--kafka", kafka, "--port", str(up.console_port))


def _stage(name: str, *arguments: str) -> Child:
    return Child(name, [sys.executable, "-m", "tierflow.cli.main", *arguments])


def _source(up: UpSettings, screen: Console) -> Source:
    if up.source != "auto":
        return up.source
    if os.geteuid() == 0:
        return "ebpf"
    screen.print("  ! not root: no eBPF here, so the traffic shown is SYNTHETIC (made up from a seed, not measured)")
    return "synthetic"


def _lab_manifests(*, real: bool) -> list[Path]:
    if real:
        return [lab_folder(), state_folder() / "lab" / "inventory"]
    on_paper = state_folder() / "synthetic"
    publish_pods(lab_folder(), on_paper, STOREFRONT_PODS, SystemClock())
    return [lab_folder(), lab_folder() / "lab", on_paper]


def lab_folder() -> Path:
    """The storefront's manifests.

    Raises:
        UnavailableError: this installation has none.
    """
    folder = Path(__file__).resolve().parents[3] / "deploy" / "storefront"
    if not folder.is_dir():
        raise UnavailableError(f"the storefront's manifests are not at {folder}; run from a checkout")
    return folder


async def _tierflow(*arguments: str) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tierflow.cli.main", *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip
    output, _ = await process.communicate()
    if process.returncode:
        lines = output.decode(errors="replace").strip().splitlines() or ["it said nothing"]
        raise UnavailableError(f"tierflow {' '.join(arguments)}: {lines[-1].removeprefix('tierflow: ')}")


def _log_folder() -> Path:
    folder = state_folder() / "logs"
    folder.mkdir(exist_ok=True)
    for log in folder.glob("*.log"):
        if log.stat().st_size > LOG_BYTES_KEPT:
            log.write_bytes(b"")
    return folder


def _say_what_next(up: UpSettings, lab: bool, screen: Console) -> None:
    address = state_folder() / "console.url"
    where = address.read_text().strip() if address.exists() else f"http://{LOOPBACK}:{up.console_port}"
    tierflow = shutil.which("tierflow") or "tierflow"
    tierflow = os.path.relpath(tierflow) if Path(tierflow).is_relative_to(Path.cwd()) else "tierflow"
    screen.print(
        f"\nrunning; a window closes every {up.window_s} s, logs are in {state_folder() / 'logs'}, Ctrl-C ends it"
    )
    screen.print(f"  1. open the page          {where}", soft_wrap=True)
    screen.print(f"  2. query flow logs        {tierflow} flows --namespace storefront")
    if lab:
        screen.print(f"  3. let the rogue in       {tierflow} lab deploy-rogue")
    else:
        screen.print(f"  3. follow them            {tierflow} flows --follow")
