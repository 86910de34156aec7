"""One direction's rules in the order of evaluation, one bit each, with the conditions that each bit needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from tierflow.policy.alternatives import Alternative, Condition, Ports, side_alternatives
from tierflow.policy.labels import entity_selectors
from tierflow.policy.model import Rule
from tierflow.policy.scalar import domain_covers, icmp_matches

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tierflow.policy.alternatives import Pair
    from tierflow.policy.model import EntityRule, Icmp, Service
    from tierflow.policy.selector import Node

T = TypeVar("T")

WORD: Final = 64
ANY: Final = -1
"""Stands for a selector or condition that isn't there."""


class Numbering(Generic[T]):
    """Distinct values by the order in which they came."""

    def __init__(self) -> None:
        self.values: list[T] = []
        self._numbers: dict[T, int] = {}

    def number(self, value: T) -> int:
        """The value's number; a new one gets the next."""
        found = self._numbers.get(value)
        if found is None:
            found = self._numbers[value] = len(self.values)
            self.values.append(value)
        return found

    def __len__(self) -> int:
        return len(self.values)


@dataclass(frozen=True, slots=True)
class NetCondition:
    """What a side demands of an address, apart from who holds it.

    Attributes:
        groups: the address is in some CIDR of each group.
        not_nets: and in none of these.
        version: 4, 6, or None for both.
    """

    groups: tuple[tuple[str, ...], ...] = ()
    not_nets: tuple[str, ...] = ()
    version: int | None = None

    def holds(self, members: frozenset[str], version: int) -> bool:
        """Whether an address that exactly these CIDRs cover meets it."""
        if self.version not in (None, version):
            return False
        if any(net in members for net in self.not_nets):
            return False
        return all(any(net in members for net in group) for group in self.groups)


@dataclass(frozen=True, slots=True)
class PortCondition:
    """What a rule demands of protocol and destination port (ICMP: type << 8 | code).

    Attributes:
        protocols: all of these at once, so two different ones never match.
        not_protocols: and none of these.
        ports: None accepts any.
        not_ports: in none of these.
    """

    protocols: frozenset[int] = frozenset()
    not_protocols: frozenset[int] = frozenset()
    icmp: Icmp | None = None
    not_icmp: Icmp | None = None
    ports: Ports | None = None
    not_ports: Ports = ()

    def holds(self, protocol: int, port: int) -> bool:
        """Whether one protocol and port meet it."""
        if any(each != protocol for each in self.protocols) or protocol in self.not_protocols:
            return False
        if not port_holds(self.ports, self.not_ports, port):
            return False
        if self.icmp is None and self.not_icmp is None:
            return True
        return icmp_matches(Rule("Allow", icmp=self.icmp, not_icmp=self.not_icmp), protocol, port)


SourcePorts = tuple[Ports | None, Ports]
"""(ports, not ports) of the source."""


def port_holds(ports: Ports | None, not_ports: Ports, port: int) -> bool:
    """Whether a port is in some range and in none of the others."""
    if ports is not None and not any(low <= port <= high for low, high in ports):
        return False
    return not any(low <= port <= high for low, high in not_ports)


@dataclass(frozen=True, slots=True)
class SideBit:
    """What a bit demands of one side; numbers into the tables of :class:`Tables`, -1 nothing.

    Attributes:
        matcher: a holder of the address is selected.
        endpoint_only: and that holder is the endpoint.
        excluded: no holder of the address is selected.
        net: number of the net condition.
        conditions: numbers of the class conditions, all of them.
    """

    matcher: int
    endpoint_only: bool
    excluded: int
    net: int
    conditions: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class RuleBit:
    """One alternative of one rule."""

    source: SideBit
    destination: SideBit
    port: int
    source_port: int
    rule_index: int
    action: str


class Tables:
    """The distinct conditions that bits refer to by number; they are only ever added to."""

    def __init__(self) -> None:
        self.matchers: Numbering[Node] = Numbering()
        self.nets: Numbering[NetCondition] = Numbering()
        self.ports: Numbering[PortCondition] = Numbering()
        self.source_ports: Numbering[SourcePorts] = Numbering()
        self.conditions: Numbering[Condition] = Numbering()


@dataclass(frozen=True, slots=True)
class Names:
    """What names in rules stand for."""

    known_ports: Mapping[str, frozenset[Pair]]
    services: Mapping[tuple[str, str], Service]
    domains: Mapping[str, tuple[str, ...]]


def rule_bits(rules: Sequence[Rule], namespace: str | None, tables: Tables, names: Names) -> tuple[RuleBit, ...]:
    """The bits of a policy's rules, in order; Log rules have none, for evaluation goes on."""
    bits: list[RuleBit] = []
    for index, rule in enumerate(rules):
        if rule.action == "Log":
            continue
        sources = _side_bits(rule, rule.source, namespace, tables, names, with_ports=False)
        destinations = _side_bits(rule, rule.destination, namespace, tables, names, with_ports=True)
        for source, source_way in sources:
            for destination, way in destinations:
                port = PortCondition(
                    frozenset(each for each in (rule.protocol, source_way.protocol, way.protocol) if each is not None),
                    source_way.not_protocols
                    | way.not_protocols
                    | (frozenset() if rule.not_protocol is None else {rule.not_protocol}),
                    rule.icmp,
                    rule.not_icmp,
                    way.ports,
                    way.not_ports,
                )
                bits.append(
                    RuleBit(
                        source,
                        destination,
                        tables.ports.number(port),
                        tables.source_ports.number((source_way.ports, source_way.not_ports)),
                        index,
                        rule.action,
                    )
                )
    return tuple(bits)


def _side_bits(
    rule: Rule, entity: EntityRule, namespace: str | None, tables: Tables, names: Names, *, with_ports: bool
) -> list[tuple[SideBit, Alternative]]:
    selected, excluded = entity_selectors(entity, namespace)
    matcher = ANY if selected is None else tables.matchers.number(selected)
    not_matcher = ANY if excluded is None else tables.matchers.number(excluded)
    groups = (entity.nets,) if entity.nets else ()
    if entity.domains:
        groups = (*groups, learnt_nets(entity.domains, names.domains))
    ways = side_alternatives(entity, matcher, rule.protocol, names.known_ports, names.services, with_ports=with_ports)
    return [
        (
            SideBit(
                matcher,
                way.endpoint_only,
                not_matcher,
                tables.nets.number(NetCondition(_grouped(groups, way.nets), entity.not_nets, rule.ip_version)),
                tuple(tables.conditions.number(condition) for condition in way.conditions),
            ),
            way,
        )
        for way in ways
    ]


def _grouped(groups: tuple[tuple[str, ...], ...], nets: tuple[str, ...] | None) -> tuple[tuple[str, ...], ...]:
    return groups if nets is None else (*groups, nets)


def learnt_nets(patterns: Sequence[str], domains: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """The addresses learnt for any of the domains."""
    return tuple(
        net for name, nets in domains.items() if any(domain_covers(each, name) for each in patterns) for net in nets
    )
