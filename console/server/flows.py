"""Flows and flow logs in the form that the page reads; pure."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any, Final

from tierflow.schemas.flow_log import FIELD_NAMES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from tierflow.sinks.read.interface import FlowGroup

HARMLESS: Final = frozenset({"allowed", "unanswered", "unknown"})
FORMULA: Final = ("=", "+", "@", "\t", "\r")


def flow(group: FlowGroup) -> dict[str, Any]:
    """A flow as the API answers it."""
    return {
        "source": {"namespace": group.source_namespace, "name": group.source_name, "type": group.source_type},
        "dest": {"namespace": group.dest_namespace, "name": group.dest_name, "type": group.dest_type},
        "proto": group.proto,
        "dest_port": group.dest_port,
        "service": group.service or None,
        "status": group.status,
        "connections": group.connections,
        "packets": group.packets,
        "bytes": group.bytes,
    }


def bundle(flows: Sequence[dict[str, Any]], most: int) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """The flows to draw, most connections first, and the sum of those left out; what is blocked is left out last."""
    ranked = sorted(
        flows, key=lambda flow: (flow["status"] in HARMLESS, -flow["connections"], -flow["bytes"], str(flow["source"]))
    )
    kept, rest = ranked[:most], ranked[most:]
    sums = {name: sum(flow[name] for flow in rest) for name in ("connections", "packets", "bytes")}
    return sorted(kept, key=lambda flow: -flow["connections"]), {"flows": len(rest), **sums}


def flat(log: Mapping[str, Any]) -> dict[str, Any]:
    """A flow log by dotted field names, in the declared order; None where a document lacks a field."""
    found: dict[str, Any] = {}
    for name in FIELD_NAMES:
        value: Any = log
        for part in name.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        found[name] = value
    return found


def csv_lines(rows: Iterable[Iterable[Any]]) -> bytes:
    """Rows as CSV (RFC 4180)."""
    text = io.StringIO()
    csv.writer(text).writerows([_cell(value) for value in row] for row in rows)
    return text.getvalue().encode()


def _cell(value: Any) -> Any:
    """A cell; text that a spreadsheet would take for a formula gets an apostrophe before it."""
    text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else value
    if isinstance(text, str) and (text.startswith(FORMULA) or (text.startswith("-") and len(text) > 1)):
        return f"'{text}"
    return text
