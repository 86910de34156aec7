"""Policy counters: what each rule did in a window, credited to every hit of a trace under the hit's own action.

An allowed flow counts as passed at every policy that passed it. The end of a tier is credited to the policy that made
the tier apply, with rule index -1. Hits are the union of the enforced and the pending trace.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from tierflow.schemas.flow_log import ABSENT
from tierflow.streams.core.documents import slot_ids
from tierflow.streams.core.texts import digest, members

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tierflow.policy.trace import Hit
    from tierflow.streams.core.aggregate import Logs
    from tierflow.streams.core.documents import Slot
    from tierflow.streams.core.entities import Traces

    I64 = NDArray[np.int64]
    U64 = NDArray[np.uint64]

SUMS: Final = ("connections", "connections_started", "packets_in", "packets_out", "bytes_in", "bytes_out")

RuleKey = tuple[str, str, str, str, str, bool, int, str, str]
"""Tier, policy as in traces, kind, namespace, name, staged, rule index, direction, action."""


class Rules:
    """Numbers of rules, and which rules each trace credits."""

    __slots__ = ("_credits", "_digests", "_numbers", "_texts", "_traces", "keys")

    def __init__(self, traces: Traces) -> None:
        self.keys: list[RuleKey] = []
        self._traces = traces
        self._numbers: dict[RuleKey, int] = {}
        self._digests: list[tuple[int, int]] = []
        self._texts: list[bytes] = []
        self._credits: dict[tuple[int, bool], I64] = {}

    def count(self, logs: Logs) -> tuple[I64, U64]:
        """Rules that decided something, and their totals in the order of :data:`SUMS`: int64[r], uint64[6, r]."""
        # Logs of one trace and direction are credited together.
        kind = logs.trace.astype(np.int64) * 2 + logs.towards
        kinds, number = np.unique(kind, return_inverse=True)
        by_kind = np.zeros((len(SUMS), len(kinds)), np.uint64)
        columns = (logs.flows, logs.started, logs.packets_in, logs.packets_out, logs.bytes_in, logs.bytes_out)
        for total, column in zip(by_kind, columns, strict=True):
            np.add.at(total, number, column.astype(np.uint64))
        credited = [self._credited(each >> 1, bool(each & 1)) for each in kinds.tolist()]
        rules = np.concatenate([np.zeros(0, np.int64), *credited])
        of = np.repeat(np.arange(len(kinds)), [len(each) for each in credited])
        found, place = np.unique(rules, return_inverse=True)
        totals = np.zeros((len(SUMS), len(found)), np.uint64)
        for total, column in zip(totals, by_kind, strict=True):
            np.add.at(total, place, column[of])
        return found, totals

    def encode(self, rules: I64, totals: U64, slot: Slot) -> list[bytes]:
        """The JSON of each rule's traffic record."""
        rest = slot.members() + b',"endpoints":null}'
        numbers = rules.tolist()
        halves = np.array([self._digests[each] for each in numbers], np.uint64).reshape(-1, 2)
        ids = slot_ids(slot, halves[:, 0], halves[:, 1])
        columns = zip(ids, map(self._texts.__getitem__, numbers), *totals.tolist(), strict=True)
        return [
            b"".join((
                (
                    f'{{"id":"{key}","record":"traffic","connections":{connections},"connections_started":{started},'
                    f'"packets_in":{packets_in},"packets_out":{packets_out},"bytes_in":{bytes_in},'
                    f'"bytes_out":{bytes_out}'
                ).encode(),
                text, rest,
            ))
            for key, text, connections, started, packets_in, packets_out, bytes_in, bytes_out in columns
        ]  # fmt: skip

    def _credited(self, trace: int, towards: bool) -> I64:
        known = self._credits.get((trace, towards))
        if known is None:
            found = self._traces.traces[trace]
            direction = "ingress" if towards else "egress"
            hits = () if found is None else (*found.enforced, *found.pending)
            numbers = dict.fromkeys(self._number(_rule_key(hit, direction)) for hit in hits)
            known = self._credits[trace, towards] = np.array(list(numbers), np.int64)
        return known

    def _number(self, key: RuleKey) -> int:
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = len(self.keys)
            self.keys.append(key)
            made = digest("traffic", *key)
            self._digests.append((int.from_bytes(made[:8]), int.from_bytes(made[8:])))
            names = (
                "tier", "policy", "kind", "namespace", "name", "staged", "rule_index", "rule_direction", "action",
            )  # fmt: skip
            self._texts.append(members(dict(zip(names, key, strict=True))))
        return number


def _rule_key(hit: Hit, direction: str) -> RuleKey:
    policy = hit.trigger or hit.policy
    return (
        hit.tier, hit.trace_name, policy.kind, policy.namespace or ABSENT, policy.name, policy.staged, hit.rule_index,
        direction, hit.action,
    )  # fmt: skip
