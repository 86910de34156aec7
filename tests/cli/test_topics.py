"""``tierflow topics`` against a real broker, and ``tierflow broker`` as a process."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from click.testing import CliRunner

from tierflow.cli.broker import free_port, wait_for_broker
from tierflow.cli.main import command
from tierflow.cli.topics import complaints_about
from tierflow.schemas import topics
from tierflow.schemas.errors import UnavailableError


def test_topics_are_created_once_then_found_as_they_should_be(broker: str) -> None:
    prefix = f"t{uuid.uuid4().hex[:8]}."
    arguments = ["topics", "--kafka", broker, "--topic-prefix", prefix, "--mode"]
    before = CliRunner().invoke(command, [*arguments, "check"])
    assert isinstance(before.exception, UnavailableError)
    assert f"topic {prefix}flows.raw.v1 is missing; --mode create makes it" in str(before.exception)

    made = CliRunner().invoke(command, [*arguments, "create"])
    assert made.output.splitlines() == [
        f"{prefix}{topic.name}: created with {topic.partitions} partitions" for topic in topics.ALL
    ], made.exception
    again = CliRunner().invoke(command, [*arguments, "create"])
    assert again.output.splitlines() == [f"{prefix}{topic.name}: {topic.partitions} partitions" for topic in topics.ALL]
    assert CliRunner().invoke(command, [*arguments, "check"]).output == again.output


def test_a_topic_whose_order_matters_may_not_have_several_partitions() -> None:
    assert complaints_about(topics.INVENTORY, 3) == ["topic inventory.v1 has 3 partitions; its order needs exactly 1"]
    assert complaints_about(topics.FLOWS_RAW, 3) == []


def test_the_broker_command_serves_where_it_advertises_and_ends_on_sigterm() -> None:
    port = free_port()
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "tierflow.cli.main",
            "broker",
            f"--listen=0.0.0.0:{port}",
            f"--advertise=localhost:{port}",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        asyncio.run(wait_for_broker(f"localhost:{port}", timeout_s=20))
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=10)


@pytest.mark.skipif(sys.platform != "linux", reason="the range is read where Linux says it")
def test_a_free_port_is_none_that_an_outgoing_connection_may_be_given_meanwhile() -> None:
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert all(1024 <= free_port() < lowest for _ in range(50))


@pytest.mark.parametrize("flag", ["--listen", "--advertise"])
def test_an_address_without_a_port_is_refused(flag: str) -> None:
    result = CliRunner().invoke(command, ["broker", flag, "somewhere"])
    assert f"Invalid value for '{flag}': 'somewhere': accepted is HOST:PORT" in result.output
