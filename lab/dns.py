"""The lab's kube-dns: answers A questions from a zone file, over UDP and TCP (RFC 1035). Standard library only.

    dns.py --listen 53        with STOREFRONT_ZONE naming a JSON file {"name": "address", ...}

The zone is read anew when the file changes. AAAA and other questions about a known name get an empty answer, unknown
names NXDOMAIN, what isn't a plain question FORMERR or NOTIMP. ``SIGUSR1`` and ``SIGUSR2`` mean nothing to it. With
``STOREFRONT_STATS`` set, that file is replaced each second by a JSON object like that of storefront.py.
"""

from __future__ import annotations

import argparse
import asyncio
import ipaddress
import json
import os
import signal
import struct
import sys
from pathlib import Path
from typing import Final, cast

TYPE_A: Final = 1
CLASS_IN: Final = 1
NO_ERROR, FORMAT_ERROR, NAME_ERROR, NOT_IMPLEMENTED = 0, 1, 3, 4
TTL_S: Final = 5
HEADER: Final = struct.Struct("!6H")


class Zone:
    """Names to IPv4 addresses, from a file that may be replaced at any time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp = -1
        self._names: dict[str, bytes] = {}

        self.asked = 0

    def address(self, name: str) -> bytes | None:
        """The four bytes of a name's address, or None."""
        self.asked += 1
        stamp = self._path.stat().st_mtime_ns
        if stamp != self._stamp:
            names: dict[str, str] = json.loads(self._path.read_text())
            self._names = {key.lower(): ipaddress.IPv4Address(value).packed for key, value in names.items()}
            self._stamp = stamp
        return self._names.get(name.lower())


def question(message: bytes) -> tuple[str, int, int, int]:
    """Name, type, class and end offset of the one question of a message.

    Raises:
        ValueError: the message is cut short, or compresses a name where none may be.
    """
    labels, offset = [], HEADER.size
    while True:
        if offset >= len(message):
            raise ValueError("cut short")
        length = message[offset]
        offset += 1
        if length == 0:
            break
        if length > 63 or offset + length > len(message):
            raise ValueError("bad label")
        labels.append(message[offset : offset + length].decode("ascii", "replace"))
        offset += length
    if offset + 4 > len(message):
        raise ValueError("cut short")
    kind, klass = struct.unpack_from("!2H", message, offset)
    return ".".join(labels), kind, klass, offset + 4


def answer(message: bytes, zone: Zone) -> bytes:
    """The answer to one message; empty if it is too short to be answered, or is an answer itself."""
    if len(message) < HEADER.size:
        return b""
    number, flags, questions, *_ = HEADER.unpack_from(message)
    if flags & 0x8000:
        return b""
    said = 0x8400 | (flags & 0x0100)  # an authoritative answer; "recursion desired" is copied
    if flags & 0x7800:
        return HEADER.pack(number, said | NOT_IMPLEMENTED, 0, 0, 0, 0)
    try:
        name, kind, klass, end = question(message)
    except ValueError:
        questions = 0
    if questions != 1:
        return HEADER.pack(number, said | FORMAT_ERROR, 0, 0, 0, 0)
    asked = message[HEADER.size : end]
    address = zone.address(name)
    if address is None:
        return HEADER.pack(number, said | NAME_ERROR, 1, 0, 0, 0) + asked
    if kind != TYPE_A or klass != CLASS_IN:
        return HEADER.pack(number, said, 1, 0, 0, 0) + asked
    record = struct.pack("!HHHIH", 0xC00C, TYPE_A, CLASS_IN, TTL_S, 4) + address
    return HEADER.pack(number, said, 1, 1, 0, 0) + asked + record


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, zone: Zone) -> None:
        self._zone = zone

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # asyncio's own datagram transport isn't a DatagramTransport by class in Python 3.11.
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if said := answer(data, self._zone):
            self._transport.sendto(said, addr)


async def _connection(zone: Zone, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            length = await asyncio.wait_for(reader.readexactly(2), 5)
            said = answer(await asyncio.wait_for(reader.readexactly(int.from_bytes(length)), 5), zone)
            writer.write(len(said).to_bytes(2) + said)
            await writer.drain()
    except (OSError, TimeoutError, asyncio.IncompleteReadError):
        pass  # the client is done
    finally:
        writer.close()


async def _keep_stats(path: Path, zone: Zone) -> None:
    draft = path.with_name(path.name + ".new")
    while True:
        draft.write_text(json.dumps({"paused": True, "in_flight": 0, "served": zone.asked, "calls": {}}))
        draft.replace(path)
        await asyncio.sleep(1)


async def _run(port: int, zone: Zone) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    everywhere = "0.0.0.0"  # noqa: S104  # a pod's server answers on the pod's address
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        loop.add_signal_handler(number, lambda: None)
    transport, _ = await loop.create_datagram_endpoint(lambda: _Datagrams(zone), (everywhere, port))
    server = await asyncio.start_server(lambda r, w: _connection(zone, r, w), everywhere, port)
    stats = os.environ.get("STOREFRONT_STATS")
    keeping = asyncio.create_task(_keep_stats(Path(stats), zone)) if stats else None
    await stop.wait()
    if keeping is not None:
        keeping.cancel()
    server.close()
    transport.close()


def main(argv: list[str]) -> None:
    """Answer until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="storefront-dns", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--listen", type=int, default=53, metavar="PORT")
    parsed = parser.parse_args(argv)
    asyncio.run(_run(parsed.listen, Zone(Path(os.environ["STOREFRONT_ZONE"]))))


if __name__ == "__main__":
    main(sys.argv[1:])
