"""Made-up traffic from a seed: for machines without root. Nothing here is measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from tierflow.collector.source import Drain
from tierflow.schemas.clock import NS_PER_S, Clock
from tierflow.schemas.record import RECORD, V4_MAPPED, Mark, Reporter, TcpFlag, address_halves

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

POD_NETWORK: Final = int(V4_MAPPED | 10 << 24 | 244 << 16)
"""10.244.0.0/16, where the pods live."""

STOREFRONT_PODS: Final = {
    "frontend": "10.244.0.10",
    "microservice1": "10.244.0.11",
    "microservice2": "10.244.0.12",
    "backend": "10.244.0.13",
    "logging": "10.244.0.14",
    "kube-dns": "10.244.0.2",
    "twilio": "203.0.113.10",
}
"""Addresses that stand for the storefront's pods and for a host on the internet."""

STOREFRONT_CALLS: Final = (
    ("frontend", "microservice1", 80, 6),
    ("frontend", "microservice2", 80, 6),
    ("microservice1", "backend", 80, 6),
    ("microservice1", "logging", 80, 6),
    ("microservice2", "backend", 80, 6),
    ("microservice2", "logging", 80, 6),
    ("microservice2", "twilio", 443, 6),
    ("backend", "logging", 80, 6),
    ("frontend", "kube-dns", 53, 17),
    ("microservice1", "kube-dns", 53, 17),
)
"""Caller, callee, port, protocol."""


def _fill(records: NDArray[np.void], generator: np.random.Generator, begin_ns: int, interval_ns: int) -> None:
    """Counts, flags and times of conversations that begin and end within the interval."""
    n = len(records)
    tcp = records["proto"] == 6
    records["packets_fwd"] = np.where(tcp, generator.integers(4, 40, n), 1)
    records["packets_rev"] = np.where(tcp, generator.integers(4, 40, n), 1)
    for way in ("fwd", "rev"):
        size = generator.integers(52, 1_500, n).astype(np.uint64)
        records[f"bytes_{way}"] = records[f"packets_{way}"].astype(np.uint64) * size
        flags = TcpFlag.SYN | TcpFlag.ACK | TcpFlag.PSH | TcpFlag.FIN
        records[f"tcp_flags_{way}"] = np.where(tcp, int(flags), 0)
    first = generator.integers(0, interval_ns // 2, n).astype(np.uint64)
    records["first_seen_ns"] = np.uint64(begin_ns) + first
    records["last_seen_ns"] = records["first_seen_ns"] + generator.integers(0, interval_ns // 2, n).astype(np.uint64)
    records["handshake_rtt_us"] = np.where(tcp, generator.integers(50, 5_000, n), 0)
    records["marks"] = np.where(tcp, int(Mark.STARTED | Mark.COMPLETED), int(Mark.STARTED))


@dataclass(frozen=True, slots=True)
class SyntheticSettings:
    """A seed, and how often each call of the storefront is made a second."""

    seed: int
    calls_per_s: float = 2.0


class SyntheticSource:
    """The storefront's call graph, seen from both ends, with random counts."""

    def __init__(self, settings: SyntheticSettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._generator = np.random.default_rng(settings.seed)
        self._ended_ns = 0
        self._next_port = 32_768

    def start(self) -> None:
        """Begin the first interval now."""
        self._ended_ns = self._clock.now_ns()

    def drain(self) -> Iterator[Drain]:
        """The calls made since the drain before."""
        begin_ns, end_ns = self._ended_ns, self._clock.now_ns()
        self._ended_ns = end_ns
        width_ns = max(end_ns - begin_ns, 2)
        calls = int(self._generator.poisson(self._settings.calls_per_s * width_ns / NS_PER_S * len(STOREFRONT_CALLS)))
        kinds = self._generator.integers(0, len(STOREFRONT_CALLS), calls)
        seen = np.zeros(calls, RECORD)
        for number, (caller, callee, port, proto) in enumerate(STOREFRONT_CALLS):
            chosen = kinds == number
            seen["src_lo"][chosen] = address_halves(STOREFRONT_PODS[caller])[1]
            seen["dst_lo"][chosen] = address_halves(STOREFRONT_PODS[callee])[1]
            seen["dst_port"][chosen] = port
            seen["proto"][chosen] = proto
        seen["src_port"] = 32_768 + (self._next_port - 32_768 + np.arange(calls)) % 28_000
        self._next_port = 32_768 + (self._next_port - 32_768 + calls) % 28_000
        _fill(seen, self._generator, begin_ns, width_ns)
        inside = seen["dst_lo"] >> np.uint64(24) == np.uint64(POD_NETWORK >> 24)
        records = np.concatenate([seen, seen[inside]])
        records["reporter"][:calls] = Reporter.SRC
        records["reporter"][calls:] = Reporter.DST
        yield Drain(records, begin_ns, end_ns, end_ns)

    def stop(self) -> None:
        """Nothing is held."""
