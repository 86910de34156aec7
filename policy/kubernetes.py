"""Kubernetes' NetworkPolicy in Calico's terms, and its staged form.

One rule of a Kubernetes policy becomes one rule per protocol and peer, protocols in alphabetical order and, within
each, peers as written: rule indices in traces count these.
"""

from __future__ import annotations

import dataclasses
import ipaddress
from typing import TYPE_CHECKING, Any, Final

from tierflow.policy.calico import DELETES, STAGED_ACTIONS, check_deletes, close_object
from tierflow.policy.document import ABSENT, Fields
from tierflow.policy.label_selector import read_namespaces, read_pods
from tierflow.policy.metadata import read_labels, read_name
from tierflow.policy.model import (
    EGRESS,
    INGRESS,
    KUBERNETES_ORDER,
    EntityRule,
    Policy,
    PortRange,
    Rule,
)
from tierflow.policy.ports import MAX_PORT, merged_ranges, read_port

if TYPE_CHECKING:
    from collections.abc import Iterable

PROTOCOLS: Final = {"SCTP": 132, "TCP": 6, "UDP": 17}

ProtocolPorts = dict[int | None, list[PortRange | str] | None]
"""Ports by protocol, None for every port; protocol None for names of ports, whatever their protocol."""


def read_network_policy(top: Fields, metadata: Fields) -> Policy:
    """A NetworkPolicy of ``networking.k8s.io/v1`` or Calico's StagedKubernetesNetworkPolicy."""
    staged = top.text("kind") == "StagedKubernetesNetworkPolicy"
    name = read_name(metadata)
    spec = top.fields("spec")
    staged_action = spec.choice("stagedAction", STAGED_ACTIONS, "Set") if staged else ""
    deletes = staged_action == "Delete"
    ingress = _rules(spec, "ingress", "from")
    egress = _rules(spec, "egress", "to")
    policy = Policy(
        kind="StagedKubernetesNetworkPolicy" if staged else "KubernetesNetworkPolicy",
        namespace=metadata.text("namespace", "default"),
        name=name,
        order=KUBERNETES_ORDER,
        selector=read_pods(spec, "podSelector"),
        types=_types(spec),
        ingress=ingress,
        egress=egress,
        staged=staged,
        staged_action=staged_action,
        not_judged=DELETES if deletes else "",
    )
    spec.close()
    if deletes:
        check_deletes(spec, ("stagedAction",))
    read_labels(metadata, "labels")
    close_object(top, metadata)
    return policy


def _types(spec: Fields) -> tuple[str, ...]:
    """The directions that are governed; absent, as the API server has it: ingress, and egress if it has rules."""
    written: list[str] = []
    for path, value in spec.texts("policyTypes"):
        if value not in (INGRESS, EGRESS):
            spec.place.report(path, value, f"{INGRESS}, {EGRESS}")
        else:
            written.append(value)
    types = tuple(each for each in (INGRESS, EGRESS) if each in written)
    return types or ((INGRESS, EGRESS) if spec.values.get("egress") else (INGRESS,))


def _rules(spec: Fields, name: str, peers_name: str) -> tuple[Rule, ...]:
    rules: list[Rule] = []
    for path, value in spec.items(name):
        fields = Fields(spec.place, path, value)
        peers = [_peer(Fields(spec.place, at, peer)) for at, peer in fields.items(peers_name)] or [EntityRule()]
        ports = by_protocol(_ports(fields))
        fields.close()
        rules += peer_rules("Allow", ports, peers, ingress=peers_name == "from")
    return tuple(rules)


def peer_rules(
    action: str,
    ports: Iterable[tuple[int | None, tuple[PortRange | str, ...]]],
    peers: Iterable[EntityRule],
    *,
    ingress: bool,
) -> list[Rule]:
    """One rule per protocol and peer; the ports are the destination's."""
    peers = list(peers)
    rules: list[Rule] = []
    for protocol, numbers in ports:
        for peer in peers:
            if ingress:
                to = EntityRule(ports=numbers)
                rules.append(Rule(action, protocol=protocol, source=peer, destination=to))
            else:
                to = dataclasses.replace(peer, ports=numbers)
                rules.append(Rule(action, protocol=protocol, destination=to))
    return rules


def by_protocol(ports: ProtocolPorts) -> list[tuple[int | None, tuple[PortRange | str, ...]]]:
    """(protocol, ports) in the order in which Calico writes the rules; no ports stand for all of them."""
    if not ports:
        return [(None, ())]
    names: dict[int | None, str] = {None: "", **{number: name for name, number in PROTOCOLS.items()}}
    return [(number, _simplified(ports[number] or [])) for number in sorted(ports, key=lambda each: names[each])]


def _simplified(ports: list[PortRange | str]) -> tuple[PortRange | str, ...]:
    names = tuple(port for port in ports if isinstance(port, str))
    return (*names, *merged_ranges([port for port in ports if isinstance(port, PortRange)]))


def add_port(found: ProtocolPorts, protocol: int | None, port: PortRange | str | None) -> None:
    """Add a port, or every port (None), which no single port takes back."""
    known = found.setdefault(protocol, [])
    if port is None:
        found[protocol] = None
    elif known is not None:
        known.append(port)


def _ports(fields: Fields) -> ProtocolPorts:
    found: ProtocolPorts = {}
    for path, value in fields.items("ports"):
        inner = Fields(fields.place, path, value)
        protocol = PROTOCOLS[inner.choice("protocol", tuple(PROTOCOLS), "TCP")]
        add_port(found, protocol, _port(inner))
        inner.close()
    return found


def _port(inner: Fields) -> PortRange | str | None:
    value = inner.take("port")
    last = inner.integer("endPort", 1, MAX_PORT)
    if value is ABSENT:
        if last is not None:
            inner.report("endPort", last, "beside port only")
        return None
    port = read_port(value)
    if port is None or (isinstance(port, PortRange) and port.low != port.high):
        inner.report("port", value, f"a port from 1 to {MAX_PORT} or a port name")
        return PortRange(0, 0)
    if last is None:
        return port
    if isinstance(port, str) or last < port.low:
        inner.report("endPort", last, "a number not below port, which must be a number too")
        return port
    return PortRange(port.low, last)


def _peer(fields: Fields) -> EntityRule:
    if not fields.values:
        fields.place.report(fields.path, {}, "podSelector, namespaceSelector or ipBlock")
    if fields.has("ipBlock"):
        return _block(fields)
    fields.ignore("ipBlock")
    namespaces = read_namespaces(fields, "namespaceSelector") if fields.has("namespaceSelector") else ""
    pods = read_pods(fields, "podSelector")
    fields.ignore("namespaceSelector")
    fields.close()
    return EntityRule(selector=pods, namespace_selector=namespaces)


def _block(fields: Fields) -> EntityRule:
    block = fields.fields("ipBlock")
    if fields.has("podSelector") or fields.has("namespaceSelector"):
        fields.report("ipBlock", fields.values["ipBlock"], "without podSelector and namespaceSelector")
    fields.ignore("podSelector", "namespaceSelector")
    nets = read_cidrs(block, [(block.at("cidr"), block.take("cidr"))])
    not_nets = read_cidrs(block, block.items("except"))
    for net in not_nets:
        if nets and not _inside(net, nets[0]):
            block.report("except", net, f"a network inside of {nets[0]}")
    block.close()
    fields.close()
    return EntityRule(nets=nets, not_nets=not_nets)


def _inside(net: str, outer: str) -> bool:
    inner, whole = ipaddress.ip_network(net), ipaddress.ip_network(outer)
    if inner.version != whole.version:
        return False
    return inner.prefixlen > whole.prefixlen and inner.network_address in whole


def read_cidrs(fields: Fields, values: Iterable[tuple[str, Any]]) -> tuple[str, ...]:
    """CIDRs at these paths, host bits cleared."""
    nets: list[str] = []
    for path, value in values:
        net = _net(value)
        if net is None:
            fields.place.report(path, value, "a CIDR such as 10.0.0.0/8")
        else:
            nets.append(net)
    return tuple(nets)


def _net(value: object) -> str | None:
    if not isinstance(value, str) or "/" not in value:
        return None
    try:
        return str(ipaddress.ip_network(value, strict=False))
    except ValueError:
        return None
