"""What one frame says of its conversation, by the same rules as ``parse`` and ``transport`` of ``bpf/packet.h``.

Plain Python, one frame at a time; a test holds it against the kernel's program on the same packets.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tierflow.collector.capture import COOKED, COOKED_V2, ETHERNET, INBOUND, OUTBOUND, Frame
from tierflow.schemas.record import V4_MAPPED

ICMP, TCP, UDP, ICMPV6, SCTP, UDPLITE = 1, 6, 17, 58, 132, 136
_PAIRED: Final = frozenset({TCP, UDP, SCTP, UDPLITE})
_IPV4, _IPV6 = 0x0800, 0x86DD
_VLAN: Final = (0x8100, 0x88A8)
_HOP, _ROUTING, _FRAGMENT, _AUTHENTICATION, _DESTINATION = 0, 43, 44, 51, 60
_EXTENSIONS: Final = frozenset({_HOP, _ROUTING, _FRAGMENT, _AUTHENTICATION, _DESTINATION})
_MOST_EXTENSIONS: Final = 6
_COOKED_OUTGOING: Final = 4
_HALF: Final = 0xFFFF_FFFF_FFFF_FFFF


class CutShortError(ValueError):
    """The captured part of the frame ends within its headers."""


@dataclass(slots=True)
class Packet:
    """One IP packet. Addresses as in the raw record; ICMP: ``icmp`` is the query's type << 8 | code."""

    src: tuple[int, int] = (0, 0)
    dst: tuple[int, int] = (0, 0)
    bytes: int = 0
    proto: int = 0
    src_port: int = 0
    dst_port: int = 0
    icmp: int = 0
    tcp_flags: int = 0
    fragment_id: int = 0
    first_fragment: bool = False
    later_fragment: bool = False
    reply: bool = False
    paired: bool = False
    interface: int = 0
    direction: int = 0


def parse(frame: Frame) -> Packet | None:
    """The IP packet within a frame; None: none, or not a sound one.

    Raises:
        CutShortError: the capture kept too little of the frame to tell.
    """
    data = frame.data
    packet = Packet(interface=frame.interface, direction=frame.direction)
    try:
        kind, at = _link(frame, packet)
        for _ in range(2):
            if kind not in _VLAN:
                break
            kind = _u16(data, at + 2)
            at += 4
        if kind == _IPV4:
            at = _ipv4(data, at, packet, frame.length - at)
        elif kind == _IPV6:
            at = _ipv6(data, at, packet, frame.length - at)
        else:
            return None
    except IndexError:
        if frame.length > len(data):
            raise CutShortError from None
        return None
    if at and not packet.later_fragment:
        _transport(data, at, packet)
    return packet if at else None


def _u16(data: bytes, at: int) -> int:
    return data[at] << 8 | data[at + 1]


def _link(frame: Frame, packet: Packet) -> tuple[int, int]:
    """Protocol and offset of what the link layer carries; cooked frames also say interface and direction."""
    data = frame.data
    if frame.link_type == ETHERNET:
        return _u16(data, 12), 14
    if frame.link_type == COOKED:
        packet.direction = OUTBOUND if _u16(data, 0) == _COOKED_OUTGOING else INBOUND
        return _u16(data, 14), 16
    if frame.link_type == COOKED_V2:
        packet.interface = _u16(data, 4) << 16 | _u16(data, 6)
        packet.direction = OUTBOUND if data[10] == _COOKED_OUTGOING else INBOUND
        return _u16(data, 0), 20
    return (_IPV4 if data[0] >> 4 == 4 else _IPV6), 0


def _ipv4(data: bytes, at: int, packet: Packet, length: int) -> int:
    """Fill in the header's fields; returns where the payload starts, 0: no sound header."""
    head = (data[at] & 15) * 4
    _ = data[at + 19]
    if data[at] >> 4 != 4 or head < 20:
        return 0
    packet.bytes = _u16(data, at + 2) or length
    packet.src = (0, V4_MAPPED | int.from_bytes(data[at + 12 : at + 16]))
    packet.dst = (0, V4_MAPPED | int.from_bytes(data[at + 16 : at + 20]))
    packet.proto = data[at + 9]
    offset = _u16(data, at + 6)
    packet.fragment_id = _u16(data, at + 4)
    packet.later_fragment = offset & 0x1FFF != 0
    packet.first_fragment = offset & 0x3FFF == 0x2000
    return at + head


def _ipv6(data: bytes, at: int, packet: Packet, length: int) -> int:
    """As :func:`_ipv4`, past up to six extension headers."""
    _ = data[at + 39]
    if data[at] >> 4 != 6:
        return 0
    payload = _u16(data, at + 4)
    packet.bytes = payload + 40 if payload else length
    src, dst = int.from_bytes(data[at + 8 : at + 24]), int.from_bytes(data[at + 24 : at + 40])
    packet.src, packet.dst = (src >> 64, src & _HALF), (dst >> 64, dst & _HALF)
    following = data[at + 6]
    at += 40
    for _ in range(_MOST_EXTENSIONS):
        if following not in _EXTENSIONS:
            break
        _ = data[at + 7]
        kind, following = following, data[at]
        if kind == _FRAGMENT:
            offset = _u16(data, at + 2)
            packet.fragment_id = int.from_bytes(data[at + 4 : at + 8])
            packet.later_fragment = offset & 0xFFF8 != 0
            packet.first_fragment = not packet.later_fragment and offset & 1 != 0
            at += 8
        elif kind == _AUTHENTICATION:
            at += (data[at + 1] + 2) * 4
        else:
            at += (data[at + 1] + 1) * 8
        if packet.later_fragment:
            break
    packet.proto = following
    return at


def _transport(data: bytes, at: int, packet: Packet) -> None:
    """Ports, flags, or ICMP's identifier; zero where the packet ends before them."""
    room = len(data) - at
    if packet.proto in _PAIRED:
        if room < (14 if packet.proto == TCP else 4):
            return
        if packet.proto == TCP:
            packet.tcp_flags = data[at + 13]
        packet.src_port, packet.dst_port = _u16(data, at), _u16(data, at + 2)
        packet.paired = True
    elif packet.proto in (ICMP, ICMPV6) and room >= 8:
        kind = data[at]
        packet.icmp = kind << 8 | data[at + 1]
        if packet.proto == ICMP and (kind in (0, 8) or 13 <= kind <= 18):
            packet.src_port, packet.reply = _u16(data, at + 4), kind in (0, 14, 16, 18)
            if packet.reply:
                packet.icmp = (kind - 1 if kind else 8) << 8
        elif packet.proto == ICMPV6 and kind in (128, 129):
            packet.src_port, packet.reply = _u16(data, at + 4), kind == 129
            if packet.reply:
                packet.icmp = 128 << 8
        packet.dst_port = packet.src_port
