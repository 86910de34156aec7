"""A quick HTTPS client for a Kubernetes API server: many requests at once on connections that stay open."""

from __future__ import annotations

import asyncio
import ssl
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import orjson

from benchmarks.harness import check

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


@dataclass(frozen=True, slots=True)
class Request:
    """One request and the media type of its body."""

    method: str
    path: str
    body: object
    media_type: str = "application/json"


@dataclass(frozen=True, slots=True)
class Answered:
    """When a request went out and when its whole answer was there, Unix time in ns."""

    sent_ns: int
    answered_ns: int


class ApiClient:
    """Connections to a server on loopback whose certificate nobody has signed."""

    def __init__(self, port: int, token: str, connections: int) -> None:
        """Inert until entered."""
        self._port, self._token, self._count = port, token, connections
        self._streams: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def __aenter__(self) -> Self:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        for _ in range(self._count):
            self._streams.append(await asyncio.open_connection("127.0.0.1", self._port, ssl=context, limit=1 << 20))
        return self

    async def __aexit__(self, *_exception: object) -> None:
        for _, writer in self._streams:
            writer.close()

    async def send_all(
        self, requests: Sequence[Request], due_s: Callable[[int], float] = lambda _: 0.0
    ) -> list[Answered]:
        """Send every request, each not before ``due_s(number)`` seconds from now; all must be answered with success.

        A request whose time has come waits for a connection that is free, so that a server that takes less than is
        asked of it delays all that follow.
        """
        answers: list[Answered | None] = [None] * len(requests)
        begin = time.perf_counter()
        numbers = iter(range(len(requests)))

        async def work(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            for number in numbers:
                if (wait := begin + due_s(number) - time.perf_counter()) > 0:
                    await asyncio.sleep(wait)
                answers[number] = await self._send(reader, writer, requests[number])

        await asyncio.gather(*(work(*each) for each in self._streams))
        return [each for each in answers if each is not None]

    async def _send(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: Request) -> Answered:
        body = orjson.dumps(request.body)
        sent = time.time_ns()
        writer.write(
            f"{request.method} {request.path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {self._token}\r\n"
            f"Content-Type: {request.media_type}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
            + body
        )
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        content = await _body(reader, head)
        answered = time.time_ns()
        check(head.split(b" ", 2)[1].startswith(b"2"), f"{request.method} {request.path}: {content[:300]!r}")
        return Answered(sent, answered)


async def _body(reader: asyncio.StreamReader, head: bytes) -> bytes:
    if b"transfer-encoding: chunked" not in head:
        length = head.partition(b"content-length:")[2].partition(b"\r\n")[0]
        return await reader.readexactly(int(length))
    parts = []
    while size := int(await reader.readuntil(b"\r\n"), 16):
        parts.append((await reader.readexactly(size + 2))[:-2])
    await reader.readexactly(2)
    return b"".join(parts)
