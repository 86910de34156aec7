"""What the console's server was asked to be, read once at the edge."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

STATIC_FOLDER = Path(__file__).parent / "static"


@dataclass(frozen=True, slots=True)
class ConsoleSettings:
    """Settings of one server.

    Attributes:
        token: opens a session when it is part of the address.
        hosts: values of the Host header that are answered, without port.
        static_folder: where the built page is.
        query_timeout_s: bound on one question to the store.
        concurrent_queries: questions asked of the store at once; more wait their turn.
        longest_range_s: longest time range of one question.
        most_flows: flows answered one by one; the rest is summed.
        most_exported: flow logs in one export.
        most_live: live connections at once.
    """

    token: str
    hosts: tuple[str, ...] = ("127.0.0.1", "localhost", "[::1]")
    static_folder: Path = STATIC_FOLDER
    query_timeout_s: float = 20.0
    concurrent_queries: int = 4
    longest_range_s: int = 31 * 86_400
    most_flows: int = 2_000
    most_exported: int = 100_000
    most_live: int = 64
