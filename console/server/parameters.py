"""The parameters of the API, declared once: what the document says of them is what the reader of a query enforces."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from tierflow.console.server.problem import BadQuery
from tierflow.policy.selector import SelectorError, parse_selector
from tierflow.schemas.flow_log import EndpointType
from tierflow.sinks.read.interface import Filter

if TYPE_CHECKING:
    from starlette.datastructures import QueryParams

MOST_TEXT: Final = 512
MOST_VALUES: Final = 32
LATEST_S: Final = 4_102_444_800

FILTER_FIELDS: Final = {
    "action": "actions",
    "reporter": "reporters",
    "evidence": "evidence",
    "proto": "protocols",
    "dest_port": "ports",
    "namespace": "namespaces",
    "source_namespace": "source_namespaces",
    "dest_namespace": "dest_namespaces",
    "name": "names",
    "source_name_aggr": "source_names",
    "dest_name_aggr": "dest_names",
    "source_type": "source_types",
    "dest_type": "dest_types",
    "policy": "policies",
}
"""Fields that a condition may name, with the store's own name for it."""
FACET_FIELDS: Final = tuple(name for name in FILTER_FIELDS if name not in {"namespace", "name", "policy"})
"""Fields whose values can be counted, and so left out."""
LABEL_FIELDS: Final = ("source_labels.labels", "dest_labels.labels")
"""Fields with many values in one flow log, which can be counted but not left out."""
EITHER_END: Final = {"namespace": "namespaces", "name": "names", "label": "labels"}
"""What both ends have together, with the store's own name for it."""
SORT_FIELDS: Final = (
    "end_time", "start_time", "num_flows", "packets_in", "packets_out", "bytes_in", "bytes_out",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Parameter:
    """One query parameter: its name, JSON Schema, meaning, and whether it may be repeated."""

    name: str
    schema: dict[str, Any]
    about: str
    required: bool = False
    repeated: bool = False

    def document(self) -> dict[str, Any]:
        """The parameter as OpenAPI has it."""
        schema = {"type": "array", "items": self.schema, "maxItems": MOST_VALUES} if self.repeated else self.schema
        return {
            "name": self.name,
            "in": "query",
            "required": self.required,
            "description": self.about,
            "schema": schema,
        }


_TIME = {"type": "integer", "minimum": -31 * 86_400, "maximum": LATEST_S}
_TYPE = {"type": "string", "enum": [each.value for each in EndpointType]}
_LABEL = {"type": "string", "maxLength": MOST_TEXT}

MATCH: Final = {
    name: Parameter(
        f"{name}_match", {"type": "string", "enum": ["all", "any"]},
        f"Whether all values of {name} must match, or any. Default all.",
    )
    for name in ("source_label", "dest_label")
}  # fmt: skip
FROM: Final = Parameter("from", _TIME, "Start, Unix seconds; nought or negative: seconds before now. Default -900.")
TO: Final = Parameter(
    "to", _TIME, "End, Unix seconds, not included; nought or negative: seconds before now. Default 0."
)
RANGE: Final = (FROM, TO)
FILTER: Final = (
    *RANGE,
    Parameter("source_type", _TYPE, "Type of the source.", repeated=True),
    Parameter("dest_type", _TYPE, "Type of the destination.", repeated=True),
    Parameter("source_label", _LABEL, "Label selector that the source matches.", repeated=True),
    Parameter("dest_label", _LABEL, "Label selector that the destination matches.", repeated=True),
    *MATCH.values(),
    Parameter(
        "filter",
        {"type": "string", "pattern": f"^-?({'|'.join(FILTER_FIELDS)}):.+$", "maxLength": MOST_TEXT},
        "Condition field:value, or -field:value to leave out; a value ending in * is a prefix.",
        repeated=True,
    ),
)
SORT: Final = Parameter(
    "sort",
    {"type": "string", "enum": [f"{sign}{name}" for name in SORT_FIELDS for sign in ("", "-")]},
    "Field to sort by, - before it for descending. Default -end_time.",
)
CURSOR: Final = Parameter("cursor", {"type": "string", "maxLength": 2048}, "Cursor of the page before.")
LIMIT: Final = Parameter("limit", {"type": "integer", "minimum": 1, "maximum": 500}, "Flow logs a page. Default 50.")
FIELD: Final = Parameter(
    "field", {"type": "string", "enum": [*FACET_FIELDS, *LABEL_FIELDS, *EITHER_END]},
    "Field to count; namespace, name and label take both ends together.", required=True,
)  # fmt: skip
PREFIX: Final = Parameter("prefix", {"type": "string", "maxLength": MOST_TEXT}, "What the values must begin with.")
FORMAT: Final = Parameter("format", {"type": "string", "enum": ["csv", "jsonl"]}, "Form of the export.", required=True)
ENDPOINT_NAMESPACE: Final = Parameter(
    "namespace", {"type": "string", "minLength": 1, "maxLength": MOST_TEXT}, "Namespace, - for none.", required=True
)
ENDPOINT_NAME: Final = Parameter(
    "name", {"type": "string", "minLength": 1, "maxLength": MOST_TEXT}, "Aggregated name.", required=True
)
POLICY_ID: Final = Parameter(
    "id", {"type": "string", "minLength": 1, "maxLength": MOST_TEXT}, "Policy as in a flow log's trace.", required=True
)


def check(given: QueryParams, accepted: tuple[Parameter, ...]) -> None:
    """Refuse unknown, repeated, missing or overlong parameters.

    Raises:
        BadQuery: names the parameter and what is accepted.
    """
    known = {parameter.name: parameter for parameter in accepted}
    for name in given:
        if name not in known:
            raise BadQuery(f"{name[:40]!r} is no parameter here; accepted: {', '.join(known) or 'none'}")
        values = given.getlist(name)
        if len(values) > (MOST_VALUES if known[name].repeated else 1):
            raise BadQuery(
                f"{name}: given {len(values)} times; accepted: at most {MOST_VALUES if known[name].repeated else 1}"
            )
        if any("\x00" in value for value in values):
            raise BadQuery(f"{name}: accepted is text without NUL")
        longest = known[name].schema.get("maxLength", MOST_TEXT)
        if any(len(value) > longest for value in values):
            raise BadQuery(f"{name}: accepted are at most {longest} characters")
    for parameter in accepted:
        if parameter.required and not given.get(parameter.name):
            raise BadQuery(f"{parameter.name}: missing; {parameter.about}")


def choice(given: QueryParams, parameter: Parameter, default: str = "") -> str:
    """One of an enumeration.

    Raises:
        BadQuery: another value.
    """
    value = given.get(parameter.name, default)
    if value not in parameter.schema["enum"]:
        raise BadQuery(f"{parameter.name}: {value!r}; accepted: {', '.join(parameter.schema['enum'])}")
    return value


def integer(given: QueryParams, parameter: Parameter, default: int) -> int:
    """A whole number within its bounds.

    Raises:
        BadQuery: not a number, or out of bounds.
    """
    text = given.get(parameter.name)
    if text is None:
        return default
    least, most = parameter.schema["minimum"], parameter.schema["maximum"]
    if not (text.removeprefix("-").isascii() and text.removeprefix("-").isdigit()) or not least <= int(text) <= most:
        raise BadQuery(f"{parameter.name}: {text[:40]!r}; accepted: a whole number from {least} to {most}")
    return int(text)


def time_range(given: QueryParams, now_s: int, longest_s: int) -> tuple[int, int]:
    """The range in Unix seconds.

    Raises:
        BadQuery: its end isn't after its start, or it is too long.
    """
    start, end = integer(given, FROM, -900), integer(given, TO, 0)
    start, end = (value if value > 0 else now_s + value for value in (start, end))
    if not 0 < end - start <= longest_s:
        raise BadQuery(f"from, to: a range of {end - start} s; accepted: from before to, and at most {longest_s} s")
    return start, end


@dataclass(frozen=True, slots=True)
class Query:
    """A request's filter: what must hold, and what is left out as (field, value)."""

    where: Filter
    left_out: tuple[tuple[str, str], ...] = ()

    @property
    def range(self) -> tuple[int, int]:
        """Start and end in Unix seconds."""
        return self.where.start_s or 0, self.where.end_s or 0


def read_query(given: QueryParams, now_s: int, longest_s: int) -> Query:
    """The filter of a request.

    Raises:
        BadQuery: a parameter isn't what is accepted.
    """
    start, end = time_range(given, now_s, longest_s)
    held: dict[str, Any] = {}
    left_out: list[tuple[str, str]] = []
    for text in given.getlist("filter"):
        field, value, exclude = _condition(text)
        if exclude:
            left_out.append((field, value))
        else:
            name = FILTER_FIELDS[field]
            held[name] = (*held.get(name, ()), int(value) if field == "dest_port" else value)
    for name in ("source_type", "dest_type"):
        held[FILTER_FIELDS[name]] = (*held.get(FILTER_FIELDS[name], ()), *_types(given, name))
    where = Filter(
        start_s=start,
        end_s=end,
        source_labels=_selector(given, "source_label"),
        dest_labels=_selector(given, "dest_label"),
        **held,
    )
    return Query(where, tuple(left_out))


def _types(given: QueryParams, name: str) -> list[str]:
    for value in given.getlist(name):
        if value not in _TYPE["enum"]:
            raise BadQuery(f"{name}: {value!r}; accepted: {', '.join(_TYPE['enum'])}")
    return given.getlist(name)


def _selector(given: QueryParams, name: str) -> str:
    texts = [text for text in given.getlist(name) if text]
    for text in texts:
        try:
            parse_selector(text)
        except SelectorError as error:
            raise BadQuery(f"{name}: {error}") from error
        except RecursionError as error:
            raise BadQuery(f"{name}: nested too deeply") from error
    joint = " || " if choice(given, MATCH[name], "all") == "any" else " && "
    return joint.join(f"({text})" for text in texts) if len(texts) > 1 else "".join(texts)


def _condition(text: str) -> tuple[str, str, bool]:
    exclude = text.startswith("-")
    field, colon, value = text.removeprefix("-").partition(":")
    accepted = FACET_FIELDS if exclude else tuple(FILTER_FIELDS)
    if field not in accepted or not colon or not value:
        raise BadQuery(f"filter: {text!r}; accepted: field:value or -field:value with field {', '.join(accepted)}")
    if field == "dest_port" and not (value.isascii() and value.isdigit() and int(value) < 65_536):
        raise BadQuery(f"filter: {text!r}; accepted: a port from 0 to 65535")
    return field, value, exclude
