"""Messages of the ``inventory`` topic: versions of objects, and heartbeats that carry the watermark.

One version of one object is one key, so a compacted topic keeps the whole retained past: the version is written when it
begins (``valid_to_ns`` null), again under the same key when it ends, and as a tombstone when nobody can need it any
more. All messages are on one partition, in the order in which the publisher learnt of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import orjson

from tierflow.schemas.errors import RejectedRecord, RejectReason
from tierflow.schemas.topics import INVENTORY_VERSION

ENDPOINT: Final = "endpoint"
"""A pod or a node's addresses; ``object`` is made by tierflow.inventory.objects, not a manifest."""
NODE: Final = "node"
SERVICE: Final = "service"
NETWORK_SET: Final = "network-set"
NAMESPACE: Final = "namespace"
SERVICE_ACCOUNT: Final = "service-account"
POLICY: Final = "policy"
"""Tiers, policies, staged policies, profiles and host endpoints: the manifest, without status and bookkeeping."""
ENDPOINT_SLICE: Final = "endpoint-slice"
"""Backends of a Service."""
SETTINGS: Final = "settings"
"""What the publisher was told that every reader must go by; one object, ``object`` is made by :class:`Settings`."""
OBJECT_KINDS: Final = frozenset(
    {ENDPOINT, NODE, SERVICE, ENDPOINT_SLICE, NETWORK_SET, NAMESPACE, SERVICE_ACCOUNT, POLICY}
)
"""Those that a cluster's objects become."""
KINDS: Final = OBJECT_KINDS | {SETTINGS}

HEARTBEAT_KEY: Final = b"heartbeat"


@dataclass(frozen=True, slots=True)
class ObjectVersion:
    """One object as it was from ``valid_from_ns`` (included) to ``valid_to_ns`` (not included).

    Attributes:
        kind: one of :data:`KINDS`.
        key: the object's identity within its kind: ``[group/]Kind/namespace/name``.
        valid_from_ns: Unix time in ns.
        valid_to_ns: Unix time in ns; None while it holds.
        object: the object's content; never changed once made.
    """

    kind: str
    key: str
    valid_from_ns: int
    valid_to_ns: int | None
    object: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Settings:
    """What every reader must go by, so that all workers and replays give the same.

    Attributes:
        private_prefixes: addresses shown as ``pvt`` when nothing else is known of them.
        retention_s: seconds that a version is kept after its end.
    """

    private_prefixes: tuple[str, ...]
    retention_s: int

    def to_object(self) -> dict[str, Any]:
        """The content of the object of kind :data:`SETTINGS`."""
        return {"private_prefixes": list(self.private_prefixes), "retention_s": self.retention_s}

    @classmethod
    def of_object(cls, content: dict[str, Any]) -> Settings:
        """The settings that :meth:`to_object` wrote."""
        return cls(tuple(content["private_prefixes"]), int(content["retention_s"]))


SETTINGS_KEY: Final = "settings"


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """The publisher is alive, and everything that happened before ``watermark_ns`` has been published.

    Attributes:
        watermark_ns: Unix time in ns.
        publisher: identity of the publisher.
        epoch: grows with every change of publisher; a lower one than seen before is a publisher that was replaced.
    """

    watermark_ns: int
    publisher: str
    epoch: int


@dataclass(frozen=True, slots=True)
class Tombstone:
    """A version that has left the retained past."""

    kind: str
    key: str
    valid_from_ns: int


Message = ObjectVersion | Heartbeat | Tombstone


def encode_message(message: Message) -> tuple[bytes, bytes | None]:
    """Key and value of the Kafka message; the same message always gives the same bytes."""
    if isinstance(message, Heartbeat):
        return HEARTBEAT_KEY, orjson.dumps(
            {
                "version": INVENTORY_VERSION,
                "watermark_ns": message.watermark_ns,
                "publisher": message.publisher,
                "epoch": message.epoch,
            }
        )
    key = f"{message.kind}|{message.key}|{message.valid_from_ns}".encode()
    if isinstance(message, Tombstone):
        return key, None
    return key, orjson.dumps(
        {
            "version": INVENTORY_VERSION,
            "kind": message.kind,
            "key": message.key,
            "valid_from_ns": message.valid_from_ns,
            "valid_to_ns": message.valid_to_ns,
            "object": message.object,
        },
        option=orjson.OPT_SORT_KEYS,
    )


def decode_message(key: bytes | None, value: bytes | None) -> Message:
    """The message that :func:`encode_message` wrote.

    Raises:
        RejectedRecord: not JSON, of another schema version, or a field is missing or of the wrong type.
    """
    if value is None:
        return _tombstone(key)
    try:
        content = orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise RejectedRecord(RejectReason.BAD_JSON, f"inventory message is not JSON: {error}") from error
    if not isinstance(content, dict) or content.get("version") != INVENTORY_VERSION:
        found = content.get("version") if isinstance(content, dict) else type(content).__name__
        raise RejectedRecord(
            RejectReason.UNKNOWN_VERSION, f"inventory message of version {found!r}; accepted: {INVENTORY_VERSION}"
        )
    if "watermark_ns" in content:
        return Heartbeat(
            _field(content, "watermark_ns", int), _field(content, "publisher", str), _field(content, "epoch", int)
        )
    kind = _field(content, "kind", str)
    if kind not in KINDS:
        raise RejectedRecord(RejectReason.SCHEMA, f"inventory kind {kind!r}; accepted: {', '.join(sorted(KINDS))}")
    begin, end = _field(content, "valid_from_ns", int), content.get("valid_to_ns")
    if end is not None and (not isinstance(end, int) or end < begin):
        raise RejectedRecord(RejectReason.BAD_TIME, f"valid_to_ns {end!r}; accepted: null or a time from {begin} on")
    return ObjectVersion(kind, _field(content, "key", str), begin, end, _field(content, "object", dict))


def _field(content: dict[str, Any], name: str, accepted: type) -> Any:
    value = content.get(name)
    if not isinstance(value, accepted):
        raise RejectedRecord(RejectReason.SCHEMA, f"inventory field {name} is {value!r}; accepted: {accepted.__name__}")
    return value


def _tombstone(key: bytes | None) -> Tombstone:
    parts = (key or b"").decode(errors="replace").split("|")
    if len(parts) != 3 or not parts[2].isdigit():
        raise RejectedRecord(RejectReason.BAD_HEADER, f"inventory key {key!r}; accepted: kind|key|valid_from_ns")
    return Tombstone(parts[0], parts[1], int(parts[2]))


def json_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a message's value: a version of an object, or a heartbeat."""
    time_ns = {"type": "integer", "minimum": 0, "description": "Unix time in nanoseconds."}
    version = {"const": INVENTORY_VERSION}
    heartbeat = _closed(
        {
            "version": version,
            "watermark_ns": time_ns,
            "publisher": {"type": "string", "description": "Identity of the publisher."},
            "epoch": {"type": "integer", "description": "Grows with every change of publisher."},
        }
    )
    begins = _closed(
        {
            "version": version,
            "kind": {"enum": sorted(KINDS)},
            "key": {"type": "string", "description": "[group/]Kind/namespace/name."},
            "valid_from_ns": time_ns,
            "valid_to_ns": {**time_ns, "type": ["integer", "null"], "description": "null while it holds."},
            "object": {"type": "object", "description": "The object's content."},
        }
    )
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Inventory message",
        "oneOf": [begins | {"title": "Version of an object"}, heartbeat | {"title": "Heartbeat"}],
    }


def _closed(properties: dict[str, Any]) -> dict[str, Any]:
    required = sorted(properties)
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
