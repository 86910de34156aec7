"""What rules refer to: networks, names of ports, and whether a rule's meaning hangs on names at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tierflow.policy.model import ServiceName

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tierflow.policy.model import EntityRule, Policy, Profile, Resources


def _entities(policy: Policy | Profile) -> Iterable[EntityRule]:
    for rule in (*policy.ingress, *policy.egress):
        yield rule.source
        yield rule.destination


def has_names(policy: Policy) -> bool:
    """Whether the meaning of its rules depends on named ports, services or learnt domains."""
    return any(
        entity.service is not None
        or entity.domains
        or any(isinstance(port, str) for port in (*entity.ports, *entity.not_ports))
        for entity in _entities(policy)
    )


def used_nets(resources: Resources) -> Iterable[str]:
    """Every CIDR that a rule, a network set or a learnt domain names, and the backends of services in rules."""
    for network_set in resources.network_sets:
        yield from network_set.nets
    for nets in resources.domains.values():
        yield from nets
    governing: tuple[Policy | Profile, ...] = (*resources.policies, *resources.profiles)
    for policy in governing:
        for entity in _entities(policy):
            yield from entity.nets
            yield from entity.not_nets
    named = {each.service for policy in governing for each in _entities(policy) if each.service is not None}
    for service in resources.services:
        if ServiceName(service.namespace, service.name) in named:
            yield from (net for each in service.backends or () for net in each.nets)


def used_port_names(resources: Resources) -> Iterable[str]:
    """Every port name that a rule or a service names."""
    governing: tuple[Policy | Profile, ...] = (*resources.policies, *resources.profiles)
    for policy in governing:
        for entity in _entities(policy):
            yield from (port for port in (*entity.ports, *entity.not_ports) if isinstance(port, str))
    for service in resources.services:
        yield from (target for _, _, _, target in service.ports if isinstance(target, str))
