"""A rule's side as alternatives that bit masks can express.

Named ports and services tie an endpoint to a port, which a mask per side and a mask per port can't. Each such tie
becomes an alternative for one concrete (protocol, port): a condition on the endpoint's class and one on the port.
Alternatives of one rule stand beside each other; whichever matches, it is the same rule.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Final

from tierflow.policy.model import Endpoint, EntityRule, PortRange, Service
from tierflow.policy.scalar import in_service, service_ports

if TYPE_CHECKING:
    from collections.abc import Mapping

Pair = tuple[int, int]
"""(protocol number, port)."""

Ports = tuple[tuple[int, int], ...]
"""Ranges, both ends included."""


@dataclass(frozen=True, slots=True)
class HasNamedPort:
    """The endpoint gives one of these names to this (protocol, port)."""

    names: frozenset[str]
    pair: Pair

    def holds(self, endpoint: Endpoint | None) -> bool:
        """Whether it does; False without an endpoint."""
        return endpoint is not None and any(
            name in self.names and (protocol, port) == self.pair for name, protocol, port in endpoint.named_ports
        )


@dataclass(frozen=True, slots=True)
class InService:
    """The endpoint belongs to a Service, on this (protocol, port) unless None."""

    service: Service
    pair: Pair | None

    def holds(self, endpoint: Endpoint | None) -> bool:
        """Whether it does; False without an endpoint."""
        if endpoint is None or not in_service(self.service, endpoint):
            return False
        return self.pair is None or self.pair in service_ports(self.service, endpoint)


@dataclass(frozen=True, slots=True)
class NotSelectedWithPort:
    """The endpoint isn't selected, or doesn't give one of these names to the pair; ``matcher`` -1 selects all."""

    matcher: int
    port: HasNamedPort


Condition = HasNamedPort | InService | NotSelectedWithPort


@dataclass(frozen=True, slots=True)
class Alternative:
    """One way for a side to match.

    Attributes:
        endpoint_only: the selector must select the endpoint itself; a network set around it isn't enough.
        conditions: on the endpoint's class, all of them.
        protocols, not_protocols: None and empty accept any.
        ports: the port is in one of these ranges; None accepts any.
        not_ports: the port is in none of these.
        nets: the address is in one of these CIDRs; None accepts any.
    """

    endpoint_only: bool = False
    conditions: tuple[Condition, ...] = ()
    protocol: int | None = None
    not_protocols: frozenset[int] = frozenset()
    ports: Ports | None = None
    not_ports: Ports = ()
    nets: tuple[str, ...] | None = None


ANY: Final = Alternative()
NEVER: Final = Alternative(ports=())


def side_alternatives(
    entity: EntityRule,
    matcher: int,
    protocol: int | None,
    known_ports: Mapping[str, frozenset[Pair]],
    services: Mapping[tuple[str, str], Service],
    *,
    with_ports: bool,
) -> list[Alternative]:
    """All ways for a side to match, apart from its selectors and nets.

    Args:
        entity: the side.
        matcher: number of its selector; -1 when it has none.
        protocol: of the rule.
        known_ports: the (protocol, port) pairs that any known endpoint gives to a name.
        services: by (namespace, name).
        with_ports: whether a service brings its ports, as at the destination.
    """
    if not entity.ports and not entity.not_ports and entity.service is None:
        return [ANY]
    groups = [_positive(entity, protocol, known_ports), _negative(entity, matcher, protocol, known_ports)]
    if entity.service is not None:
        groups.append(_service(entity, known_ports, services, with_ports=with_ports))
    return [merged for parts in product(*groups) if (merged := _merged(parts)) is not None]


def _positive(
    entity: EntityRule, protocol: int | None, known_ports: Mapping[str, frozenset[Pair]]
) -> list[Alternative]:
    if not entity.ports:
        return [ANY]
    numeric = tuple((port.low, port.high) for port in entity.ports if isinstance(port, PortRange))
    found = [Alternative(ports=numeric)] if numeric else []
    names = frozenset(port for port in entity.ports if isinstance(port, str))
    for pair in _pairs(names, protocol, known_ports):
        condition = HasNamedPort(names, pair)
        found.append(Alternative(True, (condition,), pair[0], ports=((pair[1], pair[1]),)))
    return found or [NEVER]


def _negative(
    entity: EntityRule, matcher: int, protocol: int | None, known_ports: Mapping[str, frozenset[Pair]]
) -> list[Alternative]:
    numeric = tuple((port.low, port.high) for port in entity.not_ports if isinstance(port, PortRange))
    names = frozenset(port for port in entity.not_ports if isinstance(port, str))
    pairs = _pairs(names, protocol, known_ports)
    if not pairs:
        return [Alternative(not_ports=numeric)]
    protocols = sorted({each for each, _ in pairs})
    found = [Alternative(not_protocols=frozenset(protocols), not_ports=numeric)]
    for each in protocols:
        taken = tuple((port, port) for other, port in pairs if other == each)
        found.append(Alternative(protocol=each, not_ports=(*numeric, *taken)))
    for pair in pairs:
        condition = NotSelectedWithPort(matcher, HasNamedPort(names, pair))
        found.append(Alternative(False, (condition,), pair[0], ports=((pair[1], pair[1]),), not_ports=numeric))
    return found


def _service(
    entity: EntityRule,
    known_ports: Mapping[str, frozenset[Pair]],
    services: Mapping[tuple[str, str], Service],
    *,
    with_ports: bool,
) -> list[Alternative]:
    name = entity.service
    service = services.get((name.namespace, name.name)) if name is not None else None
    if service is None:
        return [NEVER]
    if not with_ports:
        by_address = [Alternative(nets=each.nets) for each in service.backends or ()]
        return [Alternative(False, (InService(service, None),)), *by_address]
    pairs: set[Pair] = set()
    for _, protocol, _, target in service.ports:
        if isinstance(target, int):
            pairs.add((protocol, target))
        else:
            pairs |= {pair for pair in known_ports.get(target, frozenset()) if pair[0] == protocol}
    found = [
        Alternative(False, (InService(service, pair),), pair[0], ports=((pair[1], pair[1]),)) for pair in sorted(pairs)
    ]
    found += [
        Alternative(protocol=protocol, ports=((port, port),), nets=each.nets)
        for each in service.backends or ()
        for protocol, port in each.pairs
    ]
    return found or [NEVER]


def _pairs(names: frozenset[str], protocol: int | None, known_ports: Mapping[str, frozenset[Pair]]) -> list[Pair]:
    pairs = {pair for name in names for pair in known_ports.get(name, frozenset())}
    return sorted(pair for pair in pairs if protocol in (None, pair[0]))


def _merged(parts: tuple[Alternative, ...]) -> Alternative | None:
    """All parts at once; None when they contradict each other. One part at most has nets: a service's."""
    wanted = {part.protocol for part in parts if part.protocol is not None}
    if len(wanted) > 1:
        return None
    ports: Ports | None = None
    for part in parts:
        if part.ports is not None:
            ports = part.ports if ports is None else _intersected(ports, part.ports)
    return Alternative(
        any(part.endpoint_only for part in parts),
        tuple(condition for part in parts for condition in part.conditions),
        next(iter(wanted), None),
        frozenset().union(*(part.not_protocols for part in parts)),
        ports,
        tuple(each for part in parts for each in part.not_ports),
        next((part.nets for part in parts if part.nets is not None), None),
    )


def _intersected(left: Ports, right: Ports) -> Ports:
    return tuple(
        (max(low, first), min(high, last))
        for low, high in left
        for first, last in right
        if max(low, first) <= min(high, last)
    )
