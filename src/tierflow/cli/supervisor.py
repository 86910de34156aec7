"""Start child processes, keep them running, stop them in reverse order and leave none behind."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import re
import signal
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from tierflow.schemas.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
    from io import FileIO

READY: Final = re.compile(r"(^|[\s\":])ready($|[\s\",.])")
"""A child says this word on standard error when it is."""

_PR_SET_PDEATHSIG: Final = 1
_LAST_LINES: Final = 3
_CHUNK_BYTES: Final = 65_536
_MEMORY_CHECK_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Child:
    """One process to supervise.

    Attributes:
        name: short name, for messages and the log file.
        argv: the command.
        ready: waits until a child that doesn't say so itself is ready; None: it says ``ready`` on standard error.
        ready_timeout_s: how long that may take.
        environment: added to ours.
        memory_limit_bytes: resident memory past which it is stopped, and so started afresh; None: no limit.
    """

    name: str
    argv: Sequence[str]
    ready: Callable[[], Awaitable[None]] | None = None
    ready_timeout_s: float = 60.0
    environment: Mapping[str, str] = field(default_factory=dict)
    memory_limit_bytes: int | None = None


@dataclass(slots=True)
class _Running:
    child: Child
    process: asyncio.subprocess.Process
    reader: asyncio.Task[None]
    is_ready: asyncio.Event
    last_lines: list[str]


class Supervisor:
    """Runs children; one that ends on its own is started again with growing pauses.

    Args:
        log_folder: each child's output goes to ``<name>.log`` there.
        say: takes lines for the person at the screen.
        stop_timeout_s: time between SIGTERM and SIGKILL.
    """

    def __init__(self, log_folder: Path, say: Callable[[str], None], *, stop_timeout_s: float = 5.0) -> None:
        self._log_folder = log_folder
        self._say = say
        self._stop_timeout_s = stop_timeout_s
        self._running: dict[str, _Running] = {}
        self._keepers: list[asyncio.Task[None]] = []
        self._stopping = False

    async def start(self, *children: Child, started: Callable[[str], None] = lambda _: None) -> None:
        """Start children side by side and return when all are ready; ``started`` hears the name of each that is.

        Raises:
            UnavailableError: one ended, or wasn't ready in time; the message carries its last words. The others run
                on until :meth:`stop`.
        """
        spawned = [await self._spawn(child) for child in children]
        await side_by_side(*(self._attend(running, started) for running in spawned))

    async def stop(self) -> None:
        """End all children, the last started first, and wait for each."""
        self._stopping = True
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        for running in reversed(list(self._running.values())):
            await self._end(running)
        self._running.clear()

    def pids(self) -> dict[str, int]:
        """Process id by child name."""
        return {name: running.process.pid for name, running in self._running.items()}

    async def _attend(self, running: _Running, started: Callable[[str], None]) -> None:
        await self._until_ready(running)
        started(running.child.name)
        name = f"keep {running.child.name}"
        self._keepers.append(asyncio.create_task(self._keep(running.child), name=name))

    async def _spawn(self, child: Child) -> _Running:
        # A session of its own keeps the terminal's Ctrl-C away from the child: the supervisor stops it in order.
        process = await asyncio.create_subprocess_exec(
            *child.argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=dict(os.environ) | dict(child.environment),
            start_new_session=True,
            preexec_fn=_die_with_parent,
        )
        is_ready, last_lines = asyncio.Event(), list[str]()
        reader = asyncio.create_task(self._read(child.name, process, is_ready, last_lines))
        running = _Running(child, process, reader, is_ready, last_lines)
        self._running[child.name] = running
        return running

    async def _read(
        self, name: str, process: asyncio.subprocess.Process, is_ready: asyncio.Event, last_lines: list[str]
    ) -> None:
        assert process.stdout is not None  # noqa: S101 - asked for above
        with _Log(self._log_folder / f"{name}.log", self._say) as log:
            tail = b""
            # Not readline(): a line of any length must not stop the child's output from being read.
            while chunk := await process.stdout.read(_CHUNK_BYTES):
                log.write(chunk)
                *lines, tail = (tail + chunk)[-_CHUNK_BYTES:].split(b"\n")
                for line in (raw.decode(errors="replace").rstrip() for raw in lines):
                    if line:
                        last_lines[:] = [*last_lines, line][-_LAST_LINES:]
                    if READY.search(line):
                        is_ready.set()

    async def _until_ready(self, running: _Running) -> None:
        child = running.child
        waits = asyncio.ensure_future(child.ready() if child.ready is not None else running.is_ready.wait())
        ended = asyncio.ensure_future(running.process.wait())
        try:
            done, _ = await asyncio.wait(
                {waits, ended}, timeout=child.ready_timeout_s, return_when=asyncio.FIRST_COMPLETED
            )
            if waits in done:
                waits.result()
                return
            if ended in done:
                await running.reader
                words = running.last_lines[-1] if running.last_lines else "it said nothing"
                raise UnavailableError(f"{child.name} ended with exit code {ended.result()}: {words}")
            raise UnavailableError(
                f"{child.name} was not ready within {child.ready_timeout_s:g} s; "
                f"see {self._log_folder / child.name}.log"
            )
        finally:
            for task in (waits, ended):
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError, UnavailableError):
                    await task

    async def _keep(self, child: Child) -> None:
        pause_s = 0.5
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            code = await self._until_ended(self._running[child.name])
            if self._stopping:
                return
            pause_s = 0.5 if loop.time() - began > 60 else min(pause_s * 2, 15.0)
            how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            self._say(f"{child.name} ended ({how}); starting it again in {pause_s:g} s")
            await asyncio.sleep(pause_s)
            try:
                running = await self._spawn(child)
            except OSError as error:
                self._say(f"{child.name} can't be started: {error}")
                continue
            try:
                await self._until_ready(running)
            except UnavailableError as error:
                self._say(str(error))
                await self._end(running)
            else:
                self._say(f"{child.name} is running again")

    async def _until_ended(self, running: _Running) -> int:
        limit = running.child.memory_limit_bytes
        while limit is not None:
            with contextlib.suppress(TimeoutError):
                return await asyncio.wait_for(running.process.wait(), _MEMORY_CHECK_S)
            used = _resident_bytes(running.process.pid)
            if used > limit:
                self._say(f"{running.child.name} holds {used >> 20} MiB, past its limit of {limit >> 20} MiB")
                running.process.terminate()
                break
        return await running.process.wait()

    async def _end(self, running: _Running) -> None:
        process = running.process
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            try:
                await asyncio.wait_for(process.wait(), self._stop_timeout_s)
            except TimeoutError:
                self._say(f"{running.child.name} did not stop within {self._stop_timeout_s:g} s; killed")
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        await running.reader


class _Log:
    """A child's log file. A disk that takes no more is said once; the child, whose output must be read, goes on."""

    def __init__(self, path: Path, say: Callable[[str], None]) -> None:
        self._path, self._say = path, say
        self._file: FileIO | None = None
        self._failed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def write(self, chunk: bytes) -> None:
        """Append, as far as that can be done."""
        try:
            if self._file is None:
                self._file = self._path.open("ab", buffering=0)
            self._file.write(chunk)
        except OSError as error:
            if not self._failed:
                self._say(f"{self._path}: {(error.strerror or str(error)).lower()}; its output is lost meanwhile")
            self._failed = True
        else:
            self._failed = False


async def side_by_side(*work: Coroutine[Any, Any, None]) -> None:
    """Do all of it at once; the first failure ends the rest, and is raised as it is."""
    tasks = [asyncio.ensure_future(each) for each in work]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _resident_bytes(pid: int) -> int:
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):  # it ended just now
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def _die_with_parent() -> None:
    """In the child: ask the kernel for SIGTERM when the supervisor dies, however it dies (prctl(2))."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
