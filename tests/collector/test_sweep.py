"""A conversation that speaks while it is swept from the kernel's map, and one that doesn't."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.collector.network import Network, inside, need_bcc
from tierflow.collector import bpf_syscall
from tierflow.collector.ebpf import EbpfSettings, EbpfSource
from tierflow.collector.map_layout import CONVERSATION, KEY
from tierflow.schemas.record import Mark, Reporter

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

PORTS = {"silent": 1, "speaks": 2}


class States(bpf_syscall.BatchReader):
    """Has a conversation speak between the reading of its state and what is done about it."""

    def peek(self, fd: int) -> Iterator[tuple[NDArray[np.void], NDArray[np.void]]]:
        for keys, states in super().peek(fd):
            for index in np.flatnonzero(keys["local_port"] == PORTS["speaks"]):
                spoken = states[index : index + 1].copy()
                spoken["last_seen_ns"] = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
                bpf_syscall.update(fd, keys[index : index + 1].copy(), spoken)
            yield keys, states


@pytest.mark.root
def test_what_speaks_while_it_is_swept_has_not_ended_and_is_not_forgotten(node: str) -> None:
    need_bcc("ip", "nft", "nsenter")

    def swept(source: EbpfSource) -> tuple[list[int], list[int]]:
        """Ports of what was reported ended, and of what is remembered."""
        source.start()
        (interface, *_) = source.interfaces
        conversations = source._fds["conversations"]
        keys, states = np.zeros(len(PORTS), KEY), np.zeros(len(PORTS), CONVERSATION)
        keys["local_port"], keys["ifindex"], keys["proto"] = list(PORTS.values()), interface, 17
        states["reporter"] = Reporter.SRC
        bpf_syscall.update_batch(conversations, keys, states)  # last seen when the machine was started
        records = np.concatenate([part.records.copy() for part in source.drain()])
        ended = records[records["marks"] & Mark.COMPLETED != 0]
        reader = bpf_syscall.BatchReader(KEY, CONVERSATION)
        left = np.concatenate([np.zeros(0, KEY), *(keys.copy() for keys, _ in reader.peek(conversations))])
        return ended["src_port"].tolist(), left["local_port"].tolist()

    with Network() as network:

        def work() -> tuple[list[int], list[int]]:
            source = EbpfSource(EbpfSettings(node, (network.pattern,), 1.0, 3600.0, 1024))
            source._states = States(KEY, CONVERSATION)
            try:
                return swept(source)
            finally:
                source.stop()

        ended, left = inside(network.node, work)
    assert ended == [PORTS["silent"]]
    assert PORTS["speaks"] in left
    assert PORTS["silent"] not in left
