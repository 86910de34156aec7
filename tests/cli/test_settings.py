"""Flags, environment and TOML file name the same settings, and refuse what they don't know."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click
import pytest
from click.testing import CliRunner

from tests.cli.commands import commands, tierflow
from tierflow.cli import settings
from tierflow.cli.main import command
from tierflow.schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path


@click.command("example")
@settings.setting("--window-s", type=int, default=15)
def example(window_s: int) -> None:
    click.echo(f"window {window_s}")


def run(*arguments: str, env: dict[str, str] | None = None, defaults: dict[str, object] | None = None) -> str:
    result = CliRunner().invoke(example, list(arguments), env=env, default_map=defaults)
    assert result.exit_code == 0, result.output
    return result.output.strip()


def test_a_flag_beats_the_environment_which_beats_the_file_which_beats_the_default() -> None:
    assert run() == "window 15"
    assert run(defaults={"window_s": 20}) == "window 20"
    assert run(env={"TIERFLOW_WINDOW_S": "25"}, defaults={"window_s": 20}) == "window 25"
    assert run("--window-s", "30", env={"TIERFLOW_WINDOW_S": "25"}) == "window 30"


def test_a_table_of_the_file_beats_its_top_level() -> None:
    values = {"window_s": 20, "example": {"window_s": 40}}
    assert settings.defaults_for(example, values, {"window_s"}) == {"window_s": 40}


def test_an_unknown_key_in_a_command_table_is_refused_with_the_accepted_ones() -> None:
    with pytest.raises(ConfigurationError, match=r"\[example\] has no setting 'windows'; accepted: .*window_s"):
        settings.defaults_for(example, {"example": {"windows": 1}}, {"window_s"})


def test_a_group_names_its_subcommands_and_a_subcommand_its_group() -> None:
    group = click.Group("outer", commands=[example])
    with pytest.raises(ConfigurationError, match=r"\[outer\] has no setting 'exmaple'; accepted: example$"):
        settings.defaults_for(group, {"outer": {"exmaple": {}}}, set())
    with pytest.raises(ConfigurationError, match=r"\[outer.example\] has no setting 'windows'; accepted: window_s$"):
        settings.defaults_for(group, {"outer": {"example": {"windows": 1}}}, set())


@pytest.mark.parametrize("value", [[1, 2], {"a": 1}, datetime(2026, 1, 1, tzinfo=UTC), [[1]]])
def test_a_value_that_no_flag_could_say_is_refused(value: object) -> None:
    with pytest.raises(ConfigurationError, match=r"window_s = .*; accepted: text, a number, true or false$"):
        settings.defaults_for(example, {"example": {"window_s": value}}, {"window_s"})


@click.command("several")
@settings.setting("--port", type=int, multiple=True)
def several(port: tuple[int, ...]) -> None:
    click.echo(f"ports {port}")


def test_a_setting_that_may_be_repeated_is_a_list_or_one_value() -> None:
    for value, expected in ((80, [80]), ([80, 443], [80, 443])):
        assert settings.defaults_for(several, {"several": {"port": value}}, {"port"}) == {"port": expected}
    with pytest.raises(ConfigurationError, match=r"or a list of these$"):
        settings.defaults_for(several, {"several": {"port": [[80]]}}, {"port"})


def test_an_unknown_key_at_the_top_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="unknown setting 'windows'"):
        settings.defaults_for(example, {"windows": 1}, {"window_s"})


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"window_s = [", "not TOML"),
        (b"\xff", "not UTF-8 at byte 0"),
        (b"a = " + b"[" * 5000 + b"]" * 5000, "nested too deeply"),
        (b"no_such_thing = 1", "unknown setting 'no_such_thing'"),
        (b"[strem]\nwindow_s = 1", "no command [strem]; accepted: bench, broker,"),
        (b"[schema]\nno_such_thing = 1", "[schema] has no setting 'no_such_thing'"),
    ],
)
def test_a_bad_file_is_one_line_and_a_non_zero_exit(tmp_path: Path, content: bytes, expected: str) -> None:
    path = tmp_path / "tierflow.toml"
    path.write_bytes(content)
    done = tierflow("--config", str(path), "schema", "flows.logs")
    assert done.returncode == 2
    assert expected in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_missing_file_names_itself() -> None:
    done = tierflow("--config", "/no/such/file.toml", "schema", "flows.logs")
    assert (done.returncode, done.stderr) == (2, "tierflow: --config /no/such/file.toml: No such file or directory\n")


def test_an_unknown_flag_is_refused_without_a_traceback() -> None:
    done = tierflow("schema", "--no-such-flag")
    assert done.returncode == 2
    assert "No such option" in done.stderr
    assert "Traceback" not in done.stderr


def test_every_listed_command_can_be_imported_and_has_help() -> None:
    result = CliRunner().invoke(command, ["--help"])
    assert result.exit_code == 0
    with click.Context(command) as context:
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            assert found.help, name


@click.command("guarded")
@settings.secret_setting("store-password", "password")
def guarded(store_password: str | None, store_password_file: Path | None) -> None:
    click.echo(f"{store_password} {store_password_file}")


def test_a_secret_comes_from_its_variable_the_configuration_or_a_file_and_from_no_argument() -> None:
    def said(*arguments: str, **more: Any) -> str:
        return CliRunner().invoke(guarded, list(arguments), **more).output

    assert said(env={"TIERFLOW_STORE_PASSWORD": "x"}) == "x None\n"
    assert said(default_map={"store_password": "x"}) == "x None\n"
    assert said("--store-password-file", "f") == "None f\n"
    assert "No such option" in said("--store-password", "x")
    assert "No such option" in said("--store-password=x")
    assert "TIERFLOW_STORE_PASSWORD" in said("--help")
    assert "--store-password " not in said("--help")


def test_no_command_takes_a_secret_as_an_argument() -> None:
    # What the parser knows, not what is declared.
    flags = {flag for each in commands(command) for flag in each.make_parser(click.Context(each))._long_opt}
    assert {"--elasticsearch-password-file", "--kibana-api-key-file", "--token-file"} <= flags
    assert [flag for flag in flags if flag.endswith(("password", "-key", "token", "secret"))] == []
