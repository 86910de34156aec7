"""The pods' programs: kube-dns and the storefront."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import struct
import sys
from pathlib import Path

import pytest

from tierflow.lab import dns, storefront

PROGRAMS = Path(storefront.__file__).parent


def query(name: str, kind: int = 1, questions: int = 1) -> bytes:
    labels = b"".join(bytes([len(part)]) + part.encode() for part in name.split("."))
    return struct.pack("!6H", 7, 0x0100, questions, 0, 0, 0) + labels + b"\0" + struct.pack("!2H", kind, 1)


@pytest.fixture
def zone(tmp_path: Path) -> dns.Zone:
    path = tmp_path / "zone.json"
    path.write_text('{"logging.storefront.svc.cluster.local": "10.96.0.15"}')
    return dns.Zone(path)


def test_a_known_name_is_answered_with_its_address_whatever_its_case(zone: dns.Zone) -> None:
    said = dns.answer(query("LOGGING.storefront.svc.cluster.local"), zone)
    number, flags, questions, answers, _, _ = struct.unpack_from("!6H", said)
    assert (number, flags & 0xF, questions, answers) == (7, 0, 1, 1)
    assert flags & 0x8000
    assert said.endswith(bytes([10, 96, 0, 15]))


@pytest.mark.parametrize(
    ("message", "code", "answers"),
    [
        (query("nobody.example"), 3, 0),
        (query("logging.storefront.svc.cluster.local", kind=28), 0, 0),
        (query("logging.storefront.svc.cluster.local")[:-3], 1, 0),
        (query("logging", questions=2), 1, 0),
        (struct.pack("!6H", 7, 0x2800, 1, 0, 0, 0), 4, 0),
        (query("a")[:12] + b"\xc0\x0c\0\x01\0\x01", 1, 0),
    ],
)
def test_what_has_no_address_is_answered_with_its_code(zone: dns.Zone, message: bytes, code: int, answers: int) -> None:
    _, flags, _, found, _, _ = struct.unpack_from("!6H", dns.answer(message, zone))
    assert (flags & 0xF, found) == (code, answers)


def test_an_answer_or_a_fragment_is_not_answered(zone: dns.Zone) -> None:
    assert dns.answer(b"\0" * 5, zone) == b""
    assert dns.answer(struct.pack("!6H", 7, 0x8000, 1, 0, 0, 0), zone) == b""


def test_a_replaced_zone_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "zone.json"
    path.write_text("{}")
    zone = dns.Zone(path)
    assert zone.address("a.b") is None
    draft = tmp_path / "new"
    draft.write_text('{"a.b": "10.0.0.1"}')

    os.utime(draft, ns=(1, path.stat().st_mtime_ns + 1_000_000))
    draft.replace(path)
    assert zone.address("a.b") == bytes([10, 0, 0, 1])


@pytest.mark.parametrize(("text", "value"), [("1s", 1.0), ("800ms", 0.8), ("2m", 120.0)])
def test_a_duration_is_read_in_seconds(text: str, value: float) -> None:
    assert storefront.seconds(text) == pytest.approx(value)


@pytest.mark.parametrize("text", ["1", "s", "-1s", "0ms", "1h", "xms"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="accepted: 1s, 800ms, 2m"):
        storefront.seconds(text)


async def test_a_caller_counts_what_a_server_answers_and_what_nobody_does(tmp_path: Path) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    closed = await asyncio.start_server(answer, "127.0.0.1", 0)
    ports = [each.sockets[0].getsockname()[1] for each in (server, closed)]
    closed.close()
    await closed.wait_closed()
    urls = [f"http://127.0.0.1:{port}" for port in ports]
    stats = tmp_path / "stats.json"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-I", "-S", str(PROGRAMS / "storefront.py"),
        "call", "--call", urls[0], "--call", urls[1], "--interval", "50ms",
        env={"STOREFRONT_STATS": str(stats)},
    )  # fmt: skip
    try:
        async with asyncio.timeout(20):
            while True:
                calls = json.loads(stats.read_text())["calls"] if stats.exists() else {}
                if calls and calls[urls[0]]["answered"] and calls[urls[1]]["failed"]:
                    break
                await asyncio.sleep(0.02)
    finally:
        process.terminate()
        assert await process.wait() == 0
        server.close()
    assert calls[urls[0]]["failed"] == 0
    assert calls[urls[1]]["answered"] == 0
