"""The live source: the eBPF program's maps, swapped and emptied at each drain."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from tierflow.collector import bpf_syscall, conntrack, privileges
from tierflow.collector.attach import Attachments
from tierflow.collector.drain import sweep, to_unix
from tierflow.collector.map_layout import CONVERSATION, KEY, LOSS, PINNED, layout_name
from tierflow.collector.source import Drain, Loss
from tierflow.schemas.clock import NS_PER_S
from tierflow.schemas.errors import UnavailableError
from tierflow.schemas.record import RECORD

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

_log = logging.getLogger(__name__)

BPF_FILE_SYSTEM: Final = Path("/sys/fs/bpf")
SWEEP_S: Final = 5
"""How often idle conversations are looked for."""
COUNTERS: Final = ("counters_a", "counters_b")
_ZERO: Final = np.zeros(1, np.uint32)


@dataclass(frozen=True, slots=True)
class EbpfSettings:
    """What the live source is asked to do.

    Attributes:
        node: this node's name; the maps are pinned under it.
        interfaces: name patterns of the pods' host-side interfaces.
        interval_s: how often it is drained.
        keepalive_s: an open, silent conversation has a record in each span of this width, aligned to Unix time.
        max_conversations: entries of each counter map and of the conversation map.
        hand_over: leave filters and maps counting at the end, for the collector that comes next to take over.
    """

    node: str
    interfaces: tuple[str, ...]
    interval_s: float
    keepalive_s: float
    max_conversations: int
    hand_over: bool = False


class EbpfSource:
    """Counts conversations in the kernel; one thread at a time calls its methods, ``follow`` apart."""

    def __init__(self, settings: EbpfSettings, file_system: Path = BPF_FILE_SYSTEM) -> None:
        self._settings = settings
        self._root = file_system / "tierflow"
        self._folder = self._root / settings.node.replace(".", "_") / f"{layout_name()}_{secrets.token_hex(4)}"
        self._file_system = file_system
        self._fds: dict[str, int] = {}
        self._place: socket.socket | None = None
        self._loader: subprocess.Popen[str] | None = None
        self._abandoned = False
        self._attachments: Attachments | None = None
        self._lock = threading.Lock()
        self._reader = bpf_syscall.BatchReader(KEY, RECORD)
        self._states = bpf_syscall.BatchReader(KEY, CONVERSATION)
        self._active = "counters_a"
        self._epoch = 0
        self._inherited: list[tuple[NDArray[np.void], Loss]] = []
        self._ended_ns = 0
        self._watermark_ns = 0
        self._next_sweep_s = 0.0
        self._span = -1
        self._vanished = False
        self._nat_failed = False

    @property
    def interfaces(self) -> dict[int, str]:
        """Interfaces watched now."""
        return {} if self._attachments is None else self._attachments.interfaces

    @property
    def programs(self) -> dict[str, int]:
        """File descriptors of the two programs, for their statistics."""
        return {name: self._fds[name] for name in ("from_pod", "to_pod")}

    def start(self) -> None:
        """Load, take over what a killed collector left, attach.

        Raises:
            UnavailableError: a privilege, BCC, headers or the bpf file system is missing.
        """
        privileges.require(privileges.effective())
        self._place = _take_place(self._settings.node)
        self._make_folder()
        self._load()
        self._fds = {name: bpf_syscall.open_pinned(self._folder / name) for name in PINNED}
        left, adopted_ns = self._left_behind(), time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        for folder in left:
            self._adopt_conversations(folder)
        self._point_to("counters_a")
        self._attachments = Attachments(self._settings.interfaces, self._fds)
        self.follow()
        if not self.interfaces:
            _log.warning(
                "no interface is named like %s: nothing is seen until one is", ", ".join(self._settings.interfaces)
            )
        # Only now does nothing write to the old maps any more: their filters have been replaced, and this waits for
        # those that still run.
        self._point_to("counters_a")
        for folder in left:
            self._adopt_begun_since(folder, adopted_ns)
            self._inherit(folder)
        self._ended_ns = time.time_ns()

    def abandon(self) -> None:
        """From another thread: have ``start`` give up, which it may else take seconds to."""
        self._abandoned = True
        if self._loader is not None:
            self._loader.terminate()

    def follow(self) -> None:
        """Attach to interfaces that came; note those that went."""
        with self._lock:
            if self._attachments is None:
                return
            came, gone = self._attachments.follow()
        self._vanished = self._vanished or bool(gone)
        if came:
            _log.info("attached to %s", ", ".join(sorted(came.values())))

    def drain(self) -> Iterator[Drain]:
        """Records since the drain before, in parts of at most 65,536; the last part moves the watermark."""
        started_ns, before_ns = self._ended_ns, time.time_ns()
        offset_ns = _boot_offset_ns()
        taken, self._active = self._active, "counters_b" if self._active == "counters_a" else "counters_a"
        self._point_to(self._active)
        ended_ns = max(time.time_ns(), started_ns)
        self._ended_ns = ended_ns
        loss, translations = _take_loss(self._fds["losses"], self._fds["said"]), self._translations()
        inherited, self._inherited = self._inherited, []
        for records, old_loss in inherited:
            loss += old_loss
            conntrack.resolve(records, translations)
            yield Drain(records, started_ns, ended_ns, self._watermark_ns)
        for _, records in self._reader.take(self._fds[taken]):
            to_unix(records, offset_ns)
            conntrack.resolve(records, translations)
            yield Drain(records, started_ns, ended_ns, self._watermark_ns)
        # Nothing that this drain holds back is older than the swap; ALIVE records carry the time before it.
        swept = self._sweep(before_ns, offset_ns)
        conntrack.resolve(swept, translations)
        self._watermark_ns = max(self._watermark_ns, before_ns)
        yield Drain(swept, started_ns, ended_ns, self._watermark_ns, loss)

    def stop(self) -> None:
        """Close; detach and unpin, unless another collector shall take over."""
        with self._lock:  # a look at the interfaces that waits for it attaches to none of them any more
            attachments, self._attachments = self._attachments, None
            handed_over = self._settings.hand_over and attachments is not None
            if attachments is not None and not handed_over:
                attachments.detach()
        for fd in self._fds.values():
            os.close(fd)
        self._fds = {}
        if self._place is not None:
            self._place.close()
            self._place = None
        if handed_over:
            return
        _remove(self._folder)
        for parent in (self._folder.parent, self._root):
            with contextlib.suppress(OSError):  # another node's collector pins beside this one
                parent.rmdir()

    def _make_folder(self) -> None:
        if not self._is_bpf():
            result = subprocess.run(
                ["mount", "-t", "bpf", "bpf", str(self._file_system)], capture_output=True, text=True, check=False
            )
            if result.returncode != 0 or not self._is_bpf():
                raise UnavailableError(
                    f"--source ebpf: no bpf file system at {self._file_system} ({result.stderr.strip()}); "
                    f"mount it: mount -t bpf bpf {self._file_system}"
                )
        try:
            self._folder.mkdir(parents=True)
        except OSError as error:
            raise UnavailableError(f"--source ebpf: {self._folder}: {error.strerror}; it must be writable") from error

    def _is_bpf(self) -> bool:
        mounts = Path("/proc/self/mounts").read_text().splitlines()
        return any(line.split()[1] == str(self._file_system) and line.split()[2] == "bpf" for line in mounts)

    def _load(self) -> None:
        entries = str(self._settings.max_conversations)
        with (
            tempfile.TemporaryDirectory(prefix="tierflow-headers-") as scratch,
            subprocess.Popen(
                [sys.executable, "-m", "tierflow.collector.loader", str(self._folder), entries, entries, scratch],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
            ) as loader,
        ):  # fmt: skip
            self._loader = loader
            if self._abandoned:
                loader.terminate()
            _, said = loader.communicate()
        if loader.returncode != 0:
            _remove(self._folder)
            _log.debug("loader: %s", said)
            lines = said.strip().splitlines() or ["the loader ended without a word"]
            raise UnavailableError(lines[-1])

    def _point_to(self, name: str) -> None:
        self._epoch += 1
        bpf_syscall.update(self._fds["epoch"], _ZERO, np.array([self._epoch], np.uint32))
        bpf_syscall.update(self._fds["active"], _ZERO, np.array([self._fds[name]], np.uint32))

    def _translations(self) -> NDArray[np.void]:
        try:
            return conntrack.dump()
        except UnavailableError as error:
            if not self._nat_failed:
                _log.warning("%s: Service addresses stay unresolved", error)
            self._nat_failed = True
            return np.zeros(0, conntrack.TRANSLATION)

    def _sweep(self, unix_ns: int, offset_ns: int) -> NDArray[np.void]:
        """Keep-alives at the end of each span, completions every few seconds and when interfaces went."""
        width_ns = int(self._settings.keepalive_s * NS_PER_S)
        span = unix_ns // width_ns
        ends_ns = (span + 1) * width_ns - unix_ns
        alive = span != self._span and ends_ns <= 1.5 * self._settings.interval_s * NS_PER_S
        now_s = time.monotonic()
        if not alive and not self._vanished and now_s < self._next_sweep_s:
            return np.zeros(0, RECORD)
        if alive:
            self._span = span
        self._vanished = False
        self._next_sweep_s = now_s + SWEEP_S
        now_ns = unix_ns - offset_ns
        silent_since_ns = span * width_ns - offset_ns if alive else None
        made = [np.zeros(0, RECORD)]
        for keys, states in self._states.peek(self._fds["conversations"]):
            # Listed behind each chunk: what has come by now may speak in it.
            interfaces = np.array(list(self.interfaces), np.uint32)
            found = sweep(keys, states, interfaces, now_ns, silent_since_ns, unix_ns)
            gone = bpf_syscall.delete_unchanged(self._fds["conversations"], keys[found.forget], states[found.forget])
            # What has packets again since it was read hasn't ended.
            made.append(found.records[~np.isin(found.chosen, found.forget[~gone])])
        return np.concatenate(made)

    def _left_behind(self) -> list[Path]:
        return [path for path in self._folder.parent.iterdir() if path.is_dir() and path != self._folder]

    def _adopt_conversations(self, folder: Path) -> None:
        if not folder.name.startswith(layout_name()):
            return
        for fd in _pinned(folder, "conversations"):
            for keys, states in self._states.peek(fd):
                bpf_syscall.update_batch(self._fds["conversations"], keys, states)
        # They say in which epoch a record of theirs was last lost: the numbers go on.
        before = np.zeros(1, np.uint32)
        for fd in _pinned(folder, "epoch"):
            bpf_syscall.look_up(fd, _ZERO, before)
            self._epoch = max(self._epoch, int(before[0]))

    def _adopt_begun_since(self, folder: Path, since_ns: int) -> None:
        """What began under the old filters after the others had been adopted; else its next packet began it anew."""
        if not folder.name.startswith(layout_name()):
            return
        for fd in _pinned(folder, "conversations"):
            for keys, states in self._states.peek(fd):
                new = states["last_seen_ns"] >= since_ns
                bpf_syscall.add_each(self._fds["conversations"], keys[new], states[new])

    def _inherit(self, folder: Path) -> None:
        """What a killed collector had counted: its records where the layout is ours, else a loss that is said."""
        if not folder.name.startswith(layout_name()):
            held = _entries_of(folder)
            _log.warning("an earlier version's maps in %s can't be read; %d records in them are lost", folder, held)
            self._inherited.append((np.zeros(0, RECORD), Loss(records=held)))
            _remove(folder)
            return
        offset_ns = _boot_offset_ns()
        count = 0
        for fd in _pinned(folder, *COUNTERS):
            for _, values in self._reader.take(fd):
                records = values.copy()
                to_unix(records, offset_ns)
                self._inherited.append((records, Loss()))
                count += len(records)
        for losses in _pinned(folder, "losses"):
            for said in _pinned(folder, "said"):
                self._inherited.append((np.zeros(0, RECORD), _take_loss(losses, said)))
        _remove(folder)
        _log.info("took over %d records that the collector before left in the kernel", count)


def _boot_offset_ns() -> int:
    """Unix time minus boot time, from the narrowest of a few bracketed readings."""
    best: tuple[int, int] | None = None
    for _ in range(5):
        before = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        unix = time.time_ns()
        after = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        candidate = (after - before, unix - (before + after) // 2)
        best = candidate if best is None else min(best, candidate)
    return best[1] if best else 0


def _possible_cpus() -> int:
    text = Path("/sys/devices/system/cpu/possible").read_text().strip()
    return int(text.rpartition("-")[2].rpartition(",")[2]) + 1


def _take_loss(losses: int, said: int) -> Loss:
    """What was lost and hasn't been said before; from now on it has, to the collector that comes next too."""
    rows = np.zeros(_possible_cpus(), LOSS)
    before, total = np.zeros(1, LOSS), np.zeros(1, LOSS)
    bpf_syscall.look_up(losses, _ZERO, rows)
    bpf_syscall.look_up(said, _ZERO, before)
    names = ("records", "packets", "bytes")
    for name in names:
        total[name] = rows[name].sum()
    bpf_syscall.update(said, _ZERO, total)
    return Loss(*(int(total[name][0] - before[name][0]) for name in names))


def _pinned(folder: Path, *names: str) -> Iterator[int]:
    """File descriptors of those of a folder's maps that are there, each open until the next is asked for."""
    for name in names:
        try:
            fd = bpf_syscall.open_pinned(folder / name)
        except OSError:
            continue
        try:
            yield fd
        finally:
            os.close(fd)


def _entries_of(folder: Path) -> int:
    return sum(map(bpf_syscall.count_entries, _pinned(folder, *COUNTERS)))


def _take_place(node: str) -> socket.socket:
    """Be the node's one collector for as long as the socket is open.

    Process ids say nothing here: in a pod every collector is process 1. The kernel frees an abstract address with its
    process, however that ends, and it belongs to the network namespace, as the interfaces do.
    """
    address = f"\0tierflow-collector/{node}"
    place = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        place.bind(address)
        place.listen(1)
    except OSError as error:
        place.close()
        raise UnavailableError(
            f"--node {node}: another collector of this node runs (process {_owner(address)})"
        ) from error
    return place


def _owner(address: str) -> str:
    """Process id of whoever listens there, as far as it can be told from here."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        try:
            asking.connect(address)
        except OSError:
            return "unknown"
        pid, _, _ = struct.unpack("3i", asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return str(pid) if pid else "in another pod"


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
