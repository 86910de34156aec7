"""Documents of the topics as stores keep them: flat, by the fields declared in the schemas. Pure."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any, Final

import orjson

from tierflow.schemas import flow_log, loss, policy_counter
from tierflow.schemas.errors import ConfigurationError, RejectedRecord, RejectReason
from tierflow.schemas.fields import FieldType

if TYPE_CHECKING:
    from collections.abc import Mapping

FLOW_LOG_TYPES: Final = {field.name: field.type for field in flow_log.FIELDS}
POLICY_COUNTER_TYPES: Final = {field.name: field.type for field in policy_counter.FIELDS}
LOSS_TYPES: Final = {field.name: field.type for field in loss.LOSS_FIELDS}

_PYTHON_TYPES: Final[dict[FieldType, type]] = {
    FieldType.KEYWORD: str,
    FieldType.IP: str,
    FieldType.LONG: int,
    FieldType.DATE_S: int,
    FieldType.DATE_MS: int,
    FieldType.DOUBLE: float,
    FieldType.BOOLEAN: bool,
    FieldType.KEYWORDS: list,
    FieldType.IPS: list,
    FieldType.LONGS: list,
}
_NULLABLE: Final = {
    field.name for field in (*flow_log.FIELDS, *policy_counter.FIELDS, *loss.LOSS_FIELDS) if field.nullable
}


def flatten(document: Mapping[str, Any], types: Mapping[str, FieldType]) -> dict[str, Any]:
    """The document's values by dotted field name, in the declared order, each checked against its type.

    Raises:
        RejectedRecord: a field is missing or has a wrong type; unknown ones are dropped (a newer writer may add).
    """
    flat: dict[str, Any] = {}
    for name, kind in types.items():
        value: Any = document
        try:
            for part in name.split("."):
                value = value[part]
        except (KeyError, TypeError) as error:
            raise RejectedRecord(RejectReason.SCHEMA, f"field {name} is missing") from error
        if value is None:
            if name not in _NULLABLE:
                raise RejectedRecord(RejectReason.SCHEMA, f"field {name} is null")
        elif not isinstance(value, _PYTHON_TYPES[kind]) or (kind is FieldType.LONG and isinstance(value, bool)):
            raise RejectedRecord(RejectReason.SCHEMA, f"field {name} is {type(value).__name__}, not {kind.value}")
        flat[name] = value
    return flat


def nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    """The document of a flat row: dotted names become objects."""
    document: dict[str, Any] = {}
    for name, value in flat.items():
        *parents, leaf = name.split(".")
        node = document
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = value
    return document


def encode_cursor(value: Any, identifier: str) -> str:
    """An opaque text for the place behind the row with this sort value and id."""
    return base64.urlsafe_b64encode(orjson.dumps([value, identifier])).decode().rstrip("=")


def decode_cursor(cursor: str) -> tuple[Any, str]:
    """Sort value and id of a cursor.

    Raises:
        ConfigurationError: the text is no cursor.
    """
    try:
        value, identifier = orjson.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except ValueError as error:
        raise ConfigurationError("cursor: not one that an earlier answer gave") from error
    return value, str(identifier)


def sort_type(field: str) -> FieldType:
    """The type of a field that flow logs may be sorted by.

    Raises:
        ConfigurationError: no such field, or one that has no order.
    """
    kind = FLOW_LOG_TYPES.get(field)
    if kind is None or kind in (FieldType.KEYWORDS, FieldType.IPS, FieldType.LONGS):
        raise ConfigurationError(f"sort {field!r}: accepted are the flow log's single-valued fields")
    return kind


EITHER_END: Final = {
    "labels": ("source_labels.labels", "dest_labels.labels"),
    "names": ("source_name_aggr", "dest_name_aggr"),
    "namespaces": ("source_namespace", "dest_namespace"),
}
"""Names for both ends' fields together, as a filter has them."""


def facet_fields(field: str, prefix: str = "") -> tuple[str, ...]:
    """The field whose values may be counted, or the two that a name of :data:`EITHER_END` stands for.

    Raises:
        ConfigurationError: no such field, or a prefix for values that aren't text.
    """
    fields = EITHER_END.get(field, (field,))
    kinds = {FLOW_LOG_TYPES.get(name) for name in fields}
    if None in kinds:
        raise ConfigurationError(f"field {field!r}: accepted are the flow log's fields, and {', '.join(EITHER_END)}")
    if prefix and not kinds & {FieldType.KEYWORD, FieldType.KEYWORDS, FieldType.IP, FieldType.IPS}:
        raise ConfigurationError(f"prefix {prefix!r}: field {field} holds no text")
    return fields
