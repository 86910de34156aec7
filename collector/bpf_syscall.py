"""The few bpf(2) calls that the running collector needs, straight into numpy arrays.

Layout of ``union bpf_attr``: linux/bpf.h. Only the short-lived loader process uses BCC, so that the compiler's memory
is gone before the first packet is counted.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from tierflow.schemas.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

_SYSCALL_NUMBERS: Final = {"x86_64": 321, "aarch64": 280, "riscv64": 280, "ppc64le": 361, "s390x": 351}

_MAP_LOOKUP_ELEM, _MAP_UPDATE_ELEM, _MAP_DELETE_ELEM = 1, 2, 3
_OBJ_GET, _OBJ_GET_INFO_BY_FD = 7, 15
_MAP_LOOKUP_BATCH, _MAP_LOOKUP_AND_DELETE_BATCH, _MAP_UPDATE_BATCH, _MAP_DELETE_BATCH = 24, 25, 26, 27
_NOEXIST: Final = 1
_AT_ONCE: Final = 256

CHUNK: Final = 65_536
"""Entries fetched in one call."""


class _Kernel:
    """The system call, bound when it is first made."""

    __slots__ = ("_call", "_number")

    def __init__(self) -> None:
        self._number = _SYSCALL_NUMBERS.get(platform.machine())
        self._call = ctypes.CDLL(None, use_errno=True).syscall

    def __call__(self, command: int, attributes: ctypes.Array[ctypes.c_char]) -> int:
        if self._number is None:
            raise UnavailableError(f"eBPF: no bpf system call number known for {platform.machine()}")
        result: int = self._call(self._number, command, attributes, len(attributes))
        if result < 0:
            code = ctypes.get_errno()
            raise OSError(code, f"bpf command {command}: {os.strerror(code)}")
        return result


_bpf: Final = _Kernel()


def _attributes(form: str, *values: int) -> ctypes.Array[ctypes.c_char]:
    packed = struct.pack(form, *values)
    return ctypes.create_string_buffer(packed.ljust(128, b"\0"), 128)


def open_pinned(path: Path) -> int:
    """A file descriptor of the map or program pinned at ``path``.

    Raises:
        OSError: nothing is pinned there, or it may not be opened.
    """
    name = ctypes.create_string_buffer(os.fsencode(path))
    return _bpf(_OBJ_GET, _attributes("=QII", ctypes.addressof(name), 0, 0))


def update(fd: int, key: NDArray[Any], value: NDArray[Any]) -> None:
    """Write one entry; for an array of maps this returns when no program still uses the map that was replaced."""
    _bpf(_MAP_UPDATE_ELEM, _attributes("=IIQQQ", fd, 0, key.ctypes.data, value.ctypes.data, 0))


def add_each(fd: int, keys: NDArray[Any], values: NDArray[Any]) -> None:
    """Write the entries that aren't there yet; few: one call each."""
    _each(_MAP_UPDATE_ELEM, fd, keys, values, _NOEXIST, errno.EEXIST)


def look_up(fd: int, key: NDArray[Any], value: NDArray[Any]) -> None:
    """Read one entry into ``value``; of a per-CPU map, one row for each possible CPU."""
    _bpf(_MAP_LOOKUP_ELEM, _attributes("=IIQQQ", fd, 0, key.ctypes.data, value.ctypes.data, 0))


def update_batch(fd: int, keys: NDArray[Any], values: NDArray[Any]) -> None:
    """Write many entries."""
    if len(keys):
        _batch(_MAP_UPDATE_BATCH, fd, None, None, keys, values, len(keys))


def delete_unchanged(fd: int, keys: NDArray[Any], values: NDArray[Any]) -> NDArray[np.bool_]:
    """Delete entries that are still as they were read; says which are gone now. Few: two calls each."""
    gone = np.ones(len(keys), np.bool_)
    # The fewer at once, the less time between the second look and the deletion.
    for at in range(0, len(keys), _AT_ONCE):
        part = slice(at, at + _AT_ONCE)
        now = np.zeros(len(keys[part]), values.dtype)
        there = _each(_MAP_LOOKUP_ELEM, fd, keys[part], now, 0, errno.ENOENT)
        unchanged = (_bytes_of(now) == _bytes_of(values[part])).all(axis=1)
        _each(_MAP_DELETE_ELEM, fd, keys[part][there & unchanged], None, 0, errno.ENOENT)
        gone[part] = ~there | unchanged
    return gone


def _bytes_of(rows: NDArray[Any]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(rows).view(np.uint8).reshape(len(rows), rows.dtype.itemsize)


def _each(
    command: int, fd: int, keys: NDArray[Any], values: NDArray[Any] | None, flags: int, passed_over: int
) -> NDArray[np.bool_]:
    """One call for each entry; says for which it worked, where the others failed with ``passed_over``."""
    worked = np.ones(len(keys), np.bool_)
    attributes = _attributes("=IIQQQ", fd, 0, 0, 0, flags)
    key, key_step = keys.ctypes.data, keys.itemsize
    value, value_step = (0, 0) if values is None else (values.ctypes.data, values.itemsize)
    for index in range(len(keys)):
        struct.pack_into("=QQ", attributes, 8, key + index * key_step, value + index * value_step)
        try:
            _bpf(command, attributes)
        except OSError as error:
            if error.errno != passed_over:
                raise
            worked[index] = False
    return worked


class BatchReader:
    """Reads whole maps in chunks into arrays that it owns and reuses."""

    __slots__ = ("_keys", "_positions", "_values")

    def __init__(self, key: np.dtype[np.void], value: np.dtype[np.void], chunk: int = CHUNK) -> None:
        self._keys = np.zeros(chunk, key)
        self._values = np.zeros(chunk, value)
        self._positions = np.zeros((2, 16), np.uint64)

    def take(self, fd: int) -> Iterator[tuple[NDArray[np.void], NDArray[np.void]]]:
        """Chunks ``(keys, values)``, deleted from the map as they are read; views, good until the next chunk."""
        return self._chunks(_MAP_LOOKUP_AND_DELETE_BATCH, fd)

    def peek(self, fd: int) -> Iterator[tuple[NDArray[np.void], NDArray[np.void]]]:
        """Chunks ``(keys, values)``, left in the map; views, good until the next chunk."""
        return self._chunks(_MAP_LOOKUP_BATCH, fd)

    def _chunks(self, command: int, fd: int) -> Iterator[tuple[NDArray[np.void], NDArray[np.void]]]:
        before: int | None = None
        position = 0
        while True:
            after = self._positions[position].ctypes.data
            count, more = _batch(command, fd, before, after, self._keys, self._values, len(self._keys))
            if count:
                yield self._keys[:count], self._values[:count]
            if not more:
                return
            before, position = after, 1 - position


def _batch(
    command: int,
    fd: int,
    before: int | None,
    after: int | None,
    keys: NDArray[Any],
    values: NDArray[Any],
    count: int,
) -> tuple[int, bool]:
    attributes = _attributes(
        "=QQQQIIQQ", before or 0, after or 0, keys.ctypes.data, values.ctypes.data, count, fd, 0, 0
    )
    more = True
    try:
        _bpf(command, attributes)
    except OSError as error:
        if error.errno != errno.ENOENT:
            raise
        more = False  # the last chunk ends in ENOENT
    return struct.unpack_from("=I", attributes.raw, 32)[0], more


def count_entries(fd: int) -> int:
    """How many entries a hash map of any layout holds; they are deleted as they are counted."""
    info = ctypes.create_string_buffer(128)
    _bpf(_OBJ_GET_INFO_BY_FD, _attributes("=IIQ", fd, len(info), ctypes.addressof(info)))
    # struct bpf_map_info: type, id, key_size, value_size.
    key_size, value_size = struct.unpack_from("=II", info.raw, 8)
    reader = BatchReader(np.dtype(f"V{key_size}"), np.dtype(f"V{value_size}"))
    return sum(len(keys) for keys, _ in reader.take(fd))


def program_statistics(fd: int) -> tuple[int, int]:
    """``(run_time_ns, run_count)`` of a program, counted while ``kernel.bpf_stats_enabled`` is 1."""
    info = ctypes.create_string_buffer(256)
    _bpf(_OBJ_GET_INFO_BY_FD, _attributes("=IIQ", fd, len(info), ctypes.addressof(info)))
    # run_time_ns and run_cnt of struct bpf_prog_info, in this place since Linux 5.1.
    return struct.unpack_from("=QQ", info.raw, 192)
