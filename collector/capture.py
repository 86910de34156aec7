"""Frames of a capture file: pcap and pcapng, either byte order, micro- or nanoseconds.

Formats: draft-ietf-opsawg-pcap and draft-ietf-opsawg-pcapng. Link types: Ethernet (1), raw IP (12, 14, 101, 228, 229),
Linux cooked v1 (113) and v2 (276).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tierflow.schemas.clock import NS_PER_S
from tierflow.schemas.errors import ConfigurationError, TierflowError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import BinaryIO

ETHERNET: Final = 1
RAW_IP: Final = frozenset({12, 14, 101, 228, 229})
COOKED: Final = 113
COOKED_V2: Final = 276
LINK_TYPES: Final = RAW_IP | {ETHERNET, COOKED, COOKED_V2}

INBOUND, OUTBOUND = 1, 2
"""Direction of a frame at the interface, as pcapng's flags word has it; 0: the file doesn't say."""

_PCAP_MAGIC: Final = {
    b"\xa1\xb2\xc3\xd4": (">", 1_000), b"\xd4\xc3\xb2\xa1": ("<", 1_000),
    b"\xa1\xb2\x3c\x4d": (">", 1), b"\x4d\x3c\xb2\xa1": ("<", 1),
}  # fmt: skip
_SECTION: Final = b"\x0a\x0d\x0d\x0a"
_INTERFACE, _SIMPLE, _ENHANCED = 1, 3, 6
_IF_TSRESOL, _IF_TSOFFSET, _EPB_FLAGS = 9, 14, 2
_LARGEST: Final = 1 << 24
"""No frame or block is larger: a bigger length is a damaged file, not a reason to take the memory."""


_ENDLESS_NS: Final = 1 << 62
"""The year 2116: no capture is of later, and what is reckoned from a time stays within 64 bits."""


class TruncatedError(TierflowError):
    """The file ends, or stops making sense, within a packet; what came before it was good."""

    exit_code = ConfigurationError.exit_code


@dataclass(frozen=True, slots=True)
class Frame:
    """One captured frame; ``data`` may be shorter than ``length``, its length on the wire."""

    time_ns: int
    interface: int
    link_type: int
    direction: int
    length: int
    data: bytes


def frames(path: Path) -> Iterator[Frame]:
    """The frames of a capture file in its order.

    Raises:
        ConfigurationError: no such file, no capture file, or a link type that isn't read.
        TruncatedError: the file ends within a packet; raised after the frames before it.
    """
    try:
        with path.open("rb") as file:
            magic = file.read(4)
            if magic in _PCAP_MAGIC:
                yield from _pcap(path, file, *_PCAP_MAGIC[magic])
            elif magic == _SECTION:
                yield from _pcapng(path, file)
            else:
                raise ConfigurationError(
                    f"--file {path}: not a capture file (starts with {magic.hex() or 'nothing'}); "
                    "accepted: pcap, pcapng"
                )
    except OSError as error:
        raise ConfigurationError(f"--file {path}: {error.strerror}; accepted: a readable capture file") from error


def _checked(path: Path, link_type: int) -> int:
    if link_type not in LINK_TYPES:
        raise ConfigurationError(
            f"--file {path}: link type {link_type} isn't read; accepted: Ethernet (1), Linux cooked (113, 276), "
            "raw IP (101, 228, 229)"
        )
    return link_type


def _exactly(path: Path, file: BinaryIO, size: int, packet: int, *, ends: bool = False) -> bytes:
    """The next ``size`` bytes; ``b""`` where the file ends and ``ends`` allows it."""
    data = file.read(size) if 0 <= size <= _LARGEST else b""
    if len(data) == size or (ends and not data):
        return data
    raise TruncatedError(
        f"--file {path}: truncated or damaged after packet {packet}, near byte {file.tell()}; "
        "the packets before it were read"
    )


def _pcap(path: Path, file: BinaryIO, order: str, ns_per_unit: int) -> Iterator[Frame]:
    packet = 0
    header = _exactly(path, file, 20, packet)
    link_type = _checked(path, struct.unpack_from(order + "I", header, 16)[0] & 0xFFFF)
    record = struct.Struct(order + "IIII")
    while head := _exactly(path, file, record.size, packet, ends=True):
        seconds, fraction, captured, length = record.unpack(head)
        data = _exactly(path, file, captured, packet)
        packet += 1
        yield Frame(seconds * NS_PER_S + fraction * ns_per_unit, 0, link_type, 0, length, data)


@dataclass(frozen=True, slots=True)
class _Interface:
    link_type: int
    snap_length: int
    units_per_s: int
    offset_s: int


def _pcapng(path: Path, file: BinaryIO) -> Iterator[Frame]:
    order, packet, base = "<", 0, 0
    interfaces: list[_Interface] = []
    kind = _SECTION
    while kind:
        if kind == _SECTION:
            size_bytes, byte_order = _exactly(path, file, 4, packet), _exactly(path, file, 4, packet)
            if byte_order not in (b"\x1a\x2b\x3c\x4d", b"\x4d\x3c\x2b\x1a"):
                raise ConfigurationError(f"--file {path}: not a pcapng section (byte order {byte_order.hex()})")
            order = ">" if byte_order == b"\x1a\x2b\x3c\x4d" else "<"
            _exactly(path, file, struct.unpack(order + "I", size_bytes)[0] - 12, packet)
            base, interfaces = base + len(interfaces), []
        else:
            size = struct.unpack(order + "I", _exactly(path, file, 4, packet))[0]
            body = _exactly(path, file, size - 8, packet)[:-4]
            number = struct.unpack(order + "I", kind)[0]
            try:
                if number == _INTERFACE:
                    interfaces.append(_interface(path, body, order))
                elif number == _ENHANCED:
                    packet += 1
                    yield _enhanced(body, order, interfaces, base)
                elif number == _SIMPLE:
                    raise ConfigurationError(
                        f"--file {path}: packet {packet + 1} has no time (a simple packet block); "
                        "accepted: enhanced packet blocks"
                    )
            except (struct.error, IndexError) as error:
                raise TruncatedError(
                    f"--file {path}: damaged after packet {packet}, near byte {file.tell()}; "
                    "the packets before it were read"
                ) from error
        kind = _exactly(path, file, 4, packet, ends=True)


def _interface(path: Path, body: bytes, order: str) -> _Interface:
    link_type, _, snap_length = struct.unpack_from(order + "HHI", body)
    units_per_s, offset_s = 1_000_000, 0
    for code, value in _options(body, 8, order):
        if code == _IF_TSRESOL:
            units_per_s = 2 ** (value[0] & 127) if value[0] & 128 else 10 ** value[0]
        elif code == _IF_TSOFFSET:
            offset_s = struct.unpack(order + "q", value)[0]
    return _Interface(_checked(path, link_type), snap_length, units_per_s, offset_s)


def _enhanced(body: bytes, order: str, interfaces: list[_Interface], base: int) -> Frame:
    index, high, low, captured, length = struct.unpack_from(order + "IIIII", body)
    interface = interfaces[index]
    if 20 + captured > len(body):
        raise struct.error("captured length is past the block's end")
    direction = 0
    for code, value in _options(body, 20 + (captured + 3 & ~3), order):
        if code == _EPB_FLAGS:
            direction = struct.unpack(order + "I", value)[0] & 3
    units = high << 32 | low
    time_ns = interface.offset_s * NS_PER_S + units * NS_PER_S // interface.units_per_s
    if not 0 <= time_ns < _ENDLESS_NS:
        raise struct.error("a time that no record can hold")
    return Frame(time_ns, base + index, interface.link_type, direction, length, body[20 : 20 + captured])


def _options(body: bytes, at: int, order: str) -> Iterator[tuple[int, bytes]]:
    while at + 4 <= len(body):
        code, size = struct.unpack_from(order + "HH", body, at)
        if code == 0:
            return
        yield code, body[at + 4 : at + 4 + size]
        at += 4 + (size + 3 & ~3)
