"""One direction of a policy set: its rules as bits in order, the masks made so far, and its traces."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from tierflow.policy.masks import MaskRows, SideColumns, port_masks, side_masks, source_port_masks
from tierflow.policy.model import EGRESS
from tierflow.policy.program import ANY, WORD, NetCondition, PortCondition, RuleBit, SideBit, Tables
from tierflow.policy.scalar import profile_hit
from tierflow.policy.trace import DEFAULT_RULE, Hit, PolicyRef
from tierflow.policy.walk import ALLOWS, CONTINUES, DENIES, NOTHING, Defaults, PathTree, TierSpan, walk

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from tierflow.policy.classes import ClassTable
    from tierflow.policy.masks import AddressMasks
    from tierflow.policy.model import Policy, Tier

FLOWS_AT_ONCE: Final = 8192

_DOES: Final = {"allow": ALLOWS, "deny": DENIES, "pass": CONTINUES}
_ACTIONS: Final = {"Allow": "allow", "Deny": "deny", "Pass": "pass"}


@dataclass(frozen=True, slots=True)
class PolicyBits:
    """One policy of a direction: which endpoints it governs (number of its selector) and its bits."""

    policy: Policy
    matcher: int
    position: int
    bits: tuple[RuleBit, ...]


class Direction:
    """Ingress or egress; judged flows add masks and paths, nothing else changes."""

    def __init__(
        self,
        direction: str,
        tiers: Sequence[tuple[Tier, tuple[PolicyBits, ...]]],
        profiles: Sequence[tuple[tuple[str, RuleBit], ...]],
        profile_of: Callable[[int], tuple[int, Hit]],
        tables: Tables,
        classes: ClassTable,
        address_masks: AddressMasks,
    ) -> None:
        self._tables = tables
        self._classes = classes
        self._address_masks = address_masks
        self._profile_of = profile_of
        self.hits: list[Hit] = []
        self._tree = PathTree()
        self._profile_outcomes: dict[Hit, int] = {}
        self._tiers = [policies for _, policies in tiers]
        self._policies = [policy for policies in self._tiers for policy in policies]
        self._policy_matchers = np.array([each.matcher for each in self._policies], dtype=np.int64)
        self._profiles = profiles
        self._lay_out(tiers)
        self._owner_is_source = direction == EGRESS
        self._make_rows()

    def _lay_out(self, tiers: Sequence[tuple[Tier, tuple[PolicyBits, ...]]]) -> None:
        bits: list[RuleBit] = []
        governed: list[int] = []
        outcomes: list[int] = []
        staged: list[bool] = []
        spans: list[TierSpan] = []
        never = _never(self._tables)
        rank = 0
        default_hits: list[int] = []
        for tier, policies in tiers:
            first = len(bits) // WORD
            for each in policies:
                bits += each.bits
                governed += [rank] * len(each.bits)
                staged += [each.policy.staged] * len(each.bits)
                outcomes += self._outcomes(each)
                default_hits.append(self._hit(each, _ACTIONS[tier.default_action], DEFAULT_RULE))
                rank += 1
            _pad(bits, governed, outcomes, staged, never)
            spans.append(TierSpan(first, len(bits) // WORD))
        first = len(bits) // WORD
        for number, profile in enumerate(self._profiles):
            for name, bit in profile:
                bits.append(bit)
                governed.append(-2 - number)
                staged.append(False)
                action = "allow" if bit.action == "Allow" else "deny"
                outcomes.append(self._add(profile_hit(name, action, bit.rule_index)))
        _pad(bits, governed, outcomes, staged, never)
        spans.append(TierSpan(first, len(bits) // WORD))
        self._spans = tuple(spans)
        self._governed = np.array(governed, dtype=np.int64)
        self._outcome_of_bit = np.array(outcomes, dtype=np.int64)
        self._default_hits = np.array(default_hits, dtype=np.int64)
        self._does = np.array([_DOES[hit.action] for hit in self.hits], dtype=np.uint8)
        self._has_staged = any(each.policy.staged for each in self._policies)
        self._enforced = np.packbits(~np.array(staged, dtype=np.bool_), bitorder="little").view(np.uint64)
        self._source = _columns([bit.source for bit in bits])
        self._destination = _columns([bit.destination for bit in bits])
        self._port = np.array([bit.port for bit in bits], dtype=np.int32)
        self._source_port = np.array([bit.source_port for bit in bits], dtype=np.int32)
        anything = self._tables.source_ports.number((None, ()))
        self._needs_source_port = bool((self._source_port != anything).any())

    def _outcomes(self, each: PolicyBits) -> list[int]:
        known: dict[int, int] = {}
        ref, name = PolicyRef.of(each.policy), each.policy.trace_name
        found: list[int] = []
        for bit in each.bits:
            if bit.rule_index not in known:
                known[bit.rule_index] = self._add(
                    Hit(each.policy.tier, ref, name, _ACTIONS[bit.action], bit.rule_index, None, each.position)
                )
            found.append(known[bit.rule_index])
        return found

    def _hit(self, each: PolicyBits, action: str, index: int) -> int:
        ref = PolicyRef.of(each.policy)
        trigger = ref if index == DEFAULT_RULE else None
        return self._add(Hit(each.policy.tier, ref, each.policy.trace_name, action, index, trigger, each.position))

    def _add(self, hit: Hit) -> int:
        self.hits.append(hit)
        return len(self.hits) - 1

    def _profile_outcome(self, hit: Hit) -> int:
        found = self._profile_outcomes.get(hit)
        if found is None:
            found = self._profile_outcomes[hit] = self._add(hit)
            self._does = np.append(self._does, np.uint8(_DOES[hit.action]))
        return found

    def _make_rows(self) -> None:
        words = len(self._port) // WORD
        limit = (len(self._classes.endpoints) + 1) * len(self._address_masks.addresses)

        def sides(columns: SideColumns, *, owner: bool) -> Callable[[NDArray[np.int64]], NDArray[np.uint64]]:
            governs = self._governs if owner else None
            return lambda numbers: side_masks(
                numbers, columns, self._classes, self._address_masks, self._tables, governs
            )

        self._source_rows = MaskRows(limit, words, sides(self._source, owner=self._owner_is_source))
        self._destination_rows = MaskRows(limit, words, sides(self._destination, owner=not self._owner_is_source))
        self._port_rows = MaskRows(
            1 << 24,
            words,
            lambda numbers: port_masks(
                [divmod(each, 1 << 16) for each in numbers.tolist()], self._port, self._tables.ports.values
            ),
        )
        self._source_port_rows = MaskRows(
            1 << 16,
            words,
            lambda numbers: source_port_masks(numbers.tolist(), self._source_port, self._tables.source_ports.values),
        )

    def _governs(self, owner: NDArray[np.int64], by_class: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Whether each bit's policy governs each class, bool[n, bits]."""
        applies = self._applies(by_class)
        profile = np.array([self._profile_of(each)[0] for each in owner.tolist()], dtype=np.int64)
        by_policy = np.concatenate((applies, np.zeros((len(owner), 1), dtype=np.bool_)), axis=1)
        governed = np.take(by_policy, np.maximum(self._governed, -1), axis=1, mode="wrap")
        for bit in np.flatnonzero(self._governed < -1):
            governed[:, bit] = profile == -2 - self._governed[bit]
        return governed

    def _applies(self, by_class: NDArray[np.bool_]) -> NDArray[np.bool_]:
        return np.take(by_class, self._policy_matchers, axis=1)

    def _default_outcomes(self, owner: NDArray[np.int64]) -> NDArray[np.int64]:
        """Default outcomes by class: int64[n, 2 scopes (enforced, pending), tiers + 1]."""
        applies = self._applies(self._classes.selected(owner))
        found = np.full((len(owner), 2, len(self._tiers) + 1), NOTHING, dtype=np.int64)
        start = 0
        for tier, policies in enumerate(self._tiers):
            here = applies[:, start : start + len(policies)]
            if policies:
                any_here = here.any(axis=1)
                first = here.argmax(axis=1)
                found[any_here, 1, tier] = self._default_hits[start + first[any_here]]
                enforced = here & ~np.array([each.policy.staged for each in policies])
                any_enforced = enforced.any(axis=1)
                last = len(policies) - 1 - enforced[:, ::-1].argmax(axis=1)
                found[any_enforced, 0, tier] = self._default_hits[start + last[any_enforced]]
            start += len(policies)
        for row, each in enumerate(owner.tolist()):
            found[row, :, -1] = self._profile_outcome(self._profile_of(each)[1])
        return found

    def judge(
        self,
        owner_class: NDArray[np.int64],
        src_side: NDArray[np.int64],
        dst_side: NDArray[np.int64],
        proto_port: NDArray[np.int64],
        src_port: NDArray[np.int64],
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The enforced and pending paths of n flows whose governed endpoint is ours."""
        source, destination = self._source_rows.rows(src_side), self._destination_rows.rows(dst_side)
        port = self._port_rows.rows(proto_port)
        by_source_port = self._source_port_rows.rows(src_port) if self._needs_source_port else None
        distinct, owner = _ranked(owner_class)
        defaults = self._default_outcomes(distinct)
        enforced = np.empty(len(owner), dtype=np.int64)
        pending = np.empty(len(owner), dtype=np.int64)
        for start in range(0, len(owner), FLOWS_AT_ONCE):
            part = slice(start, start + FLOWS_AT_ONCE)
            masks = self._source_rows.masks[source[part]]
            masks &= self._destination_rows.masks[destination[part]]
            masks &= self._port_rows.masks[port[part]]
            if by_source_port is not None:
                masks &= self._source_port_rows.masks[by_source_port[part]]
            pending[part] = self._walk(masks, owner[part], defaults[:, 1])
            if self._has_staged:
                masks &= self._enforced
            enforced[part] = self._walk(masks, owner[part], defaults[:, 0])
        return enforced, pending

    def _walk(
        self, masks: NDArray[np.uint64], owner: NDArray[np.int64], defaults: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        return walk(masks, owner, self._spans, self._outcome_of_bit, self._does, Defaults(defaults), self._tree)

    def path_hits(self, node: int) -> tuple[Hit, ...]:
        """The hits of a path."""
        return tuple(self.hits[outcome] for outcome in self._tree.path(node))


def _ranked(values: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Distinct values ascending, and the position of each value among them."""
    if not len(values):
        return values, values
    table = np.zeros(int(values.max()) + 1, dtype=np.int64)
    table[values] = 1
    distinct = np.flatnonzero(table)
    table[distinct] = np.arange(len(distinct))
    return distinct, table[values]


def reserve(tables: Tables) -> None:
    """Give the conditions of padding their numbers, before address masks are sized."""
    _never(tables)


def _never(tables: Tables) -> RuleBit:
    """A bit that nothing matches, to fill up a tier's last word."""
    nothing = SideBit(ANY, False, ANY, tables.nets.number(NetCondition(groups=((),))), ())
    return RuleBit(
        nothing, nothing, tables.ports.number(PortCondition()), tables.source_ports.number((None, ())), 0, "Deny"
    )


def _pad(bits: list[RuleBit], governed: list[int], outcomes: list[int], staged: list[bool], never: RuleBit) -> None:
    missing = -len(bits) % WORD
    bits += [never] * missing
    governed += [-1] * missing
    outcomes += [0] * missing
    staged += [False] * missing


def _columns(sides: list[SideBit]) -> SideColumns:
    conditions: dict[int, list[int]] = {}
    for bit, side in enumerate(sides):
        for number in side.conditions:
            conditions.setdefault(number, []).append(bit)
    return SideColumns(
        np.array([side.matcher for side in sides], dtype=np.int32),
        np.array([side.excluded for side in sides], dtype=np.int32),
        np.array([side.net for side in sides], dtype=np.int32),
        np.array([side.endpoint_only for side in sides], dtype=np.bool_),
        {number: np.array(bits, dtype=np.int64) for number, bits in conditions.items()},
    )
