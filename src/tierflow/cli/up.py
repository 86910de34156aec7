"""``tierflow up``: the whole pipeline on this machine, as supervised child processes."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

import click
from rich.console import Console

from tierflow.cli import stages as stages_of
from tierflow.cli.broker import LOOPBACK, check_port_free
from tierflow.cli.kinds import CLUSTER, LATENESS_S, NODE, WINDOW_S, Finite, Servers
from tierflow.cli.settings import setting
from tierflow.cli.stages import UpSettings
from tierflow.cli.state import state_folder
from tierflow.cli.supervisor import Supervisor, side_by_side
from tierflow.lab.record import NODE as LAB_NODE
from tierflow.schemas.clock import SystemClock
from tierflow.schemas.errors import ConfigurationError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tierflow.cli.stages import Source
    from tierflow.cli.supervisor import Child

LOG_BYTES_KEPT: Final = 16 * 1024 * 1024
"""A log that has grown past this is emptied when `up` starts."""


@click.command("up")
@setting("--lab/--no-lab", default=False, help="Set up the storefront lab too.")
@setting("--source", type=click.Choice(["auto", "ebpf", "synthetic"]), default="auto", help="Where records come from.")
@setting(
    "--kafka", type=Servers(), metavar="HOST:PORT", default=None,
    help="An existing Kafka; without it, an embedded broker.",
)  # fmt: skip
@setting("--broker-port", type=click.IntRange(1, 65535), default=19092, help="Port of the embedded broker.")
@setting(
    "--broker-memory-mib",
    type=click.IntRange(64),
    default=2048,
    help="Memory at which the embedded broker, which keeps all messages in memory, is started afresh.",
)
@setting("--console-port", type=click.IntRange(0, 65535), default=8080, help="Port of the page; 0 chooses one.")
@setting("--window-s", type=WINDOW_S, default=15, help="Width of an aggregation window in seconds.")
@setting("--lateness-s", type=LATENESS_S, default=2, help="Seconds that a window waits for late records.")
@setting("--interval-s", type=Finite(0.1, 60), default=1.0, help="Seconds between drains of the kernel.")
@setting("--interfaces", default="tf*,cali*,veth*", help="Interfaces to watch, as patterns.")
@setting(
    "--manifests",
    multiple=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of Kubernetes objects; may be repeated.",
)
@setting("--node", type=NODE, default=LAB_NODE, help="Name of this node.")
@setting("--cluster", type=CLUSTER, default="", help="Name of this cluster.")
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
    """Run until a signal; 0 when all was running by then, else what a shell makes of the signal: 130 for Ctrl-C."""
    stop = asyncio.Event()
    heard: list[signal.Signals] = []

    def end(number: signal.Signals) -> None:
        heard.append(number)
        stop.set()

    loop = asyncio.get_running_loop()
    ends = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # else nohup started it, to outlive its terminal
        ends.append(signal.SIGHUP)
    for number in ends:
        loop.add_signal_handler(number, end, number)

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
        screen.print("\nstopping before all was up")
        return 128 + heard[0]
    finally:
        for task in (starting, stopping):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await task
        await supervisor.stop()
        if lab:
            await _tierflow("lab", "down")


async def _start_all(up: UpSettings, source: Source, supervisor: Supervisor, screen: Console) -> None:
    manifests = [*up.manifests, *(_lab_manifests(up.node, real=source == "ebpf") if up.lab else ())]
    if not manifests:
        raise ConfigurationError("up: nothing says which pods there are; give --lab or --manifests FOLDER")
    broker, stages = stages_of.broker(up), list(stages_of.stages(up, source))
    inventory = stages_of.inventory(up, manifests)
    if up.console_port:
        check_port_free(up.console_port, "--console-port")
    has_topics, has_pods = asyncio.Event(), asyncio.Event()

    async def start_broker() -> None:
        if broker is None:
            await stages_of.topics_are_there(up.bootstrap, 10.0)
        else:
            await start(broker)
        has_topics.set()

    async def set_up_lab() -> None:
        if up.lab and source == "ebpf":
            progress.begun("storefront lab")
            await _tierflow("lab", "set-up", "--node", up.node)
            progress.done("storefront lab")
        has_pods.set()

    async def start_stages() -> None:
        await has_topics.wait()
        await start(*stages)

    async def start_inventory() -> None:
        await has_topics.wait()
        await has_pods.wait()  # the first that it publishes are all pods
        await start(inventory)

    async def start(*children: Child) -> None:
        progress.begun(*(child.name for child in children))
        await supervisor.start(*children, started=progress.done)

    with _Progress(screen) as progress:
        await side_by_side(start_broker(), set_up_lab(), start_stages(), start_inventory())


class _Progress:
    """Says on the screen what has started, and what is waited for."""

    def __init__(self, screen: Console) -> None:
        self._screen = screen
        self._status = screen.status("starting")
        self._waited_for: list[str] = []

    def __enter__(self) -> Self:
        self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._status.stop()

    def begun(self, *names: str) -> None:
        self._waited_for.extend(names)
        self._status.update(f"waiting for {', '.join(self._waited_for)}")

    def done(self, name: str) -> None:
        self._screen.print(f"  ✓ {name}")
        self._waited_for.remove(name)
        self._status.update(f"waiting for {', '.join(self._waited_for)}")


def _source(up: UpSettings, screen: Console) -> Source:
    if up.source != "auto":
        return up.source
    if os.geteuid() == 0:
        return "ebpf"
    screen.print("  ! not root: no eBPF here, so the traffic shown is SYNTHETIC (made up from a seed, not measured)")
    return "synthetic"


def _lab_manifests(node: str, *, real: bool) -> list[Path]:
    if real:
        return [lab_folder(), state_folder() / "lab" / "inventory"]
    # Only synthetic traffic needs these, and they take time to import.
    from tierflow.collector.synthetic import STOREFRONT_PODS
    from tierflow.lab.paper import publish_pods

    on_paper = state_folder() / "synthetic"
    publish_pods(lab_folder(), on_paper, STOREFRONT_PODS, SystemClock(), node)
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
    try:
        output, _ = await process.communicate()
    except asyncio.CancelledError:
        # Left alone it, or a command that it waits for, would go on making what `lab down` is about to remove.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        await process.wait()
        raise
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
    tierflow = _own_command()
    screen.print(
        f"\nrunning; a window closes every {up.window_s} s, logs are in {state_folder() / 'logs'}, Ctrl-C ends it"
    )
    screen.print(f"  1. open the page          {where}", soft_wrap=True)
    screen.print(f"     (it opens once; {address} holds the next)", soft_wrap=True)
    screen.print(f"  2. query flow logs        {tierflow} flows --namespace storefront")
    if lab:
        screen.print(f"  3. let the rogue in       {tierflow} lab deploy-rogue")
    else:
        screen.print(f"  3. follow them            {tierflow} flows --follow")


def _own_command() -> str:
    """What a person types in this folder to run this installation's ``tierflow``."""
    found = shutil.which("tierflow")
    own = Path(sys.executable).with_name("tierflow")
    if not own.exists() or (found is not None and Path(found).samefile(own)):
        return "tierflow"
    return os.path.relpath(own) if own.is_relative_to(Path.cwd()) else str(own)
