"""Where a packet to a Service really went: destination translations from the node's connection tracking.

One ctnetlink dump, filtered by the kernel to translated destinations (CTA_STATUS with IPS_DST_NAT), read at fixed
offsets: the kernel writes the original and the reply tuple first, in one form for each address family
(linux/netfilter/nfnetlink_conntrack.h).
"""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from tierflow.schemas.errors import UnavailableError
from tierflow.schemas.record import V4_MAPPED, Reporter

if TYPE_CHECKING:
    from numpy.typing import NDArray

TRANSLATION: Final = np.dtype(
    [
        ("src_hi", "<u8"),
        ("src_lo", "<u8"),
        ("dst_hi", "<u8"),
        ("dst_lo", "<u8"),
        ("nat_dst_hi", "<u8"),
        ("nat_dst_lo", "<u8"),
        ("src_port", "<u2"),
        ("dst_port", "<u2"),
        ("nat_dst_port", "<u2"),
        ("proto", "u1"),
    ]
)
"""One translated connection, as its initiator sees it and where it went."""

_NETLINK_NETFILTER: Final = 12
_CT_GET: Final = 1 << 8 | 1
_REQUEST_DUMP: Final = 0x301
_CTA_STATUS, _CTA_STATUS_MASK = 3, 26
_IPS_DST_NAT: Final = 1 << 5
_DONE, _ERROR = 3, 2
_WITH_PORTS: Final = (6, 17, 132)
_TUPLE_START: Final = 20


@dataclass(frozen=True, slots=True)
class _Form:
    """Offsets within one tuple of an address family."""

    tuple_bytes: int
    src: int
    dst: int
    proto: int
    src_port: int
    dst_port: int
    halves: int


_FORMS: Final = {
    int(socket.AF_INET): _Form(52, 12, 20, 32, 40, 48, 1),
    int(socket.AF_INET6): _Form(76, 12, 32, 56, 64, 72, 2),
}


def dump() -> NDArray[np.void]:
    """The node's connections whose destination is translated, dtype :data:`TRANSLATION`.

    Raises:
        UnavailableError: the kernel refuses to list them.
    """
    attributes = struct.pack("=HH", 8, _CTA_STATUS) + struct.pack(">I", _IPS_DST_NAT)
    attributes += struct.pack("=HH", 8, _CTA_STATUS_MASK) + struct.pack(">I", _IPS_DST_NAT)
    body = struct.pack("=BBH", socket.AF_UNSPEC, 0, 0) + attributes
    request = struct.pack("=IHHII", 16 + len(body), _CT_GET, _REQUEST_DUMP, 1, 0) + body
    parts: list[NDArray[np.void]] = []
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER) as netlink:
        netlink.settimeout(2)
        try:
            netlink.sendto(request, (0, 0))
            done = False
            while not done:
                rows, done = parse(netlink.recv(1 << 18))
                parts.append(rows)
        except OSError as error:
            raise UnavailableError(f"connection tracking can't be read: {error.strerror or error}") from error
    return np.concatenate(parts)


def parse(message: bytes) -> tuple[NDArray[np.void], bool]:
    """Translated connections of one datagram of a dump, and whether it was the last.

    Raises:
        OSError: the kernel answered with an error.
    """
    offsets: dict[int, list[int]] = {family: [] for family in _FORMS}
    at, done = 0, False
    while at + 16 <= len(message):
        size, kind = struct.unpack_from("=IH", message, at)
        if kind == _DONE:
            done = True
            break
        if kind == _ERROR:
            code = -struct.unpack_from("=i", message, at + 16)[0]
            raise OSError(code, f"conntrack dump: error {code}")
        family = message[at + 16]
        if family in offsets:
            offsets[family].append(at)
        at += (max(size, 16) + 3) & ~3
    content = np.frombuffer(message, np.uint8)
    tables = [_gather(content, np.array(where, np.int64), _FORMS[family]) for family, where in offsets.items() if where]
    return (np.concatenate(tables) if tables else np.zeros(0, TRANSLATION)), done


def _gather(content: NDArray[np.uint8], starts: NDArray[np.int64], form: _Form) -> NDArray[np.void]:
    original = starts + _TUPLE_START
    reply = original + form.tuple_bytes
    fits = reply + form.tuple_bytes <= len(content)
    original, reply = original[fits], reply[fits]
    proto = content[original + form.proto]
    # The form holds where both tuples have its length: a tuple of a zone or of ICMP has another.
    good = np.isin(proto, _WITH_PORTS)
    for where in (original, reply):
        good &= content[where].astype(np.int64) + (content[where + 1].astype(np.int64) << 8) == form.tuple_bytes
    original, reply, proto = original[good], reply[good], proto[good]
    table = np.zeros(len(original), TRANSLATION)
    table["src_hi"], table["src_lo"] = _address(content, original + form.src, form)
    table["dst_hi"], table["dst_lo"] = _address(content, original + form.dst, form)
    table["nat_dst_hi"], table["nat_dst_lo"] = _address(content, reply + form.src, form)
    table["src_port"] = _big_endian(content, original + form.src_port, 2)
    table["dst_port"] = _big_endian(content, original + form.dst_port, 2)
    table["nat_dst_port"] = _big_endian(content, reply + form.src_port, 2)
    table["proto"] = proto
    return table


def _address(
    content: NDArray[np.uint8], at: NDArray[np.int64], form: _Form
) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    if form.halves == 1:
        low = _big_endian(content, at, 4) | np.uint64(V4_MAPPED)
        return np.zeros(len(at), np.uint64), low
    return _big_endian(content, at, 8), _big_endian(content, at + 8, 8)


def _big_endian(content: NDArray[np.uint8], at: NDArray[np.int64], size: int) -> NDArray[np.uint64]:
    number = np.zeros(len(at), np.uint64)
    for index in range(size):
        number = (number << np.uint64(8)) | content[at + index].astype(np.uint64)
    return number


def resolve(records: NDArray[np.void], table: NDArray[np.void]) -> None:
    """Write the translated destination into the source-side records that ``table`` knows, in place."""
    if not len(table) or not len(records):
        return
    hashes = _hashes(table)
    order = np.argsort(hashes, kind="stable")
    sorted_hashes = hashes[order]
    wanted = _hashes(records)
    place = np.minimum(np.searchsorted(sorted_hashes, wanted), len(order) - 1)
    row = order[place]
    hit = (sorted_hashes[place] == wanted) & (records["reporter"] == Reporter.SRC)
    for field in ("src_hi", "src_lo", "dst_hi", "dst_lo", "src_port", "dst_port", "proto"):
        hit &= records[field] == table[field][row]
    for field in ("nat_dst_hi", "nat_dst_lo", "nat_dst_port"):
        records[field][hit] = table[field][row[hit]]


def _hashes(rows: NDArray[np.void]) -> NDArray[np.uint64]:
    ports = rows["src_port"].astype(np.uint64) << np.uint64(24) | rows["dst_port"].astype(np.uint64) << np.uint64(8)
    value: NDArray[np.uint64] = ports + rows["proto"].astype(np.uint64)
    for field in ("src_hi", "src_lo", "dst_hi", "dst_lo"):
        value = (value ^ rows[field].astype(np.uint64)) * np.uint64(0x9E37_79B9_7F4A_7C15)
        value ^= value >> np.uint64(29)
    return value
