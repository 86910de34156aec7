"""What every stage does alike: health and metrics, stopping, and its one line about the broker."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import urllib.error
import urllib.request
from typing import TYPE_CHECKING

import click
import pytest
from aiokafka.errors import KafkaConnectionError

from tierflow.cli import stage as module
from tierflow.cli.broker import free_port
from tierflow.cli.main import LazyGroup
from tierflow.cli.stage import MetricsAddress, Stage, run_stage
from tierflow.schemas import metrics
from tierflow.schemas.errors import ConfigurationError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator

MOVED = metrics.counter("tierflow_test_moved_things_total", "things", "Things that a test moved.")


async def nothing(_: Stage) -> None:
    """The work of a stage that has none."""


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> str:
    """An address at which, as far as a stage can tell, a broker answers."""

    async def answers(*_: object, **__: object) -> None:
        return

    monkeypatch.setattr(module, "wait_for_broker", answers)
    return "127.0.0.1:9"


def get(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


async def test_metrics_and_health_are_served_and_a_stage_is_ready_once_it_says_so(broker: str) -> None:
    port, seen = free_port(), list[int]()

    async def work(stage: Stage) -> None:
        stage.live.add(MOVED, 7)
        for step in (lambda: None, stage.ready):
            step()
            seen.append((await asyncio.to_thread(get, port, "/readyz"))[0])
        assert (await asyncio.to_thread(get, port, "/healthz"))[0] == 200
        assert "tierflow_test_moved_things_total 7.0" in (await asyncio.to_thread(get, port, "/metrics"))[1]

    await run_stage(broker, {}, MetricsAddress(port=port), work)
    assert seen == [503, 200]


async def test_a_metrics_port_in_use_is_one_line_that_names_the_setting(broker: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(
            ConfigurationError, match=rf"^--metrics-host 127\.0\.0\.1 --metrics-port {port}: address already in use$"
        ):
            await run_stage(broker, {}, MetricsAddress(port=port), nothing)


async def test_a_stage_that_waits_for_its_broker_stops_when_it_is_told_to() -> None:
    async def never(_: Stage) -> None:
        raise AssertionError("there is no broker to work with")

    running = asyncio.create_task(run_stage(f"127.0.0.1:{free_port()}", {}, MetricsAddress(), never, 60))
    await asyncio.sleep(0)  # until it has its signal handlers
    os.kill(os.getpid(), signal.SIGTERM)
    async with asyncio.timeout(10):
        await running


async def test_a_broker_that_never_answers_is_one_line() -> None:
    address = f"127.0.0.1:{free_port()}"
    with pytest.raises(UnavailableError, match=f"^--kafka {address}: no Kafka broker answers there"):
        await run_stage(address, {}, MetricsAddress(), nothing, 0.1)


async def test_what_kafka_refuses_for_good_is_one_line(broker: str) -> None:
    async def refused(_: Stage) -> None:
        raise KafkaConnectionError("gone")

    with pytest.raises(UnavailableError, match=f"^--kafka {broker}: KafkaConnectionError: .*gone$"):
        await run_stage(broker, {}, MetricsAddress(), refused)


def commands(group: click.Group, context: click.Context) -> Iterator[click.Command]:
    for name in group.list_commands(context):
        found = group.get_command(context, name)
        assert found is not None
        yield found
        if isinstance(found, click.Group):
            yield from commands(found, context)


def test_every_stage_serves_its_metrics_on_loopback_unless_told_otherwise() -> None:
    root = LazyGroup("tierflow")
    hosts = {
        command.name: parameter.default
        for command in commands(root, click.Context(root))
        for parameter in command.params
        if parameter.name == "metrics_host"
    }
    assert hosts == dict.fromkeys(("collect", "inventory", "stream", "duckdb", "elasticsearch"), "127.0.0.1")
