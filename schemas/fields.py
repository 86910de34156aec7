"""How the fields of JSON documents are declared: once, for topics, stores, JSON Schema and documentation."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tierflow.schemas.topics import Topic


class FieldType(Enum):
    """The type of a field, as stores know it."""

    KEYWORD = "keyword"
    LONG = "long"
    DOUBLE = "double"
    BOOLEAN = "boolean"
    IP = "ip"
    DATE_S = "date_s"
    """Unix time in seconds."""
    DATE_MS = "date_ms"
    """Unix time in milliseconds."""
    KEYWORDS = "keywords"
    """Array of keywords."""
    IPS = "ips"
    """Array of addresses in text form."""
    LONGS = "longs"
    """Array of integers."""


_JSON_TYPES: Final[dict[FieldType, dict[str, Any]]] = {
    FieldType.KEYWORD: {"type": "string"},
    FieldType.LONG: {"type": "integer"},
    FieldType.DOUBLE: {"type": "number"},
    FieldType.BOOLEAN: {"type": "boolean"},
    FieldType.IP: {"type": "string", "anyOf": [{"format": "ipv4"}, {"format": "ipv6"}]},
    FieldType.DATE_S: {"type": "integer", "minimum": 0},
    FieldType.DATE_MS: {"type": "integer", "minimum": 0},
    FieldType.KEYWORDS: {"type": "array", "items": {"type": "string"}},
    FieldType.IPS: {"type": "array", "items": {"type": "string"}},
    FieldType.LONGS: {"type": "array", "items": {"type": "integer"}},
}


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a document.

    Attributes:
        name: its path; a dot goes one object deeper (``policies.all_policies``).
        type: how it is stored.
        about: its meaning, in a sentence or two; shown to users.
        nullable: whether ``null`` is allowed.
        values: the accepted values where they are few.
        collected: False where tierflow doesn't collect it yet: always null, kept for readers of upstream's documents.
    """

    name: str
    type: FieldType
    about: str
    nullable: bool = False
    values: tuple[str, ...] = ()
    collected: bool = True


def json_schema(topic: Topic, title: str, fields: Sequence[Field]) -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a topic's documents; unknown fields are refused."""
    root = _object_schema()
    root = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": title,
        "description": topic.about,
    } | root
    for field in fields:
        node = root
        *parents, leaf = field.name.split(".")
        for parent in parents:
            node["required"] = sorted({*node["required"], parent})
            node = node["properties"].setdefault(parent, _object_schema())
        schema = dict(_JSON_TYPES[field.type])
        if field.values:
            schema["enum"] = [*field.values, None] if field.nullable else list(field.values)
        if field.nullable:
            schema["type"] = [schema["type"], "null"]
            if "anyOf" in schema:
                schema["anyOf"] = [*schema["anyOf"], {"type": "null"}]
        node["properties"][leaf] = schema | {"description": field.about}
        node["required"] = sorted({*node["required"], leaf})
    return root


def _object_schema() -> dict[str, Any]:
    return {"type": "object", "properties": {}, "required": [], "additionalProperties": False}
