"""What a flag can't mean is refused as it is read, before a broker is waited for, with what is accepted."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import pytest
from click.testing import CliRunner

from tests.cli.commands import commands, tierflow
from tierflow.cli.kinds import ADDRESS, CLUSTER, GROUP, NODE, TOPIC_PREFIX, Finite, Protocol, Server, Servers
from tierflow.cli.main import command
from tierflow.cli.sink import _listening
from tierflow.cli.state import state_folder
from tierflow.schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from click.testing import Result


def given(kind: click.ParamType, value: str) -> Any:
    return kind.convert(value, None, None)


@pytest.mark.parametrize("value", ["a:1", "10.0.0.1:9092", "[::1]:65535", "kafka-0.kafka.svc:9092"])
def test_a_server_is_a_host_and_a_port(value: str) -> None:
    assert given(Server(), value) == value
    assert given(Servers(), f"{value}, {value}") == f"{value},{value}"


@pytest.mark.parametrize(
    "value",
    ["", ":", "a", "a:", ":1", "a:0", "a:65536", "a:b", "a b:1", "::1:9092", "a:1,", ",", "a:1;b:1", "http://a:1"],
)
def test_what_is_no_server_is_refused_with_what_is(value: str) -> None:
    with pytest.raises(click.BadParameter, match=r"accepted is HOST:PORT, or several .* 1 to 65535"):
        given(Servers(), value)


def test_one_server_is_not_several() -> None:
    with pytest.raises(click.BadParameter, match="accepted is HOST:PORT;"):
        given(Server(), "a:1,b:1")


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (NODE, ["a", "ip-10-0-0-1.ec2.internal", "x" * 253], ["", "x" * 254, "a/b", "../a", "a b", "a\nb", "-a", "a-"]),
        (
            CLUSTER,
            ["", "prod", "arn:aws:eks:eu-west-1:123456789012:cluster/prod", "kubernetes-admin@kubernetes"],
            ["x" * 254, "a b", "/a", "a/", " ", "a\nb", "é"],
        ),
        (TOPIC_PREFIX, ["", "test.", "a_b-"], ["a b", "a/", "x" * 201, "é"]),
        (GROUP, ["tierflow-stream"], ["", "a b", "x" * 250]),
        (ADDRESS, ["0.0.0.0", "::", "fe80::1%eth0", "localhost"], ["", " ", "a b"]),
    ],
)
def test_names_are_what_they_become_part_of_allows(kind: click.ParamType, good: list[str], bad: list[str]) -> None:
    assert [given(kind, each) for each in good] == good
    for each in bad:
        with pytest.raises(click.BadParameter, match="accepted is"):
            given(kind, each)


def test_a_value_without_end_is_not_repeated_whole() -> None:
    with pytest.raises(click.BadParameter) as caught:
        given(NODE, "x" * 100_000)
    assert len(caught.value.message) < 250


def test_nan_lies_in_no_range() -> None:
    assert given(Finite(0, 60), "0.5") == 0.5
    for value in ("nan", "inf", "-inf"):
        with pytest.raises(click.BadParameter):
            given(Finite(0), value)


def test_no_flag_of_any_command_takes_nan() -> None:
    numbers = [
        parameter.type
        for each in commands(command)
        for parameter in each.params
        if isinstance(parameter.type, click.types.FloatParamType)
    ]
    assert len(numbers) > 5
    assert [each for each in numbers if not isinstance(each, Finite)] == []


@pytest.mark.parametrize(
    ("value", "stored"),
    [("tcp", "tcp"), ("TCP", "tcp"), ("6", "tcp"), ("icmpv6", "icmp6"), ("58", "icmp6"), ("47", "47")],
)
def test_a_protocol_is_what_flow_logs_call_it(value: str, stored: str) -> None:
    assert given(Protocol(), value) == stored


@pytest.mark.parametrize("value", ["", "gre?", "256", "-1", "6.0", "٦"])
def test_what_is_no_protocol_is_refused(value: str) -> None:
    with pytest.raises(click.BadParameter, match="accepted is one of icmp, ipip, tcp"):
        given(Protocol(), value)


def refused(*arguments: str) -> Result:
    result = CliRunner().invoke(command, list(arguments))
    assert result.exit_code == 2, result.output
    return result


@pytest.mark.parametrize(
    ("arguments", "flag"),
    [
        (["stream", "--kafka", "localhost"], "--kafka"),
        (["up", "--kafka", "localhost"], "--kafka"),
        (["stream", "--group", ""], "--group"),
        (["sink", "elasticsearch", "--group", ""], "--group"),
        (["collect", "--node", ""], "--node"),
        (["up", "--cluster", "a b"], "--cluster"),
        (["collect", "--seed", "-1"], "--seed"),
        (["collect", "--metrics-host", ""], "--metrics-host"),
        (["console", "--host", ""], "--host"),
        (["topics", "--topic-prefix", "a/"], "--topic-prefix"),
        (["broker", "--listen", "127.0.0.1:0"], "--listen"),
        (["up", "--window-s", "86401"], "--window-s"),
        (["up", "--lateness-s", "3601"], "--lateness-s"),
        (["inventory", "--manifests", "/no/such/folder"], "--manifests"),
        (["flows", "--evidence", "proof"], "--evidence"),
        (["flows", "--protocol", "999"], "--protocol"),
    ],
)
def test_each_command_says_which_flag_it_is(arguments: list[str], flag: str) -> None:
    assert f"Invalid value for '{flag}'" in refused(*arguments).output


def test_a_groups_flag_before_its_subcommand_is_not_passed_over() -> None:
    result = refused("inventory", "--kafka", "a:1", "--topic-prefix", "x.", "show", "--address", "10.0.0.1")
    assert "--kafka, --topic-prefix: say it behind show." in result.output


@pytest.mark.parametrize("arguments", [["schema", "flows.logs"], ["--help"], ["kibana", "export"]])
def test_output_that_cannot_be_written_is_one_line(arguments: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "tierflow.cli.main", *arguments],
            stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=60,
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (1, "tierflow: output: No space left on device; it isn't all there\n")


def test_a_reader_that_has_enough_is_no_error() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "tierflow.cli.main", "schema", "flows.logs"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    process.stdout.close()
    process.stdout = None
    _, said = process.communicate(timeout=60)
    assert said == ""


def test_a_state_folder_that_is_none_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    for wrong in (tmp_path / "file", tmp_path / "file" / "below"):
        monkeypatch.setenv("TIERFLOW_STATE", str(wrong))
        with pytest.raises(ConfigurationError, match=rf"state folder {wrong}: .*; TIERFLOW_STATE="):
            state_folder()


def test_a_sink_takes_the_place_of_a_dead_one_and_of_nothing_else(tmp_path: Path) -> None:
    left, notes = tmp_path / "store.sock", tmp_path / "notes.txt"
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(left))
    with _listening(f"unix:{left}"):
        assert left.is_socket()
    assert not left.exists()
    notes.write_text("mine")
    with pytest.raises(ConfigurationError, match="something that is no socket is there"), _listening(f"unix:{notes}"):
        pass
    assert notes.read_text() == "mine"


@pytest.mark.skipif(sys.platform != "linux", reason="the embedded broker is a Linux binary")
def test_a_broker_refuses_an_address_that_is_taken() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = tierflow("broker", "--listen", address)
    assert done.returncode == 2
    assert done.stderr == f"tierflow: --listen {address}: address already in use; choose a free port of 127.0.0.1\n"
