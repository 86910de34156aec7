"""Policy counters: what each rule did in a window, credited to every hit of a trace under the hit's own action.

An allowed flow counts as passed at every policy that passed it. The end of a tier is credited to the policy that made
the tier apply, with rule index -1. Hits are the union of the enforced and the pending trace.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import orjson

from tierflow.schemas.flow_log import ABSENT
from tierflow.schemas.record import Reporter
from tierflow.streams.core.documents import document_id
from tierflow.streams.core.grouping import group, hash_columns

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tierflow.policy.trace import Hit
    from tierflow.streams.core.aggregate import Logs
    from tierflow.streams.core.documents import Slot
    from tierflow.streams.core.entities import Traces

SUMS: Final = ("connections", "connections_started", "packets_in", "packets_out", "bytes_in", "bytes_out")

RuleKey = tuple[int, str, str, str, str, str, bool, int, str, str]
"""Slot, tier, policy as in traces, kind, namespace, name, staged, rule index, direction, action."""


def count_rules(logs: Logs, traces: Traces) -> dict[RuleKey, list[int]]:
    """Totals in the order of :data:`SUMS` of every rule that decided something."""
    inward = logs.reporter == Reporter.DST
    judged = logs.trace > 0
    groups = group(hash_columns(logs.slot[judged], logs.trace[judged], inward[judged]))
    first = np.flatnonzero(judged)[groups.firsts]
    totals = np.stack(
        [
            groups.total(column[judged])
            for column in (
                logs.flows, logs.started, logs.packets_in, logs.packets_out, logs.bytes_in, logs.bytes_out,
            )
        ],
        axis=-1,
    ).tolist()  # fmt: skip
    counted: dict[RuleKey, list[int]] = {}
    for slot, trace, towards, sums in zip(
        logs.slot[first].tolist(), logs.trace[first].tolist(), inward[first].tolist(), totals, strict=True
    ):
        found = traces.traces[trace]
        if found is None:
            continue
        direction = "ingress" if towards else "egress"
        keys = dict.fromkeys(_rule_key(slot, hit, direction) for hit in (*found.enforced, *found.pending))
        for key in keys:
            known = counted.get(key)
            counted[key] = list(sums) if known is None else [a + b for a, b in zip(known, sums, strict=True)]
    return counted


def _rule_key(slot: int, hit: Hit, direction: str) -> RuleKey:
    policy = hit.trigger or hit.policy
    return (
        slot, hit.tier, hit.trace_name, policy.kind, policy.namespace or ABSENT, policy.name, policy.staged,
        hit.rule_index, direction, hit.action,
    )  # fmt: skip


def encode_counters(counted: dict[RuleKey, list[int]], slots: Sequence[Slot]) -> Iterator[tuple[str, bytes]]:
    """``(node, JSON)`` of each traffic record."""
    for key, sums in counted.items():
        slot = slots[key[0]]
        _, tier, policy, kind, namespace, name, staged, rule_index, direction, action = key
        yield slot.node, orjson.dumps({
            "id": document_id("traffic", slot.cluster, slot.node, slot.start_s, slot.end_s, slot.late, *key[1:]),
            "record": "traffic",
            "start_time": slot.start_s,
            "end_time": slot.end_s,
            "@timestamp": slot.end_s * 1000,
            "cluster": slot.cluster,
            "host": slot.node,
            "late": slot.late != "",
            "tier": tier,
            "policy": policy,
            "kind": kind,
            "namespace": namespace,
            "name": name,
            "staged": staged,
            "rule_index": rule_index,
            "rule_direction": direction,
            "action": action,
            **dict(zip(SUMS, sums, strict=True)),
            "endpoints": None,
        })  # fmt: skip
