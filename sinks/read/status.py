"""From both sides' sums to flows: which side's counters count, and the state of a flow.

A connection between two pods is logged by its source and by its destination, each with full counters. Where the
destination reports at all, its logs are the traffic; the source's stand in only where nobody else saw it (a pod to the
internet, say). What the source denied never reached the destination, so it always counts by itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tierflow.sinks.read.interface import FlowGroup, Status

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True, slots=True)
class SideSums:
    """Sums over the logs of one pair, protocol, port, service, reporter and action.

    Attributes:
        pair: source namespace, name, type; destination namespace, name, type; protocol; port; service.
        evidence: the distinct evidence values of those logs.
    """

    pair: tuple[str, str, str, str, str, str, str, int | None, str]
    reporter: str
    action: str
    evidence: frozenset[str]
    connections: int
    packets: int
    bytes: int


PAIR_FIELDS: Final = (
    "source_namespace",
    "source_name_aggr",
    "source_type",
    "dest_namespace",
    "dest_name_aggr",
    "dest_type",
    "proto",
    "dest_port",
)


def flow_groups(sides: Iterable[SideSums], limit: int) -> tuple[FlowGroup, ...]:
    """One flow for each pair and state, the largest by bytes first, at most ``limit``."""
    by_pair: dict[tuple[str, str, str, str, str, str, str, int | None], list[SideSums]] = {}
    for side in sides:
        by_pair.setdefault(side.pair[:8], []).append(side)
    groups = [group for pair in by_pair.values() for group in _pair_groups(pair)]
    groups.sort(key=lambda group: (-group.bytes, -group.packets, _order(group)))
    return tuple(groups[:limit])


def _pair_groups(sides: list[SideSums]) -> list[FlowGroup]:
    of_destination = [side for side in sides if side.reporter == "dst"]
    denied_at_source = [side for side in sides if side.reporter == "src" and side.action == "deny"]
    allowed_at_source = [side for side in sides if side.reporter != "dst" and side.action == "allow"]
    source_is_ours = bool(allowed_at_source or denied_at_source)
    # The service is known to the source alone: the destination sees the address after translation.
    service = next((side.pair[8] for side in sides if side.pair[8]), "")
    states: dict[Status, list[SideSums]] = {}
    for side in denied_at_source:
        states.setdefault("leak" if "leak" in side.evidence else "denied", []).append(side)
    for side in of_destination or allowed_at_source:
        states.setdefault(_state(side, source_is_ours), []).append(side)
    return [_group(counted, status, service) for status, counted in states.items()]


def _state(side: SideSums, source_is_ours: bool) -> Status:
    if side.action == "deny":
        if "leak" in side.evidence:
            return "leak"
        return "denied_by_destination" if source_is_ours else "denied"
    if side.evidence <= {"unknown"}:
        return "unknown"
    return "unanswered" if side.evidence <= {"unanswered", "unknown"} else "allowed"


def _group(sides: list[SideSums], status: Status, service: str) -> FlowGroup:
    return FlowGroup(
        *sides[0].pair[:8],
        service,
        status,
        sum(side.connections for side in sides),
        sum(side.packets for side in sides),
        sum(side.bytes for side in sides),
    )


def _order(group: FlowGroup) -> tuple[str, str, str, str, str, int, str]:
    port = -1 if group.dest_port is None else group.dest_port
    source = (group.source_namespace, group.source_name)
    return (*source, group.dest_namespace, group.dest_name, group.proto, port, group.status)
