"""A collector takes the place of one that handed over, while packets go on."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.collector.network import POD_A, POD_B, Network, inside, need_bcc
from tierflow.collector.ebpf import EbpfSettings, EbpfSource
from tierflow.schemas.record import Mark, Reporter, address_halves

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

PORT = 5555
SEND = "import socket, sys\ns = socket.socket(2, 2); s.bind(('', int(sys.argv[2]))); s.sendto(b'x', (sys.argv[1], 9))"


def say(network: Network, count: int) -> None:
    """One datagram from pod a, the ``count``-th; returns when the node has it."""
    network.python(network.a, SEND, POD_B, str(PORT))
    give_up = time.monotonic() + 20
    while network.counters()["a_out"][0] < count:
        assert time.monotonic() < give_up, network.counters()
        time.sleep(0.01)  # the kernel forwards it in its own time


class Source(EbpfSource):
    """Has pod a speak once after the old conversations have been adopted, before the new filters are attached."""

    def __init__(self, settings: EbpfSettings, network: Network) -> None:
        super().__init__(settings)
        self._network: Network | None = network

    def follow(self) -> None:
        network, self._network = self._network, None
        if network is not None:
            say(network, 1)
        super().follow()


@contextlib.contextmanager
def started(source: EbpfSource) -> Iterator[EbpfSource]:
    try:
        source.start()
        yield source
    finally:
        source.stop()


@pytest.fixture
def network() -> Iterator[Network]:
    need_bcc("ip", "nft", "nsenter")
    with Network() as made:
        yield made


def settings(node: str, network: Network, *, hand_over: bool = False) -> EbpfSettings:
    return EbpfSettings(node, (network.pattern,), 1.0, 3600.0, 1024, hand_over)


@pytest.mark.root
def test_a_conversation_that_begins_while_it_takes_over_begins_once(network: Network, node: str) -> None:
    def of_the_conversation(source: EbpfSource) -> Any:
        records: NDArray[np.void] = np.concatenate([part.records.copy() for part in source.drain()])
        return records[(records["src_port"] == PORT) & (records["src_lo"] == address_halves(POD_A)[1])]

    def work() -> Any:
        with started(EbpfSource(settings(node, network, hand_over=True))):
            pass
        with started(Source(settings(node, network), network)) as after:
            say(network, 2)
            return of_the_conversation(after)

    found = inside(network.node, work)
    at_a = found[found["reporter"] == Reporter.SRC]
    assert at_a["packets_fwd"].tolist() == [1, 1]
    assert [bool(marks & Mark.STARTED) for marks in at_a["marks"]] == [True, False]


@pytest.mark.root
def test_epochs_in_which_a_conversation_may_have_been_lost_go_on(network: Network, node: str) -> None:
    def work() -> tuple[int, int]:
        with started(EbpfSource(settings(node, network, hand_over=True))) as before:
            for _ in range(5):
                list(before.drain())
        with started(EbpfSource(settings(node, network))) as after:
            return before._epoch, after._epoch

    old, new = inside(network.node, work)
    assert new > old > 5
