"""What ``tierflow console`` refuses before it asks anybody."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tierflow.cli.web import listening

if TYPE_CHECKING:
    from pathlib import Path


def console(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tierflow.cli.main", "console", *arguments],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "No such file or directory"),
        (b"short", "accepted are 16 or more letters, digits, - and _"),
        (b"with a space in it, and long enough", "accepted are 16 or more letters, digits, - and _"),
        (b"\xff\xfe", "not text"),
    ],
)
def test_a_token_that_can_not_be_used_is_one_line_without_the_token(
    tmp_path: Path, content: bytes | None, said: str
) -> None:
    file = tmp_path / "token"
    if content is not None:
        file.write_bytes(content)
    done = console("--token-file", str(file))
    assert done.returncode == 2
    assert done.stderr.strip().endswith(f"--token-file {file}: {said}")
    assert done.stderr.count("\n") == 1


def test_an_address_that_is_not_this_machines_is_one_line() -> None:
    done = console("--host", "192.0.2.1", "--port", "0")
    assert done.returncode == 2
    assert "--host 192.0.2.1 --port 0: Cannot assign requested address" in done.stderr


async def test_an_answer_does_not_wait_until_its_first_part_is_acknowledged() -> None:
    at_once: list[int] = []

    def take(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        at_once.append(writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        writer.close()

    listener = listening("127.0.0.1", 0)
    async with await asyncio.start_server(take, sock=listener):
        reader, writer = await asyncio.open_connection(*listener.getsockname())
        await reader.read()
        writer.close()
    assert at_once == [1]
