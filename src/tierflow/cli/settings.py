"""One declaration for a setting that is a flag, an environment variable and a key of the TOML file."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tierflow.cli.kinds import TOPIC_PREFIX, Servers, shortened
from tierflow.schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

ENVIRONMENT_PREFIX = "TIERFLOW_"


def setting(flag: str, *more: str, **options: Any) -> Callable[[Any], Any]:
    """A ``click.option`` that is also ``TIERFLOW_<NAME>`` and ``<name>`` in the configuration file.

    Args:
        flag: the long flag, for instance ``--window-s``; a ``--on/--off`` pair is fine.
        more: further declarations, as for ``click.option``.
        options: as for ``click.option``.
    """
    name = flag.split("/")[0].lstrip("-").replace("-", "_")
    options.setdefault("envvar", ENVIRONMENT_PREFIX + name.upper())
    options.setdefault("show_default", True)
    return click.option(flag, *more, **options)


class SecretOption(click.Option):
    """Read from its variable or the configuration file; on the command line there is no such flag."""

    def add_to_parser(self, parser: Any, ctx: click.Context) -> None:
        """Nothing is added: a secret among the arguments is everybody's to read."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str]:
        """The variable in place of the flag."""
        del ctx
        return str(self.envvar), self.help or ""


def secret_setting(name: str, about: str) -> Callable[[Any], Any]:
    """``TIERFLOW_<NAME>``, which holds a secret, and the flag ``--<name>-file``, which names a file that does.

    Args:
        name: for instance ``elasticsearch-password``; the command receives ``elasticsearch_password`` and
            ``elasticsearch_password_file``.
        about: what it is, to be read after "the".
    """
    variable = setting(f"--{name}", cls=SecretOption, default=None, help=f"The {about}; there is no flag for it.")
    file = setting(f"--{name}-file", type=click.Path(path_type=Path), default=None, help=f"File with the {about}.")
    return lambda function: variable(file(function))


def kafka_setting(function: Any) -> Any:
    """The ``--kafka`` flag that every stage shares."""
    return setting(
        "--kafka", type=Servers(), metavar="HOST:PORT", default="127.0.0.1:9092", help="Kafka bootstrap servers."
    )(function)


def topic_prefix_setting(function: Any) -> Any:
    """The ``--topic-prefix`` flag of all that read or write topics."""
    return setting("--topic-prefix", type=TOPIC_PREFIX, default="", help="Put before each topic's name.")(function)


def read_file(path: Path) -> dict[str, Any]:
    """The settings of a TOML file: keys at the top hold for all commands, a table ``[command]`` for one.

    Raises:
        ConfigurationError: the file is missing or isn't TOML.
    """
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"--config {path}: not TOML: not UTF-8 at byte {error.start}") from error
    except RecursionError as error:
        raise ConfigurationError(f"--config {path}: not TOML that can be read: nested too deeply") from error
    except OSError as error:
        raise ConfigurationError(f"--config {path}: {error.strerror or error}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"--config {path}: not TOML: {error}") from error


def defaults_for(
    command: click.Command, settings: dict[str, Any], known: set[str] | None, within: str = ""
) -> dict[str, Any]:
    """Click's ``default_map`` of one command from the file's settings.

    Args:
        command: the command.
        settings: of the file.
        known: settings of all commands; None: any may be one.
        within: the group's table, if in one.

    Raises:
        ConfigurationError: a table of this command has a key that the command doesn't know, a top-level key is one that
            no command knows, or a value is of no kind that a flag has.
    """
    parameters = {parameter.name: parameter for parameter in command.params if parameter.name}
    accepted = set(parameters)
    name = f"{within}{command.name}"
    table = settings.get(command.name or "", {})
    if not isinstance(table, dict):
        raise ConfigurationError(f"configuration file: [{name}] must be a table")
    subcommands = set(command.commands) if isinstance(command, click.Group) else set()
    for key in table:
        if key not in accepted and key not in subcommands:
            raise ConfigurationError(
                f"configuration file: [{name}] has no setting {key!r}; "
                f"accepted: {', '.join(sorted(accepted | subcommands))}"
            )
    shared = {key: value for key, value in settings.items() if not isinstance(value, dict)}
    for key in shared:
        if known is not None and key not in known:
            raise ConfigurationError(f"configuration file: unknown setting {key!r}")
    chosen = {key: value for key, value in shared.items() if key in accepted} | table
    defaults = {
        key: _default(key, value, several=parameters[key].multiple)
        for key, value in chosen.items()
        if key not in subcommands
    }
    for child in command.commands.values() if isinstance(command, click.Group) else ():
        child_name = child.name or ""
        defaults[child_name] = defaults_for(
            child, settings | {child_name: table.get(child_name, {})}, known, f"{name}."
        )
    return defaults


def _default(key: str, value: Any, *, several: bool) -> Any:
    """A value of the file as click takes it; one alone stands for a list of it.

    Raises:
        ConfigurationError: it is, or holds, what no flag could say.
    """
    values = value if several and isinstance(value, list) else [value]
    for each in values:
        if not isinstance(each, str | int | float):
            accepted = "text, a number, true, false or a list of these" if several else "text, a number, true or false"
            raise ConfigurationError(f"configuration file: {key} = {shortened(value)}; accepted: {accepted}")
    return values if several else value
