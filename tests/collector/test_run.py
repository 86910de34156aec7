"""When the collector drains, and how it ends."""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tierflow.collector import run as module
from tierflow.collector.publisher import Publisher, PublisherSettings
from tierflow.collector.run import PAST_S, RunSettings, run, until_drain_s
from tierflow.collector.source import Drain
from tierflow.schemas.errors import UnavailableError
from tierflow.schemas.metrics import Metrics
from tierflow.schemas.record import RECORD
from tierflow.schemas.wire import Source, decode_batch

if TYPE_CHECKING:
    from collections.abc import Iterator


class Records:
    """One record a drain; says when it was stopped."""

    def __init__(self) -> None:
        self.drains, self.stopped = 0, False

    def start(self) -> None:
        """Nothing."""

    def drain(self) -> Iterator[Drain]:
        self.drains += 1
        yield Drain(np.zeros(1, RECORD), 10, 20, 20)

    def stop(self) -> None:
        self.stopped = True


class Links(Records):
    """Whose interfaces can be followed ``looks`` times, then no more."""

    def __init__(self, looks: int) -> None:
        super().__init__()
        self._looks = looks

    def follow(self) -> None:
        if not self._looks:
            raise OSError(24, "Too many open files")
        self._looks -= 1


class Broker:
    """Keeps what it is sent, or refuses it for good."""

    def __init__(self, *, broken: bool = False) -> None:
        self.records, self._broken = 0, broken

    async def send(self, key: bytes, value: bytes) -> None:
        if self._broken:
            raise RuntimeError("a mistake of ours")
        self.records += len(decode_batch(value).records)


async def collect(source: Records, broker: Broker, *, stop: bool = False) -> None:
    publisher = Publisher(PublisherSettings("node", "", bytes(16), Source.SYNTHETIC), broker, Metrics())
    stopping = asyncio.Event()
    if stop:
        stopping.set()
    async with asyncio.timeout(20):
        await run(source, publisher, RunSettings(0.05), stopping, lambda: None)


@pytest.mark.parametrize("interval_s", [0.5, 1.0, 10.0])
@pytest.mark.parametrize("now_s", [1_780_000_000.0, 1_780_000_000.2, 1_780_000_007.999, 1_780_000_000.006])
def test_a_drain_comes_just_past_the_next_multiple_of_the_interval(now_s: float, interval_s: float) -> None:
    wait_s = until_drain_s(now_s, interval_s)
    assert 0 < wait_s <= interval_s + PAST_S
    past_s = (now_s + wait_s) % interval_s
    assert past_s == pytest.approx(PAST_S, abs=1e-5)


async def test_stopped_it_drains_once_more_and_waits_until_the_broker_has_that() -> None:
    source, broker = Records(), Broker()
    await collect(source, broker, stop=True)
    assert (source.drains, broker.records, source.stopped) == (1, 1, True)


class Slow(Records):
    """Whose start ends only when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self._told = threading.Event()

    def start(self) -> None:
        assert self._told.wait(10)
        raise UnavailableError("the loader ended without a word")

    def abandon(self) -> None:
        self._told.set()


async def test_stopped_while_the_source_starts_it_waits_for_nothing_more() -> None:
    source = Slow()
    await collect(source, Broker(), stop=True)
    assert (source.drains, source.stopped) == (0, True)


async def test_a_publisher_that_fails_ends_the_collector() -> None:
    source = Records()
    with pytest.raises(RuntimeError, match="a mistake of ours"):
        await collect(source, Broker(broken=True))
    assert source.stopped


@pytest.fixture
def link(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """Whatever is sent here is an event to the collector, which looks again for nothing else."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    monkeypatch.setattr(module, "link_events", lambda: ours)
    monkeypatch.setattr(module, "LOOK_AGAIN_S", 3600)
    with theirs:
        yield theirs


async def test_interfaces_that_cannot_be_followed_end_the_collector(link: socket.socket) -> None:
    source, broker = Links(looks=1), Broker()
    link.send(b"a link came")
    with pytest.raises(UnavailableError, match="interfaces can't be followed: Too many open files"):
        await collect(source, broker)
    assert source.stopped
    assert broker.records == source.drains


@pytest.mark.usefixtures("link")
async def test_a_link_that_came_before_events_were_listened_to_is_looked_for() -> None:
    with pytest.raises(UnavailableError, match="Too many open files"):
        await collect(Links(looks=0), Broker())


@pytest.mark.usefixtures("link")
async def test_interfaces_are_looked_at_again_though_no_event_came(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_AGAIN_S", 0.01)
    with pytest.raises(UnavailableError, match="Too many open files"):
        await collect(Links(looks=2), Broker())
