"""The storefront's one program: an HTTP server, HTTP clients along the call graph, or both. Standard library only.

    storefront.py serve --listen 8080 [--call http://logging ...] [--interval 1s] [--timeout 2s]
    storefront.py call --call http://api.twilio.com --interval 3s

Every call resolves its name afresh, opens a connection, sends one request, reads the answer and closes. ``SIGUSR1``
pauses new calls, ``SIGUSR2`` resumes them; with ``STOREFRONT_PAUSED`` set, it starts paused. With ``STOREFRONT_STATS``
set, that file is replaced each second by a JSON object ``{"paused", "in_flight", "served", "calls": {url: {"tried",
"answered", "failed"}}}``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import socket
import sys
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

ANSWER = b'{"status":"ok","service":"storefront"}\n'
JITTER = 0.1
"""Calls are spread by this part of the interval either way, so that callers don't march in step."""
REQUEST_LIMIT_BYTES = 16384


def seconds(text: str) -> float:
    """A duration such as ``1s``, ``800ms`` or ``2m`` in seconds.

    Raises:
        argparse.ArgumentTypeError: it isn't one.
    """
    for suffix, factor in (("ms", 0.001), ("s", 1.0), ("m", 60.0)):
        if text.endswith(suffix):
            try:
                value = float(text.removesuffix(suffix)) * factor
            except ValueError:
                break
            if value > 0:
                return value
    raise argparse.ArgumentTypeError(f"{text!r} is not a duration; accepted: 1s, 800ms, 2m")


@dataclass(slots=True)
class Edge:
    """What became of the calls to one URL."""

    tried: int = 0
    answered: int = 0
    failed: int = 0


@dataclass(slots=True)
class Counts:
    """What this process has done since it started."""

    served: int = 0
    in_flight: int = 0
    paused: bool = False
    calls: dict[str, Edge] = field(default_factory=dict)

    def document(self) -> str:
        """The counts as JSON."""
        calls = {url: {"tried": e.tried, "answered": e.answered, "failed": e.failed} for url, e in self.calls.items()}
        return json.dumps(
            {"paused": self.paused, "in_flight": self.in_flight, "served": self.served, "calls": calls}, indent=1
        )


async def _answer(counts: Counts, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(ANSWER)}\r\n"
        writer.write(head.encode() + b"Connection: close\r\n\r\n" + ANSWER)
        await writer.drain()
        counts.served += 1
    except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        pass  # a client that went away or spoke nonsense; it counts the failure itself
    finally:
        writer.close()


async def _request(url: str) -> None:
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or 80
    found = await asyncio.get_running_loop().getaddrinfo(host, port, family=socket.AF_INET, type=socket.SOCK_STREAM)
    reader, writer = await asyncio.open_connection(str(found[0][4][0]), port, limit=REQUEST_LIMIT_BYTES)
    try:
        request = f"GET {parts.path or '/'} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: storefront\r\n"
        writer.write(request.encode() + b"Connection: close\r\n\r\n")
        answer = await reader.read(-1)
        if not answer.startswith(b"HTTP/1.1 200 "):
            raise ConnectionError(f"{url} answered {answer[:20]!r}")
    finally:
        writer.close()


async def _call(url: str, edge: Edge, counts: Counts, interval_s: float, timeout_s: float) -> None:
    loop = asyncio.get_running_loop()
    await asyncio.sleep(random.uniform(0, interval_s))  # noqa: S311  # spreads load, hides nothing
    while True:
        started = loop.time()
        if not counts.paused:
            edge.tried += 1
            counts.in_flight += 1
            try:
                await asyncio.wait_for(_request(url), timeout_s)
                edge.answered += 1
            except (OSError, TimeoutError):  # socket.gaierror is an OSError
                edge.failed += 1
            finally:
                counts.in_flight -= 1
        wait_s = interval_s * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 - jitter, not a secret
        await asyncio.sleep(max(0.0, started + wait_s - loop.time()))


def _write_stats(path: Path, counts: Counts) -> None:
    draft = path.with_name(path.name + ".new")
    draft.write_text(counts.document())
    draft.replace(path)


async def _keep_stats(path: Path, counts: Counts) -> None:
    while True:
        _write_stats(path, counts)
        await asyncio.sleep(1)


async def _run(arguments: argparse.Namespace) -> None:
    counts = Counts(paused=bool(os.environ.get("STOREFRONT_PAUSED")), calls={url: Edge() for url in arguments.call})
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGUSR1, setattr, counts, "paused", True)
    loop.add_signal_handler(signal.SIGUSR2, setattr, counts, "paused", False)
    tasks = [
        asyncio.create_task(_call(url, edge, counts, arguments.interval, arguments.timeout))
        for url, edge in counts.calls.items()
    ]
    server = None
    if arguments.mode == "serve":
        server = await asyncio.start_server(
            lambda reader, writer: _answer(counts, reader, writer),
            "0.0.0.0",  # noqa: S104  # a pod's server answers on the pod's address
            arguments.listen,
            limit=REQUEST_LIMIT_BYTES,
        )
    stats = os.environ.get("STOREFRONT_STATS")
    if stats:
        tasks.append(asyncio.create_task(_keep_stats(Path(stats), counts)))
    await stop.wait()
    for task in tasks:
        task.cancel()
    if server is not None:
        server.close()


def main(argv: list[str]) -> None:
    """Run until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="storefront", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("mode", choices=["serve", "call"])
    parser.add_argument("--listen", type=int, default=8080, metavar="PORT")
    parser.add_argument("--call", action="append", default=[], metavar="URL")
    parser.add_argument("--interval", type=seconds, default=1.0, metavar="DURATION")
    parser.add_argument("--timeout", type=seconds, default=2.0, metavar="DURATION")
    asyncio.run(_run(parser.parse_args(argv)))


if __name__ == "__main__":
    main(sys.argv[1:])
