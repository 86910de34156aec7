"""Uvicorn as a part of a stage."""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING

import uvicorn

if TYPE_CHECKING:
    from collections.abc import Iterator


def listening(host: str, port: int) -> socket.socket:
    """A socket of that address for :meth:`Server.serve`; who connects before it serves waits.

    Raises:
        OSError, OverflowError: it can't be had.
    """
    # asyncio sends what it is given at once (TCP_NODELAY) only where the socket names its protocol. Else the second
    # part of an answer waits until the first is acknowledged, which takes 40 ms.
    listener = socket.socket(proto=socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen()
    except BaseException:
        listener.close()
        raise
    return listener


class Server(uvicorn.Server):
    """Uvicorn without its signal handlers: the stage stops as one."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals alone."""
        yield
