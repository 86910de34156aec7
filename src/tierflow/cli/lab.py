"""``tierflow lab``: the storefront application with its rogue, on this machine."""

from __future__ import annotations

import shutil
import signal
import socket
import threading
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import orjson
from rich.console import Console
from rich.table import Table

from tierflow.cli.kinds import NODE
from tierflow.cli.settings import setting
from tierflow.cli.state import state_folder
from tierflow.cli.up import lab_folder
from tierflow.lab.record import NODE as LAB_NODE
from tierflow.schemas.clock import SystemClock

if TYPE_CHECKING:
    from tierflow.lab.scene import Lab


@click.group("lab")
def command() -> None:
    """The storefront application with its rogue: real namespaces, real HTTP, real enforcement. Needs root."""


@command.command("set-up")
@setting("--node", type=NODE, default=LAB_NODE, help="Name of the node that this machine stands for.")
def set_up(node: str) -> None:
    """Start the storefront; what is up already stays."""
    click.echo("the storefront is up" if _lab().set_up(node) else "the storefront was up already")


@command.command("deploy-rogue")
def deploy_rogue() -> None:
    """Start a pod of no zone that tries all five storefront pods and the internet, each once a second."""
    rogue = _lab().deploy_rogue()
    click.echo(f"{rogue.namespace}/{rogue.name} is running at {rogue.addresses[0]}")


@command.command("remove-rogue")
def remove_rogue() -> None:
    """Delete the rogue."""
    click.echo("the rogue is gone" if _lab().remove_rogue() else "there was no rogue")


@command.command("status")
@click.option("--json", "as_json", is_flag=True, help="One JSON array instead of a table.")
def status(as_json: bool) -> None:
    """Show the pods, and how many of their calls were answered."""
    pods = _lab().status()
    if as_json:
        click.echo(orjson.dumps(pods, option=orjson.OPT_INDENT_2))
    elif not pods:
        click.echo("the lab is down")
    else:
        Console(highlight=False, width=max(shutil.get_terminal_size().columns, 120)).print(_table(pods))


@command.command("pause")
def pause() -> None:
    """Let no pod begin another call."""
    _lab().pause()
    click.echo("paused")


@command.command("resume")
def resume() -> None:
    """Let the pods call again."""
    _lab().resume()
    click.echo("resumed")


@command.command("enforce")
@setting("--node", default=socket.gethostname, show_default="host name", help="The node whose pods are judged.")
@setting("--kubeconfig", type=click.Path(path_type=Path), default=None, help="How to reach the cluster from outside.")
def enforce(node: str, kubeconfig: Path | None) -> None:
    """Enforce a Kubernetes cluster's policies on this node, until SIGTERM; for a demonstration without Calico."""
    # As above: these bring the policy engine and the Kubernetes client.
    from tierflow.inventory.kubernetes.api import Api, connect
    from tierflow.inventory.kubernetes.source import KubernetesSource
    from tierflow.inventory.versions import Versions
    from tierflow.lab.command import require_privilege
    from tierflow.lab.node_enforcement import NodeEnforcement
    from tierflow.schemas.metrics import Metrics

    require_privilege()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    clock = SystemClock()
    source = KubernetesSource(Api(partial(connect, kubeconfig), clock), Versions(), clock, Metrics())
    enforcement = NodeEnforcement(node, source)
    source.start()
    try:
        while not stop.is_set():
            pods = enforcement.look()
            if pods is not None:
                click.echo(f"rules for {pods} pods", err=True)
            for text in source.said:
                click.echo(text, err=True)
            source.said = []
    finally:
        enforcement.remove()
        source.stop()


@command.command("down")
def down() -> None:
    """Remove everything that the lab made."""
    click.echo("the lab is down" if _lab().down() else "the lab was down already")


def _lab() -> Lab:
    # The lab brings the policy engine; `tierflow --help` needn't wait for it.
    from tierflow.lab.scene import Lab, LabSettings

    return Lab(LabSettings(state=state_folder() / "lab", manifests=lab_folder()), SystemClock())


def _table(pods: list[dict[str, Any]]) -> Table:
    table = Table(box=None, header_style="bold")
    for name in ("NAMESPACE", "NAME", "ADDRESS", "RUNNING"):
        table.add_column(name, no_wrap=True)
    table.add_column("SERVED", justify="right")
    table.add_column("ANSWERED/TRIED")
    for pod in pods:
        calls = ", ".join(
            f"{url.removeprefix('http://')} {edge['answered']}/{edge['tried']}" for url, edge in pod["calls"].items()
        )
        table.add_row(
            pod["namespace"], pod["name"], pod["address"],
            "yes" if pod["running"] else "no", str(pod["served"]), calls or "-",
        )  # fmt: skip
    return table
