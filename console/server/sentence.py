"""Rules as sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from tierflow.policy.model import INGRESS

if TYPE_CHECKING:
    from tierflow.policy.model import EntityRule, Rule

PROTOCOLS: Final = {1: "ICMP", 6: "TCP", 17: "UDP", 58: "ICMPv6", 132: "SCTP"}


def rule_sentence(rule: Rule, direction: str) -> list[dict[str, Any]]:
    """The parts of a sentence; ``strong`` marks the words that carry it."""
    parts = [_part(rule.action, strong=True), _part(_protocol(rule))]
    sides = (("From:", rule.source), ("To:", rule.destination))
    for word, entity in sides if direction == INGRESS else reversed(sides):
        described = _entity(entity)
        if described:
            parts += [_part(word, strong=True), *(_part(text) for text in described)]
    if rule.http:
        parts.append(_part("(its HTTP condition isn't judged)"))
    return parts


def rule_text(rule: Rule, direction: str) -> str:
    """The sentence as one text."""
    return " ".join(part["text"] for part in rule_sentence(rule, direction))


def _part(text: str, *, strong: bool = False) -> dict[str, Any]:
    return {"text": text, "strong": strong}


def _protocol(rule: Rule) -> str:
    version = f"IPv{rule.ip_version} " if rule.ip_version else ""
    if rule.protocol is not None:
        name = PROTOCOLS.get(rule.protocol, f"protocol {rule.protocol}")
        if rule.icmp is not None and rule.icmp.type is not None:
            name += f" type {rule.icmp.type}" + ("" if rule.icmp.code is None else f" code {rule.icmp.code}")
        return version + name
    if rule.not_protocol is not None:
        return f"{version}any protocol but {PROTOCOLS.get(rule.not_protocol, rule.not_protocol)}"
    return f"{version}Any Protocol"


def _entity(entity: EntityRule) -> list[str]:
    told: list[str] = []
    if entity.selector:
        told.append(f"Endpoints [{entity.selector}]")
    if entity.not_selector:
        told.append(f"but not [{entity.not_selector}]")
    if entity.namespace_selector:
        told.append(f"in Namespaces [{entity.namespace_selector}]")
    if entity.service_account_names:
        told.append(f"with Service Accounts {', '.join(entity.service_account_names)}")
    if entity.service_account_selector:
        told.append(f"with Service Accounts [{entity.service_account_selector}]")
    if entity.nets:
        told.append(f"Networks {', '.join(entity.nets)}")
    if entity.not_nets:
        told.append(f"but not Networks {', '.join(entity.not_nets)}")
    if entity.service is not None:
        told.append(f"Service {entity.service.namespace}/{entity.service.name}")
    if entity.domains:
        told.append(f"Domains {', '.join(entity.domains)}")
    if entity.ports:
        told.append(f"Ports {', '.join(map(str, entity.ports))}")
    if entity.not_ports:
        told.append(f"but not Ports {', '.join(map(str, entity.not_ports))}")
    return told
