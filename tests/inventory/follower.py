"""A source followed into a history, with waits on conditions, for tests against a real API server."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Self

import numpy as np

from tierflow.inventory.history import History
from tierflow.inventory.kubernetes.api import Api, connect
from tierflow.inventory.kubernetes.source import KubernetesSource
from tierflow.inventory.versions import Versions
from tierflow.schemas.clock import SystemClock
from tierflow.schemas.inventory import Heartbeat, Message, decode_message, encode_message
from tierflow.schemas.metrics import Metrics
from tierflow.schemas.record import address_halves

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tierflow.inventory.snapshot import EndpointVersion, Snapshot
    from tierflow.schemas.clock import Clock

WAIT_S = 90


class Follower:
    """Drains a watch of a cluster into a history, by way of the topic's bytes."""

    def __init__(self, kubeconfig: Path, clock: Clock | None = None) -> None:
        self.clock = clock or SystemClock()
        self.metrics = Metrics()
        self.history = History()
        self.messages: list[Message] = []
        self.said: list[str] = []
        api = Api(partial(connect, kubeconfig), self.clock)
        self.versions = Versions()
        self.source = KubernetesSource(api, self.versions, self.clock, self.metrics, probe_every_s=0.2)

    def __enter__(self) -> Self:
        self.source.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.source.stop()

    def step(self) -> None:
        messages: list[Message] = [*self.source.drain(0.05), Heartbeat(self.source.watermark_ns, "test", 1)]
        for message in messages:
            self.history.apply(decode_message(*encode_message(message)))
        self.versions.complete_to(self.source.watermark_ns)
        self.messages += messages
        self.said += self.source.said
        self.source.said.clear()

    def until(self, condition: Callable[[], object], what: str) -> None:
        give_up = time.monotonic() + WAIT_S
        while not condition():
            if time.monotonic() > give_up:
                raise AssertionError(f"not within {WAIT_S} s: {what}; said: {self.said}")
            self.step()

    def holder(self, address: str, at_ns: int | None = None) -> EndpointVersion | None:
        return holder(self.history.snapshot(), address, self.clock.now_ns() if at_ns is None else at_ns)

    def services(self, address: str) -> set[str]:
        """Names of the Services that have an address now."""
        return {
            each.name for each in self.history.snapshot().services_at(*address_halves(address), self.clock.now_ns())
        }


def holder(snapshot: Snapshot, address: str, at_ns: int) -> EndpointVersion | None:
    hi, lo = address_halves(address)
    number = snapshot.lookup(np.array([hi], np.uint64), np.array([lo], np.uint64), np.array([at_ns], np.int64))[0]
    return None if number < 0 else snapshot.endpoints[number]
