"""The entry point: finds the command, reads the configuration file, turns errors into one line."""

from __future__ import annotations

import contextlib
import errno
import importlib
import sys
from pathlib import Path
from typing import Final

import click

import tierflow
from tierflow.cli import settings
from tierflow.schemas.errors import ConfigurationError, TierflowError, UnavailableError

COMMANDS: Final = {
    "bench": "Run the benchmark harness.",
    "broker": "Run the embedded broker.",
    "collect": "Turn packets into raw records.",
    "console": "Serve the page and its API.",
    "flows": "Query flow logs.",
    "inventory": "Publish who holds which address, and the policies in force.",
    "kibana": "Load the Kibana saved objects.",
    "lab": "The storefront application with its rogue.",
    "policy": "Lint, trace and judge policies.",
    "schema": "Print the JSON Schema of a topic.",
    "sink": "Write flow logs and counters to a store.",
    "stream": "Join, judge and aggregate raw records.",
    "topics": "Create or check the Kafka topics.",
    "up": "Run everything on this machine.",
}
"""Command names and their one-line help; a module is imported only when its command runs, to start quickly."""


NOT_WRITTEN: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""What a full or broken disk answers."""
INTERRUPTED: Final = 130
"""What a shell makes of Ctrl-C."""


class LazyGroup(click.Group):
    """A group whose commands are modules of this package."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of the commands that are installed."""
        del ctx
        return [name for name in COMMANDS if _module_exists(name)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return one command."""
        del ctx
        if cmd_name not in COMMANDS or not _module_exists(cmd_name):
            return None
        command: click.Command = importlib.import_module(f"tierflow.cli.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name]) for name in self.list_commands(ctx)])


def _module_exists(name: str) -> bool:
    return (Path(__file__).parent / f"{name}.py").exists()


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(tierflow.__version__, prog_name="tierflow")
@click.option(
    "--config",
    type=click.Path(dir_okay=False, path_type=Path),
    envvar="TIERFLOW_CONFIG",
    help="TOML file with the same settings as the flags.",
)
@click.pass_context
def command(context: click.Context, config: Path | None) -> None:
    """See every flow of a Kubernetes cluster, and the policy rule that decided it."""
    if config is None or context.invoked_subcommand is None or not isinstance(context.command, LazyGroup):
        return
    values = settings.read_file(config)
    for name, value in values.items():
        if isinstance(value, dict) and name not in COMMANDS:
            raise ConfigurationError(f"configuration file: no command [{name}]; accepted: {', '.join(COMMANDS)}")
    chosen = context.command.get_command(context, context.invoked_subcommand)
    if chosen is not None:
        context.default_map = {
            context.invoked_subcommand: settings.defaults_for(chosen, values, _known_settings(context))
        }


def _known_settings(context: click.Context) -> set[str] | None:
    """Names of the settings of all commands; None where some can't be told, as in the collector's image."""
    group = context.command
    if not isinstance(group, LazyGroup):
        return None
    names: set[str] = set()
    try:
        pending = [found for name in group.list_commands(context) if (found := group.get_command(context, name))]
    except ModuleNotFoundError as error:
        if _is_ours(error):
            raise
        return None
    while pending:
        each = pending.pop()
        names |= {parameter.name for parameter in each.params if parameter.name}
        if isinstance(each, click.Group):
            pending.extend(each.commands.values())
    return names


def _is_ours(error: ModuleNotFoundError) -> bool:
    return error.name is None or error.name.partition(".")[0] == "tierflow"


def main() -> None:
    """Run the command line; exit with the error's own code, and never with a traceback for a user's mistake."""
    try:
        code = command.main(prog_name="tierflow", standalone_mode=False)
    except TierflowError as error:
        click.echo(f"tierflow: {error}", err=True)
        code = error.exit_code
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except click.Abort:
        code = INTERRUPTED
    except OSError as error:
        if error.errno not in NOT_WRITTEN:
            raise
        click.echo(f"tierflow: {error.filename or 'output'}: {error.strerror}; it isn't all there", err=True)
        code = 1
        with contextlib.suppress(OSError):  # what it still holds would be tried, and complained of, at the very end
            sys.stdout.close()
    except ModuleNotFoundError as error:
        if _is_ours(error):
            raise
        click.echo(
            f"tierflow: this command needs the Python package {error.name}, which is not installed here", err=True
        )
        code = UnavailableError.exit_code
    sys.exit(code)


if __name__ == "__main__":
    main()
