"""Protocols and ports as policies write them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from tierflow.policy.model import PortRange

if TYPE_CHECKING:
    from collections.abc import Sequence

PROTOCOLS: Final = {"tcp": 6, "udp": 17, "icmp": 1, "icmpv6": 58, "sctp": 132, "udplite": 136}
PORT_PROTOCOLS: Final = frozenset({6, 17, 132})
MAX_PORT: Final = 65535

ACCEPTED_PROTOCOL: Final = "TCP, UDP, ICMP, ICMPv6, SCTP, UDPLite or a number from 1 to 255"
ACCEPTED_PORT: Final = f"a port from 1 to {MAX_PORT}, a range low:high or a port name"

_PORT_NAME: Final = re.compile(r"[a-z0-9A-Z]([-a-zA-Z0-9_.]*[a-zA-Z0-9])?")


def read_protocol(value: object) -> int | None:
    """The number of a protocol given by name or number; None when it is neither."""
    if isinstance(value, str):
        if not (value.isascii() and value.isdecimal()):
            return PROTOCOLS.get(value.lower())
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 255:
        return value
    return None


def read_port(value: Any) -> PortRange | str | None:
    """A port, a range ``low:high`` or a port name; None when it is neither."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return _range(value, value)
    if not isinstance(value, str):
        return None
    low, colon, high = value.partition(":")
    if value.isascii() and low.isdecimal() and (not colon or high.isdecimal()):
        return _range(int(low), int(high or low))
    return value if _PORT_NAME.fullmatch(value) else None


def _range(low: int, high: int) -> PortRange | None:
    return PortRange(low, high) if 1 <= low <= high <= MAX_PORT else None


def merged_ranges(ranges: Sequence[PortRange]) -> tuple[PortRange, ...]:
    """The fewest ranges with the same ports, ascending."""
    merged: list[PortRange] = []
    for each in sorted(ranges, key=lambda port: (port.low, port.high)):
        if merged and each.low <= merged[-1].high + 1:
            merged[-1] = PortRange(merged[-1].low, max(merged[-1].high, each.high))
        else:
            merged.append(each)
    return tuple(merged)
