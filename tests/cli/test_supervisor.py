"""The supervisor starts, restarts and stops real child processes."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import TYPE_CHECKING

import pytest

from tierflow.cli.supervisor import READY, Child, Supervisor
from tierflow.schemas.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SAYS_READY = "import signal, sys; print('stage: ready', file=sys.stderr, flush=True); signal.pause()"
IGNORES_TERM = "import signal, sys; signal.signal(15, signal.SIG_IGN); print('ready', flush=True); signal.pause()"


async def until(condition: Callable[[], bool], timeout_s: float = 20) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 - another process has no event to wait on
            await asyncio.sleep(0.02)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_start_returns_when_the_child_says_that_it_is_ready(tmp_path: Path) -> None:
    supervisor = Supervisor(tmp_path, lambda _: None)
    await supervisor.start(Child("one", [sys.executable, "-c", SAYS_READY]))
    assert "ready" in (tmp_path / "one.log").read_text()
    pid = supervisor.pids()["one"]
    await supervisor.stop()
    assert not alive(pid)


async def test_children_start_side_by_side(tmp_path: Path) -> None:
    """Each waits for the other's mark: one after the other, the first would never be ready."""

    def waits_for(own: str, other: str) -> str:
        return (
            f"import pathlib, time; pathlib.Path({str(tmp_path / own)!r}).touch()\n"
            f"while not pathlib.Path({str(tmp_path / other)!r}).exists(): time.sleep(0.01)\n"
            f"{SAYS_READY}"
        )

    supervisor, started = Supervisor(tmp_path, lambda _: None), list[str]()
    await supervisor.start(
        Child("one", [sys.executable, "-c", waits_for("a", "b")]),
        Child("two", [sys.executable, "-c", waits_for("b", "a")]),
        started=started.append,
    )
    assert sorted(started) == ["one", "two"]
    await supervisor.stop()


async def test_of_children_started_together_the_one_that_fails_is_told_and_the_others_are_stopped(
    tmp_path: Path,
) -> None:
    supervisor = Supervisor(tmp_path, lambda _: None)
    with pytest.raises(UnavailableError, match="two ended with exit code 3: no such file"):
        await supervisor.start(
            Child("one", [sys.executable, "-c", "import signal; signal.pause()"]),
            Child("two", [sys.executable, "-c", "print('no such file'); raise SystemExit(3)"]),
        )
    pid = supervisor.pids()["one"]
    await supervisor.stop()
    assert not alive(pid)


async def test_a_child_that_ends_before_it_is_ready_is_told_with_its_last_words(tmp_path: Path) -> None:
    supervisor = Supervisor(tmp_path, lambda _: None)
    with pytest.raises(UnavailableError, match=r"one ended with exit code 3: no such broker"):
        await supervisor.start(Child("one", [sys.executable, "-c", "print('no such broker'); raise SystemExit(3)"]))
    await supervisor.stop()


async def test_a_child_that_is_never_ready_is_given_up_and_stopped(tmp_path: Path) -> None:
    supervisor = Supervisor(tmp_path, lambda _: None)
    with pytest.raises(UnavailableError, match=r"one was not ready within 0\.3 s"):
        await supervisor.start(
            Child("one", [sys.executable, "-c", "import signal; signal.pause()"], ready_timeout_s=0.3)
        )
    pid = supervisor.pids()["one"]
    await supervisor.stop()
    assert not alive(pid)


async def test_a_killed_child_is_started_again_and_said_so(tmp_path: Path) -> None:
    said: list[str] = []
    supervisor = Supervisor(tmp_path, said.append)
    await supervisor.start(Child("one", [sys.executable, "-c", SAYS_READY]))
    first = supervisor.pids()["one"]
    os.kill(first, signal.SIGKILL)
    await until(lambda: "one is running again" in said)
    assert said[0].startswith("one ended (SIGKILL); starting it again")
    assert supervisor.pids()["one"] != first
    await supervisor.stop()


async def test_a_child_that_cannot_be_started_again_is_tried_until_it_can(tmp_path: Path) -> None:
    program, said = tmp_path / "one", list[str]()
    content = f"#!{sys.executable}\n{SAYS_READY}\n"
    program.write_text(content)
    program.chmod(0o755)
    supervisor = Supervisor(tmp_path, said.append)
    await supervisor.start(Child("one", [str(program)]))
    program.unlink()
    os.kill(supervisor.pids()["one"], signal.SIGKILL)
    await until(lambda: any("one can't be started: " in line for line in said))
    program.write_text(content)
    program.chmod(0o755)
    await until(lambda: "one is running again" in said)
    await supervisor.stop()


async def test_a_child_that_ignores_the_request_to_stop_is_killed(tmp_path: Path) -> None:
    said: list[str] = []
    supervisor = Supervisor(tmp_path, said.append, stop_timeout_s=0.2)
    await supervisor.start(Child("one", [sys.executable, "-c", IGNORES_TERM]))
    pid = supervisor.pids()["one"]
    await supervisor.stop()
    assert not alive(pid)
    assert said == ["one did not stop within 0.2 s; killed"]


async def test_a_child_past_its_memory_limit_is_started_afresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tierflow.cli.supervisor._MEMORY_CHECK_S", 0.05)
    said: list[str] = []
    supervisor = Supervisor(tmp_path, said.append)
    greedy = f"import os; hog = b'x' * (0 if os.path.exists({str(tmp_path / 'second')!r}) else 200 << 20); "
    greedy += f"open({str(tmp_path / 'second')!r}, 'w').close(); {SAYS_READY}"
    await supervisor.start(Child("one", [sys.executable, "-c", greedy], memory_limit_bytes=100 << 20))
    await until(lambda: "one is running again" in said)
    assert "past its limit of 100 MiB" in said[0]
    await supervisor.stop()


async def test_a_full_disk_is_said_once_and_stops_no_child(tmp_path: Path) -> None:
    (tmp_path / "one.log").symlink_to("/dev/full")
    said: list[str] = []
    supervisor = Supervisor(tmp_path, said.append)
    much = "print('x' * 1_000_000, flush=True)\n" * 3
    await supervisor.start(Child("one", [sys.executable, "-c", much + SAYS_READY]))
    await supervisor.stop()
    assert said == [f"{tmp_path / 'one.log'}: no space left on device; its output is lost meanwhile"]


async def test_a_line_longer_than_any_buffer_does_not_stop_the_log(tmp_path: Path) -> None:
    program = f"import sys; sys.stderr.write('x' * 300_000 + '\\n'); sys.stderr.flush(); {SAYS_READY}"
    supervisor = Supervisor(tmp_path, lambda _: None)
    await supervisor.start(Child("one", [sys.executable, "-c", program]))
    await supervisor.stop()
    assert (tmp_path / "one.log").stat().st_size > 300_000


@pytest.mark.parametrize("line", ["ready", "2026-01-01 stream ready", '{"message": "ready"}'])
def test_the_word_ready_is_found(line: str) -> None:
    assert READY.search(line)


@pytest.mark.parametrize("line", ["already there", "unready", "readyz"])
def test_words_that_contain_ready_are_not_taken_for_it(line: str) -> None:
    assert not READY.search(line)
