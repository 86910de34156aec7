"""Fields of Kubernetes objects, each of the type it must have; what is wrong is named by its path.

Every function raises :class:`MalformedObject`.
"""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from tierflow.schemas.clock import NS_PER_S
from tierflow.schemas.record import PROTOCOL_NUMBERS

if TYPE_CHECKING:
    from collections.abc import Iterable


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class MalformedObject(ValueError):
    """An object can't be used.

    Attributes:
        field: path of the field at fault.
        found: what stands there.
        accepted: what may stand there.
    """

    def __init__(self, field: str, found: object, accepted: str, *, shown: str = "") -> None:
        """``shown`` stands in the text for what was found, where that isn't its ``repr``."""
        super().__init__(f"{field} is {shown or repr(found)}; accepted: {accepted}")
        self.field, self.found, self.accepted = field, found, accepted


def mapping(parent: dict[str, Any], field: str, path: str) -> dict[str, Any]:
    """A mapping from names; empty where it is absent."""
    value = parent.get(field)
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise MalformedObject(path, value, "a mapping from names")
    return value


def mappings(parent: dict[str, Any], field: str, path: str) -> list[dict[str, Any]]:
    """A list of mappings; empty where it is absent."""
    value = parent.get(field)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        raise MalformedObject(path, value, "a list of mappings")
    return value


def texts(parent: dict[str, Any], field: str, path: str) -> list[str]:
    """A list of texts; empty where it is absent."""
    value = parent.get(field)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise MalformedObject(path, value, "a list of texts")
    return value


def text(parent: dict[str, Any], field: str, path: str) -> str:
    """A text; empty where it is absent."""
    value = parent.get(field)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise MalformedObject(path, value, "text")
    return value


def labels_of(metadata: dict[str, Any], path: str) -> dict[str, str]:
    """The labels of an object's metadata."""
    labels = mapping(metadata, "labels", path)
    for key, value in labels.items():
        if not isinstance(value, str):
            raise MalformedObject(f"{path}.{key}", value, "text (quote it in YAML)")
    return labels


def time_ns(value: object, path: str) -> int | None:
    """A time in ns; None where it is absent."""
    if value is None:
        return None
    try:
        parsed = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    except ValueError as error:
        raise MalformedObject(path, value, "a time such as 2026-01-31T12:00:00Z") from error
    parsed = parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)
    return (parsed - _EPOCH) // timedelta(microseconds=1) * (NS_PER_S // 1_000_000)


def address_of(value: object, path: str) -> str:
    """An address in its usual form."""
    try:
        return str(ipaddress.ip_address(value if isinstance(value, str) else ""))
    except ValueError as error:
        raise MalformedObject(path, value, "an IPv4 or IPv6 address") from error


def unique(addresses: Iterable[str]) -> list[str]:
    """Each once, in the order of their first."""
    return list(dict.fromkeys(addresses))


def protocol_of(port: dict[str, Any], path: str) -> int:
    """The number of a port's protocol, TCP where it names none."""
    name = port.get("protocol") or "TCP"
    number = PROTOCOL_NUMBERS.get(name.lower()) if isinstance(name, str) else None
    if number is None:
        raise MalformedObject(f"{path}.protocol", name, "TCP, UDP or SCTP")
    return number


def port_of(value: object, path: str) -> int:
    """A port's number."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 65536:
        raise MalformedObject(path, value, "a port from 1 to 65535")
    return value
