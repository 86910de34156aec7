"""The OpenAPI document, made from the same table as the routes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import tierflow
from tierflow.console.server import parameters as p
from tierflow.console.server.session import COOKIE, CSRF_HEADER

if TYPE_CHECKING:
    from tierflow.console.server.parameters import Parameter


@dataclass(frozen=True, slots=True)
class Operation:
    """One endpoint: path, the handler's name, method, meaning, parameters, answer by media type."""

    path: str
    handler: str
    about: str
    parameters: tuple[Parameter, ...]
    answer: dict[str, dict[str, Any]]
    method: str = "get"
    status: int = 200
    missing: bool = False


def _object(**properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "required": list(properties), "properties": properties}


def _list(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}


_INTEGER: Final = {"type": "integer"}
_NUMBER: Final = {"type": "number"}
_STRING: Final = {"type": "string"}
_MAYBE_INTEGER: Final = {"type": ["integer", "null"]}
_MAYBE_STRING: Final = {"type": ["string", "null"]}
_RANGE: Final = _object(from_s=_INTEGER, to_s=_INTEGER)
_END: Final = _object(namespace=_STRING, name=_STRING, type=_STRING)
_STATUS: Final = {"enum": ["allowed", "unanswered", "denied", "denied_by_destination", "leak", "unknown"]}
_FLOW: Final = _object(
    source=_END, dest=_END, proto=_STRING, dest_port=_MAYBE_INTEGER, service=_MAYBE_STRING, status=_STATUS,
    connections=_INTEGER, packets=_INTEGER, bytes=_INTEGER,
)  # fmt: skip
_PAIR: Final = _object(**{"in": _NUMBER, "out": _NUMBER})
_TRAFFIC: Final = _object(packets=_PAIR, bytes=_PAIR)
_RATES: Final = _object(connections=_PAIR, allowed=_TRAFFIC, denied=_TRAFFIC, passed=_TRAFFIC)
_IDENTITY: Final[dict[str, dict[str, Any]]] = {
    "id": _STRING,
    "name": _STRING,
    "namespace": _MAYBE_STRING,
    "kind": _STRING,
    "staged": {"type": "boolean"},
    "order": {"type": ["number", "null"]},
    "selector": _STRING,
}
_TILE: Final = _object(**_IDENTITY, endpoints=_INTEGER, rates=_RATES, spark=_list(_NUMBER))
_TIER: Final = _object(name=_STRING, order={"type": ["number", "null"]}, default_action=_STRING, policies=_list(_TILE))
_RULE: Final = _object(
    index=_INTEGER,
    action=_STRING,
    sentence=_list(_object(text=_STRING, strong={"type": "boolean"})),
    endpoints=_object(**{"in": _MAYBE_INTEGER, "out": _MAYBE_INTEGER}),
    rates=_RATES,
    last_evaluated_s=_MAYBE_INTEGER,
)
_APPLIED: Final = _object(
    id=_STRING, name=_STRING, tier=_STRING, staged={"type": "boolean"},
    directions=_list({"enum": ["ingress", "egress"]}),
)  # fmt: skip
_DENIAL: Final = _object(
    direction={"enum": ["ingress", "egress"]}, rule_index=_INTEGER, source=_STRING, dest=_STRING, packets=_INTEGER,
    connections=_INTEGER, filter=_list(_STRING),
)  # fmt: skip
_HIT: Final = _object(
    tier=_STRING, policy=_STRING, id=_MAYBE_STRING, action=_STRING, rule_index=_INTEGER, staged={"type": "boolean"},
    words=_STRING,
)  # fmt: skip
_SIDE: Final = _object(
    reporter=_STRING, direction=_STRING, action=_STRING, evidence=_STRING, derived={"type": "boolean"},
    hits=_list(_HIT), pending=_list(_HIT),
)  # fmt: skip
_LOSS: Final = _object(
    host=_STRING, reason=_STRING, losses=_INTEGER, uncounted=_INTEGER, batches=_INTEGER, records=_INTEGER,
    packets=_INTEGER, bytes=_INTEGER, start_s=_INTEGER, end_s=_INTEGER,
)  # fmt: skip
_LOG: Final = {"type": "object", "description": "A flow log; /api/v1/flow-logs/fields tells its fields."}


def _json(schema: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {"application/json": {"schema": schema}}


OPERATIONS: Final = (
    Operation("/api/v1/flows", "flows", "Flows with one state each, most connections first.", p.FILTER, _json(_object(
        range=_RANGE, covered_s=_INTEGER, flows=_list(_FLOW), newest_s=_MAYBE_INTEGER,
        smaller=_object(flows=_INTEGER, connections=_INTEGER, packets=_INTEGER, bytes=_INTEGER)))),
    Operation("/api/v1/flow-logs", "flow_logs", "A page of flow logs.", (*p.FILTER, p.SORT, p.CURSOR, p.LIMIT),
        _json(_object(range=_RANGE, logs=_list(_LOG), cursor=_MAYBE_STRING, total=_INTEGER, newest_s=_MAYBE_INTEGER))),
    Operation("/api/v1/flow-logs/histogram", "histogram", "Flow logs by action over time.", p.FILTER, _json(_object(
        range=_RANGE, width_s=_INTEGER, buckets=_list(_object(start_s=_INTEGER, allow=_INTEGER, deny=_INTEGER))))),
    Operation("/api/v1/flow-logs/fields", "fields", "Every field of a flow log with its meaning.", (), _json(_object(
        fields=_list(_object(name=_STRING, type=_STRING, about=_STRING, collected={"type": "boolean"}))))),
    Operation("/api/v1/flow-logs/export", "export", "Flow logs as a file.", (*p.FILTER, p.FORMAT),
        {"text/csv": {"schema": _STRING}, "application/jsonl": {"schema": _STRING}}),
    Operation("/api/v1/losses", "losses", "What went missing in the range: no other answer holds it.", p.RANGE,
        _json(_object(range=_RANGE, losses=_list(_LOSS)))),
    Operation("/api/v1/facets", "facets", "Values of a field with the number of their flow logs.",
        (*p.FILTER, p.FIELD, p.PREFIX), _json(_object(
            field=_STRING, values=_list(_object(value=_STRING, logs=_INTEGER))))),
    Operation("/api/v1/explain", "explain", "The policies that judged the flow that the filter leaves.", p.FILTER,
        _json(_object(sides=_list(_SIDE), words=_STRING, policies=_INTEGER))),
    Operation("/api/v1/board", "board", "Tiers and policies in order, with rates over the range.", p.RANGE,
        _json(_object(range=_RANGE, covered_s=_INTEGER, tiers=_list(_TIER), newest_s=_MAYBE_INTEGER,
        no_policy=_object(connections=_NUMBER, packets=_NUMBER, bytes=_NUMBER)))),
    Operation("/api/v1/policy", "policy", "One policy: rules with what each did, whom they deny, what it selects.",
        (*p.RANGE, p.POLICY_ID), _json(_object(
            **_IDENTITY, range=_RANGE, covered_s=_INTEGER, tier=_STRING,
            ingress=_list(_RULE), egress=_list(_RULE), denials=_list(_DENIAL),
            selected=_list(_END), last_evaluated_s=_MAYBE_INTEGER, newest_s=_MAYBE_INTEGER, yaml=_STRING)),
        missing=True),
    Operation("/api/v1/endpoint", "endpoint", "The policies that apply now to the endpoints of an aggregated name.",
        (p.ENDPOINT_NAMESPACE, p.ENDPOINT_NAME),
        _json(_object(endpoints=_INTEGER, labels=_list(_STRING), policies=_list(_APPLIED)))),
    Operation("/api/v1/live", "live", "Server-sent events: `newest`, the end of the newest window, when it moves.", (),
        {"text/event-stream": {"schema": _STRING}}),
    Operation("/api/v1/session", "session", f"End the session; needs the header {CSRF_HEADER}: 1.", (), {},
        method="delete", status=204),
)  # fmt: skip
"""Every endpoint; ``handler`` is a method of :class:`tierflow.console.server.api.Api`."""

_PROBLEM: Final = _object(type=_STRING, title=_STRING, status=_INTEGER, detail=_STRING)


def document() -> dict[str, Any]:
    """The document, OpenAPI 3.1."""
    paths: dict[str, dict[str, Any]] = {}
    for each in OPERATIONS:
        refusals = [400, 401, 421, 503, *([404] if each.missing else []), *([403] if each.method != "get" else [])]
        answers = {str(status): {"$ref": "#/components/responses/Problem"} for status in sorted(refusals)}
        done: dict[str, Any] = {"description": each.about}
        if each.answer:
            done["content"] = each.answer
        csrf = {"name": CSRF_HEADER, "in": "header", "required": True, "schema": {"const": "1", "type": "string"}}
        paths.setdefault(each.path, {})[each.method] = {
            "operationId": each.handler,
            "summary": each.about,
            "parameters": [*(it.document() for it in each.parameters), *([csrf] if each.method != "get" else [])],
            "responses": {str(each.status): done, **answers},
        }
    return {
        "openapi": "3.1.0",
        "info": {"title": "tierflow console", "version": tierflow.__version__},
        "servers": [{"url": "/"}],
        "security": [{"session": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"session": {"type": "apiKey", "in": "cookie", "name": COOKIE}},
            "responses": {
                "Problem": {
                    "description": "What is wrong, in words.",
                    "content": {"application/problem+json": {"schema": _PROBLEM}},
                }
            },
        },
    }
