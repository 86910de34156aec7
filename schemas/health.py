"""``/metrics``, ``/healthz`` and ``/readyz`` of a stage, served by its own event loop."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from prometheus_client import CONTENT_TYPE_LATEST

if TYPE_CHECKING:
    from collections.abc import Callable

    from tierflow.schemas.metrics import Metrics

_REQUEST_S = 5.0


def nothing() -> str:
    """Nothing is wrong."""
    return ""


@dataclass(slots=True)
class Probes:
    """What a stage is asked; it puts its own questions in. Each says what is wrong, or ``""``.

    Attributes:
        ready: no traffic is handled yet, or not any more.
        alive: only a new start can help.
    """

    ready: Callable[[], str] = nothing
    alive: Callable[[], str] = nothing


class Health:
    """A small HTTP server of ``probes`` and metrics."""

    def __init__(self, live: Metrics, probes: Probes, host: str, port: int) -> None:
        self._live, self._probes, self._host, self._port = live, probes, host, port
        self._server: asyncio.Server | None = None

    async def start(self) -> int:
        """Listen; returns the port. Raises OSError when it is taken."""
        self._server = await asyncio.start_server(self._answer, self._host, self._port)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def stop(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.close()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._server.wait_closed(), 1)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), _REQUEST_S)
            path, _, query = head.split(b" ", 2)[1].decode(errors="replace").partition("?")
            status, kind, body = self._page(path, query)
            writer.write(
                f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
                "Connection: close\r\n\r\n".encode()
                + body
            )
            await writer.drain()
        except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, IndexError):
            pass  # Whoever asked is gone, or does not speak HTTP.
        finally:
            writer.close()

    def _page(self, path: str, query: str) -> tuple[str, str, bytes]:
        if path == "/metrics":
            # As Prometheus' own clients have it: ?name[]=a&name[]=b asks for some only.
            names = parse_qs(query).get("name[]")
            return "200 OK", CONTENT_TYPE_LATEST, self._live.page(names)
        if path in ("/healthz", "/readyz"):
            wrong = self._probes.alive() if path == "/healthz" else self._probes.ready()
            status = "503 Service Unavailable" if wrong else "200 OK"
            return status, "text/plain", f"{wrong or 'ok'}\n".encode()
        return "404 Not Found", "text/plain", b"accepted: /metrics /healthz /readyz\n"
