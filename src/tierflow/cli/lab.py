"""``tierflow lab``: the storefront application with its rogue, on this machine."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import click
import orjson
from rich.console import Console
from rich.table import Table

from tierflow.cli.state import state_folder
from tierflow.cli.up import lab_folder
from tierflow.schemas.clock import SystemClock

if TYPE_CHECKING:
    from tierflow.lab.scene import Lab


@click.group("lab")
def command() -> None:
    """The storefront application with its rogue: real namespaces, real HTTP, real enforcement. Needs root."""


@command.command("set-up")
def set_up() -> None:
    """Start the storefront; what is up already stays."""
    click.echo("the storefront is up" if _lab().set_up() else "the storefront was up already")


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
