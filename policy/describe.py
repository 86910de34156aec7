"""Rules in words: what they demand, and what of it a flow doesn't meet."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

from tierflow.policy.labels import endpoint_labels, entity_selectors, network_set_labels
from tierflow.policy.reasons import failure, selector_text
from tierflow.policy.scalar import Flow, ScalarJudge, Side, icmp_matches
from tierflow.schemas.record import protocol_name

if TYPE_CHECKING:
    from tierflow.policy.model import EntityRule, Rule, ServiceName


def side_name(side: Side) -> str:
    """How a side is called: pod, node, or its address."""
    if side.endpoint is None:
        return side.address
    return f"{side.endpoint.namespace}/{side.endpoint.name}" if side.endpoint.namespace else side.endpoint.name


def describe_rule(rule: Rule, namespace: str | None) -> str:
    """The conditions of a rule in words; ``anything`` when it has none."""
    parts: list[str] = []
    if rule.protocol is not None:
        parts.append(protocol_name(rule.protocol).upper())
    if rule.not_protocol is not None:
        parts.append(f"not {protocol_name(rule.not_protocol).upper()}")
    if rule.ip_version is not None:
        parts.append(f"IPv{rule.ip_version}")
    for name, icmp in (("ICMP", rule.icmp), ("not ICMP", rule.not_icmp)):
        if icmp is not None:
            parts.append(f"{name} type {icmp.type}" + ("" if icmp.code is None else f" code {icmp.code}"))
    if rule.http:
        parts.append("HTTP conditions (not judged)")
    for word, entity in (("from", rule.source), ("to", rule.destination)):
        text = _describe_side(entity, namespace)
        if text:
            parts.append(f"{word} {text}")
    return " ".join(parts) or "anything"


def _describe_side(entity: EntityRule, namespace: str | None) -> str:
    selected, excluded = entity_selectors(entity, namespace)
    parts: list[str] = []
    if selected is not None:
        parts.append(f"[{selector_text(selected)}]")
    if excluded is not None:
        parts.append(f"not [{selector_text(excluded)}]")
    if entity.nets:
        parts.append("nets " + ", ".join(entity.nets))
    if entity.not_nets:
        parts.append("not nets " + ", ".join(entity.not_nets))
    if entity.service is not None:
        parts.append(f"service {entity.service.namespace}/{entity.service.name}")
    if entity.domains:
        parts.append("domains " + ", ".join(entity.domains))
    if entity.ports:
        parts.append("ports " + ", ".join(map(str, entity.ports)))
    if entity.not_ports:
        parts.append("not ports " + ", ".join(map(str, entity.not_ports)))
    return " ".join(parts)


def mismatch(judge: ScalarJudge, rule: Rule, namespace: str | None, flow: Flow) -> str:
    """What of a rule the flow doesn't meet; call it only when it doesn't match."""
    reasons: list[str] = []
    if rule.protocol not in (None, flow.protocol) or rule.not_protocol == flow.protocol:
        reasons.append(f"the protocol is {protocol_name(flow.protocol).upper()}")
    elif not icmp_matches(rule, flow.protocol, flow.dest_port):
        reasons.append(f"ICMP type {flow.dest_port >> 8} code {flow.dest_port & 255}")
    versions = {ipaddress.ip_address(side.address).version for side in (flow.source, flow.destination)}
    if rule.ip_version is not None and versions != {rule.ip_version}:
        reasons.append(f"the flow is {' and '.join(f'IPv{each}' for each in sorted(versions))}")
    for word, entity, side, port, with_ports in (
        ("source", rule.source, flow.source, flow.source_port, False),
        ("destination", rule.destination, flow.destination, flow.dest_port, True),
    ):
        if not judge.side_matches(entity, namespace, side, flow.protocol, port, with_ports=with_ports):
            reasons.append(f"{word} {side_name(side)}: {_side_mismatch(judge, entity, namespace, side, port)}")
    return "; ".join(reasons)


def _side_mismatch(judge: ScalarJudge, entity: EntityRule, namespace: str | None, side: Side, port: int) -> str:
    reasons: list[str] = []
    selected, excluded = entity_selectors(entity, namespace)
    address = ipaddress.ip_address(side.address)
    around = {
        each.name: network_set_labels(judge.resources, each)
        for each in judge.resources.network_sets
        if any(address in ipaddress.ip_network(net) for net in each.nets)
    }
    own = endpoint_labels(judge.resources, side.endpoint) if side.endpoint is not None else None
    holders = [*([own] if own is not None else []), *around.values()]
    if selected is not None and not any(selected.matches(each) for each in holders):
        if own is not None:
            reasons.append(failure(selected, own))
        elif around:
            reasons += [f"network set {name}: {failure(selected, labels)}" for name, labels in around.items()]
        else:
            reasons.append("no pod and no network set holds this address")
    if excluded is not None and any(excluded.matches(each) for each in holders):
        reasons.append(f"it is selected by [{selector_text(excluded)}], which is excluded")
    if entity.nets and not any(address in ipaddress.ip_network(net) for net in entity.nets):
        reasons.append(f"{address} is in none of the nets")
    if any(address in ipaddress.ip_network(net) for net in entity.not_nets):
        reasons.append(f"{address} is in one of the excluded nets")
    if entity.domains and not judge.domain_matches(entity, side.address):
        known = "the names of this address are unknown" if not judge.resources.domains else "no learnt name fits"
        reasons.append(known)
    if entity.service is not None:
        reasons.append(_no_backend(judge, entity.service))
    if (entity.ports or entity.not_ports) and not reasons:
        reasons.append(f"port {port}")
    return "; ".join(reasons)


def _no_backend(judge: ScalarJudge, wanted: ServiceName) -> str:
    name = f"{wanted.namespace}/{wanted.name}"
    found = [
        each for each in judge.resources.services if (each.namespace, each.name) == (wanted.namespace, wanted.name)
    ]
    if not found:
        return f"there is no service {name}"
    if found[0].unknown:
        return f"the backends of service {name} are unknown: it has no selector, and no EndpointSlice names it"
    return f"not a backend of service {name}"
