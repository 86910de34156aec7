"""`tierflow up` that is ended before it has started, by whatever means, leaves no process behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tierflow.cli.broker import free_port
from tierflow.cli.up import _tierflow

if TYPE_CHECKING:
    from collections.abc import Iterator


AS_A_USER_DOES = ("env", "--default-signal")
"""Whoever runs the tests may ignore signals, as nohup and a shell's background do, and children inherit that."""


def processes(state: Path) -> list[str]:
    """Command lines of the processes whose environment names this state folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it ended just now, or is somebody else's
            if f"TIERFLOW_STATE={state}\0".encode() in (process / "environ").read_bytes():
                found.append((process / "cmdline").read_text().replace("\0", " "))
    return found


@contextlib.contextmanager
def up(state: Path, *command: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [*AS_A_USER_DOES, *command, sys.executable, "-m", "tierflow.cli.main", "up", "--lab", "--source", "synthetic",
         "--broker-port", str(free_port()), "--console-port", "0"],
        env=os.environ | {"TIERFLOW_STATE": str(state)}, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    with process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)], ids=str
)
def test_ended_while_it_starts_it_ends_what_it_started(tmp_path: Path, number: signal.Signals, code: int) -> None:
    with up(tmp_path) as process:
        assert process.stderr is not None
        lines = iter(process.stderr.readline, "")
        assert any("broker" in line for line in lines)
        process.send_signal(number)
        process.send_signal(number)  # an impatient user's second one changes nothing
        rest = list(lines)
        assert process.wait(timeout=30) == code, rest
    assert "stopping before all was up\n" in rest
    assert not any("Traceback" in line for line in rest)
    assert processes(tmp_path) == []


def test_under_nohup_a_hangup_ends_nothing(tmp_path: Path) -> None:
    with up(tmp_path, "nohup") as process:
        assert process.stderr is not None
        lines = iter(process.stderr.readline, "")
        assert any("broker" in line for line in lines)
        process.send_signal(signal.SIGHUP)
        assert any("running; a window closes" in line for line in lines)
        process.send_signal(signal.SIGINT)
        list(lines)
        assert process.wait(timeout=30) == 0
    assert processes(tmp_path) == []


async def test_a_step_that_is_cancelled_ends_its_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIERFLOW_STATE", str(tmp_path))
    step = asyncio.create_task(_tierflow("broker", "--listen", f"127.0.0.1:{free_port()}"))
    async with asyncio.timeout(20):
        while not any("broker" in each for each in processes(tmp_path)):  # noqa: ASYNC110 - it has no event to wait on
            await asyncio.sleep(0.02)
    step.cancel()
    with pytest.raises(asyncio.CancelledError):
        await step
    assert processes(tmp_path) == []


@pytest.mark.root
async def test_a_lab_step_that_is_cancelled_ends_the_command_that_it_waits_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = tmp_path / "bin" / "ip"
    slow.parent.mkdir()
    slow.write_text("#!/bin/sh\nexec sleep 60\n")
    slow.chmod(0o755)
    monkeypatch.setenv("PATH", f"{slow.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("TIERFLOW_STATE", str(tmp_path))
    step = asyncio.create_task(_tierflow("lab", "set-up"))
    async with asyncio.timeout(20):
        while "sleep 60 " not in processes(tmp_path):  # noqa: ASYNC110 - it has no event to wait on
            await asyncio.sleep(0.02)
        step.cancel()
        with pytest.raises(asyncio.CancelledError):
            await step
        while processes(tmp_path):  # noqa: ASYNC110 - nor has its end, which nobody here is the parent of
            await asyncio.sleep(0.02)


def test_an_early_ctrl_c_is_130_too(tmp_path: Path) -> None:
    """While a command works, not only while `up` waits: here it waits for its flows."""
    fifo = tmp_path / "flows"
    os.mkfifo(fifo)
    manifests = Path(__file__).resolve().parents[2] / "deploy" / "storefront"
    process = subprocess.Popen(
        [*AS_A_USER_DOES, sys.executable, "-m", "tierflow.cli.main", "policy", "verdict", "--manifests", str(manifests),
         "--flows", str(fifo)],
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    with fifo.open("w"):  # returns when it is reading
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "Traceback" not in said
