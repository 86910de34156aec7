"""The raw record: one bidirectional conversation seen at one point in one interval.

The dtype is the C struct of ``collector/bpf/record.h``, byte for byte. Addresses are two little-endian 64-bit halves
whose numeric order is the address order; IPv4 is written as ``::ffff:a.b.c.d`` (RFC 4291, 2.5.5.2).
"""

from __future__ import annotations

import ipaddress
from enum import IntEnum, IntFlag
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

RECORD: Final = np.dtype(
    [
        ("src_hi", "<u8"),
        ("src_lo", "<u8"),
        ("dst_hi", "<u8"),
        ("dst_lo", "<u8"),
        ("nat_dst_hi", "<u8"),
        ("nat_dst_lo", "<u8"),
        ("first_seen_ns", "<u8"),
        ("last_seen_ns", "<u8"),
        ("bytes_fwd", "<u8"),
        ("bytes_rev", "<u8"),
        ("packets_fwd", "<u4"),
        ("packets_rev", "<u4"),
        ("handshake_rtt_us", "<u4"),
        ("src_port", "<u2"),
        ("dst_port", "<u2"),
        ("nat_dst_port", "<u2"),
        ("proto", "u1"),
        ("reporter", "u1"),
        ("tcp_flags_fwd", "u1"),
        ("tcp_flags_rev", "u1"),
        ("marks", "u1"),
        ("reserved", "u1"),
    ]
)
"""The raw record, 104 bytes; see ``collector/bpf/record.h`` for what each field means."""

V4_MAPPED: Final = 0xFFFF_0000_0000
"""Low half of ``::ffff:0:0``; an address is IPv4 when ``hi == 0`` and ``lo >> 32 == 0xffff``."""


class Reporter(IntEnum):
    """Where the conversation was seen."""

    SRC = 1
    """Leaving the initiator."""
    DST = 2
    """Reaching the responder."""
    FWD = 3
    """In between."""

    @property
    def label(self) -> str:
        """The word in a flow log: ``src``, ``dst`` or ``fwd``."""
        return self.name.lower()


class Mark(IntFlag):
    """What is known of the conversation's life in this interval."""

    STARTED = 1
    COMPLETED = 2
    ALIVE = 4
    GUESSED = 8
    FRAGMENTED = 16


class TcpFlag(IntFlag):
    """TCP header flags (RFC 9293, 3.1)."""

    FIN = 1
    SYN = 2
    RST = 4
    PSH = 8
    ACK = 16
    URG = 32
    ECE = 64
    CWR = 128


PROTOCOL_NAMES: Final = {1: "icmp", 4: "ipip", 6: "tcp", 17: "udp", 50: "esp", 58: "icmp6", 132: "sctp", 136: "udplite"}
"""IANA number to the name that a flow log uses; any other protocol is written as its number."""

PROTOCOL_NUMBERS: Final = {name: number for number, name in PROTOCOL_NAMES.items()}


def protocol_name(number: int) -> str:
    """The flow log's name of an IP protocol number."""
    return PROTOCOL_NAMES.get(number, str(number))


def address_halves(address: str) -> tuple[int, int]:
    """``(hi, lo)`` of an IPv4 or IPv6 address in text form.

    Raises:
        ValueError: the text is no IP address.
    """
    parsed = ipaddress.ip_address(address)
    if parsed.version == 4:
        return 0, V4_MAPPED | int(parsed)
    number = int(parsed)
    return number >> 64, number & 0xFFFF_FFFF_FFFF_FFFF


def address_text(hi: int, lo: int) -> str:
    """The usual text form of an address given as two halves."""
    if hi == 0 and lo >> 32 == 0xFFFF:
        return str(ipaddress.IPv4Address(lo & 0xFFFF_FFFF))
    return str(ipaddress.IPv6Address((hi << 64) | lo))


def address_columns(addresses: Iterable[str]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Columns ``(hi, lo)`` of addresses in text form, in their order."""
    halves = [address_halves(address) for address in addresses]
    columns = np.array(halves, dtype=np.uint64).reshape(-1, 2)
    return columns[:, 0].copy(), columns[:, 1].copy()
