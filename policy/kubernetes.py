"""Kubernetes' policies in Calico's terms: NetworkPolicy, its staged form, the cluster-wide policies; and Services.

One rule of a Kubernetes policy becomes one rule per protocol and peer, protocols in alphabetical order and, within
each, peers as written: rule indices in traces count these.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any, Final

from tierflow.policy.document import ABSENT, Fields
from tierflow.policy.labels import ORCHESTRATOR
from tierflow.policy.model import (
    EGRESS,
    INGRESS,
    KUBERNETES_ORDER,
    EntityRule,
    Policy,
    PortRange,
    Rule,
    Service,
)
from tierflow.policy.rules import MAX_PORT, merged_ranges, read_port

if TYPE_CHECKING:
    from collections.abc import Iterable

PROTOCOLS: Final = {"SCTP": 132, "TCP": 6, "UDP": 17}
OPERATORS: Final = ("In", "NotIn", "Exists", "DoesNotExist")
TIERS: Final = {
    "AdminNetworkPolicy": "adminnetworkpolicy",
    "BaselineAdminNetworkPolicy": "baselineadminnetworkpolicy",
    "Admin": "kube-admin",
    "Baseline": "kube-baseline",
}
_POD: Final = f"{ORCHESTRATOR} == 'k8s'"

_ProtocolPorts = dict[int | None, list[PortRange | str]]


def read_network_policy(top: Fields, metadata: Fields) -> Policy:
    """A NetworkPolicy of ``networking.k8s.io/v1`` or Calico's StagedKubernetesNetworkPolicy."""
    staged = top.text("kind") == "StagedKubernetesNetworkPolicy"
    spec = top.fields("spec")
    staged_action = spec.choice("stagedAction", ("Set", "Delete", "Learn", "Ignore"), "Set") if staged else ""
    if not spec.has("podSelector") and staged_action != "Delete":
        spec.report("podSelector", ABSENT, "a label selector; {} selects all pods")
    ingress = _rules(spec, "ingress", "from")
    egress = _rules(spec, "egress", "to")
    written = []
    for path, value in spec.texts("policyTypes"):
        if value not in (INGRESS, EGRESS):
            spec.place.report(path, value, "Ingress, Egress")
        else:
            written.append(value)
    types = tuple(each for each in (INGRESS, EGRESS) if each in written)
    if not types:
        types = (INGRESS, EGRESS) if spec.has("egress") else (INGRESS,)
    policy = Policy(
        kind="StagedKubernetesNetworkPolicy" if staged else "KubernetesNetworkPolicy",
        namespace=metadata.text("namespace", "default"),
        name=metadata.text("name"),
        order=KUBERNETES_ORDER,
        selector=_selector(spec, "podSelector", pods=True),
        types=types,
        ingress=ingress,
        egress=egress,
        staged=staged,
        staged_action=staged_action,
        not_judged="stagedAction Delete takes a policy away, it has no rules" if staged_action == "Delete" else "",
    )
    spec.close()
    top.ignore("status")
    top.close()
    return policy


def _rules(spec: Fields, name: str, peers_name: str) -> tuple[Rule, ...]:
    rules: list[Rule] = []
    for path, value in spec.items(name):
        fields = Fields(spec.place, path, value)
        peers = [_peer(Fields(spec.place, at, peer)) for at, peer in fields.items(peers_name)] or [EntityRule()]
        ports = _ports(fields)
        fields.close()
        for protocol, numbers in _by_protocol(ports):
            rules += [_rule("Allow", protocol, numbers, peer, ingress=peers_name == "from") for peer in peers]
    return tuple(rules)


def _rule(
    action: str, protocol: int | None, ports: tuple[PortRange | str, ...], peer: EntityRule, *, ingress: bool
) -> Rule:
    if ingress:
        return Rule(action, protocol=protocol, source=peer, destination=EntityRule(ports=ports))
    return Rule(action, protocol=protocol, destination=_with_ports(peer, ports))


def _with_ports(peer: EntityRule, ports: tuple[PortRange | str, ...]) -> EntityRule:
    return EntityRule(
        nets=peer.nets,
        not_nets=peer.not_nets,
        selector=peer.selector,
        namespace_selector=peer.namespace_selector,
        ports=ports,
        domains=peer.domains,
    )


def _by_protocol(ports: _ProtocolPorts) -> list[tuple[int | None, tuple[PortRange | str, ...]]]:
    if not ports or None in ports:
        return [(None, ())]
    ordered = sorted(ports, key=lambda number: next(name for name, each in PROTOCOLS.items() if each == number))
    return [(number, _simplified(ports[number])) for number in ordered]


def _simplified(ports: list[PortRange | str]) -> tuple[PortRange | str, ...]:
    names = tuple(port for port in ports if isinstance(port, str))
    return (*names, *merged_ranges([port for port in ports if isinstance(port, PortRange)]))


def _ports(fields: Fields) -> _ProtocolPorts:
    found: _ProtocolPorts = {}
    whole: set[int] = set()
    for path, value in fields.items("ports"):
        inner = Fields(fields.place, path, value)
        protocol = PROTOCOLS[inner.choice("protocol", tuple(PROTOCOLS), "TCP")]
        port = _port(inner)
        inner.close()
        numbers = found.setdefault(protocol, [])
        if port is None:
            whole.add(protocol)
        else:
            numbers.append(port)
    return found | {protocol: [] for protocol in whole}


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
        fields.place.report(fields.path, "{}", "podSelector, namespaceSelector or ipBlock")
    if fields.has("ipBlock"):
        block = fields.fields("ipBlock")
        if fields.has("podSelector") or fields.has("namespaceSelector"):
            fields.report("ipBlock", fields.values["ipBlock"], "without podSelector and namespaceSelector")
        fields.ignore("podSelector", "namespaceSelector")
        nets = _nets(block, [(block.at("cidr"), block.take("cidr"))])
        not_nets = _nets(block, block.items("except"))
        for net in not_nets:
            if nets and not _inside(net, nets[0]):
                block.report("except", net, f"a network inside of {nets[0]}")
        block.close()
        fields.close()
        return EntityRule(nets=nets, not_nets=not_nets)
    fields.ignore("ipBlock")
    namespaces = _selector(fields, "namespaceSelector", pods=False) if fields.has("namespaceSelector") else ""
    pods = _selector(fields, "podSelector", pods=True)
    fields.ignore("namespaceSelector")
    fields.close()
    return EntityRule(selector=pods, namespace_selector=namespaces)


def _inside(net: str, outer: str) -> bool:
    inner, whole = ipaddress.ip_network(net), ipaddress.ip_network(outer)
    if inner.version != whole.version:
        return False
    return inner.prefixlen >= whole.prefixlen and inner.network_address in whole


def _nets(fields: Fields, values: Iterable[tuple[str, Any]]) -> tuple[str, ...]:
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


def _selector(fields: Fields, name: str, *, pods: bool) -> str:
    """A Kubernetes label selector as Calico's text."""
    terms = [_POD] if pods else []
    inner = fields.fields(name)
    terms += [f"{key} == '{value}'" for key, value in sorted(inner.labels("matchLabels").items())]
    for path, value in inner.items("matchExpressions"):
        term = _expression(Fields(fields.place, path, value))
        if term:
            terms.append(term)
    inner.close()
    return " && ".join(terms) or "all()"


def _expression(fields: Fields) -> str:
    key = fields.text("key")
    if not key:
        fields.report("key", ABSENT, "a label")
    operator = fields.choice("operator", OPERATORS, "")
    values = [text for _, text in fields.texts("values")]
    fields.close()
    if (operator in ("In", "NotIn")) != bool(values):
        wanted = "at least one text" if operator in ("In", "NotIn") else f"nothing with operator {operator}"
        fields.report("values", fields.values.get("values", ABSENT), wanted)
        return ""
    listed = ", ".join(f"'{value}'" for value in values)
    match operator:
        case "In":
            return f"{key} in {{{listed}}}"
        case "NotIn":
            return f"{key} not in {{{listed}}}"
        case "Exists":
            return f"has({key})"
        case _:
            return f"!has({key})"


def read_cluster_policy(top: Fields, metadata: Fields) -> Policy:
    """An AdminNetworkPolicy, BaselineAdminNetworkPolicy or ClusterNetworkPolicy."""
    kind = top.text("kind")
    name = metadata.text("name")
    spec = top.fields("spec")
    if kind == "ClusterNetworkPolicy":
        tier = TIERS[spec.choice("tier", ("Admin", "Baseline"), "")]
        allow = "Accept"
        actions: tuple[str, ...] = ("Accept", "Deny", "Pass")
    else:
        tier = TIERS[kind]
        allow, actions = "Allow", ("Allow", "Deny", "Pass")
        if kind == "BaselineAdminNetworkPolicy":
            actions = ("Allow", "Deny")
    if kind == "BaselineAdminNetworkPolicy" and name != "default":
        metadata.report("name", name, "default: there is one BaselineAdminNetworkPolicy")
    priority = None if kind == "BaselineAdminNetworkPolicy" else spec.integer("priority", 0, 1000)
    if priority is None and kind != "BaselineAdminNetworkPolicy" and not spec.has("priority"):
        spec.report("priority", ABSENT, "an integer from 0 to 1000")
    selector, namespace_selector = _subject(spec)
    ingress = _cluster_rules(spec, "ingress", "from", actions, allow)
    egress = _cluster_rules(spec, "egress", "to", actions, allow)
    spec.close()
    top.ignore("status")
    top.close()
    types = tuple(each for each, rules in ((INGRESS, ingress), (EGRESS, egress)) if rules)
    return Policy(
        kind=kind,
        namespace=None,
        name=name,
        tier=tier,
        order=KUBERNETES_ORDER if priority is None else float(priority),
        selector=selector,
        namespace_selector=namespace_selector,
        types=types,
        ingress=ingress,
        egress=egress,
    )


def _subject(spec: Fields) -> tuple[str, str]:
    subject = spec.fields("subject")
    if subject.has("namespaces") == subject.has("pods"):
        spec.report("subject", spec.values.get("subject", ABSENT), "either namespaces or pods")
    found = _pods_or_namespaces(subject)
    subject.close()
    return found


def _pods_or_namespaces(fields: Fields) -> tuple[str, str]:
    if fields.has("pods"):
        pods = fields.fields("pods")
        selectors = _selector(pods, "podSelector", pods=True), _selector(pods, "namespaceSelector", pods=False)
        pods.close()
        fields.ignore("pods", "namespaces")
        return selectors
    namespaces = _selector(fields, "namespaces", pods=False)
    fields.ignore("pods", "namespaces")
    return _POD, namespaces


def _cluster_rules(spec: Fields, name: str, peers_name: str, actions: tuple[str, ...], allow: str) -> tuple[Rule, ...]:
    rules: list[Rule] = []
    for path, value in spec.items(name):
        fields = Fields(spec.place, path, value)
        action = fields.choice("action", actions, "")
        fields.ignore("name")
        peers = [_cluster_peer(Fields(spec.place, at, peer)) for at, peer in fields.items(peers_name)]
        if not peers:
            fields.report(peers_name, fields.values.get(peers_name, ABSENT), "at least one peer")
        ports = _cluster_ports(fields)
        fields.close()
        for protocol, numbers in ports:
            chosen = "Allow" if action == allow else action
            rules += [_rule(chosen, protocol, numbers, peer, ingress=name == "ingress") for peer in peers]
    return tuple(rules)


def _cluster_peer(fields: Fields) -> EntityRule:
    nets = _nets(fields, fields.items("networks"))
    domains = tuple(text.lower() for _, text in fields.texts("domainNames"))
    chosen = [name for name in ("namespaces", "pods", "networks", "domainNames") if fields.has(name)]
    if len(chosen) != 1:
        fields.place.report(
            fields.path, sorted(fields.values), "exactly one of namespaces, pods, networks, domainNames"
        )
    selector = namespace_selector = ""
    if fields.has("pods") or fields.has("namespaces"):
        selector, namespace_selector = _pods_or_namespaces(fields)
    fields.close()
    return EntityRule(nets=nets, selector=selector, namespace_selector=namespace_selector, domains=domains)


def _cluster_ports(fields: Fields) -> list[tuple[int | None, tuple[PortRange | str, ...]]]:
    found: _ProtocolPorts = {}
    for name in ("ports", "protocols"):
        for path, value in fields.items(name):
            inner = Fields(fields.place, path, value)
            for protocol, port in _cluster_port(inner):
                found.setdefault(protocol, []).append(port)
            inner.close()
    return _by_protocol(found)


def _cluster_port(inner: Fields) -> list[tuple[int, PortRange | str]]:
    if inner.has("namedPort"):
        named = inner.text("namedPort")
        return [(protocol, named) for protocol in PROTOCOLS.values()]
    for field, key in (("portNumber", "port"), ("portRange", "")):
        if not inner.has(field):
            continue
        body = inner.fields(field)
        protocol = PROTOCOLS[body.choice("protocol", tuple(PROTOCOLS), "TCP")]
        low = body.integer(key or "start", 1, MAX_PORT)
        high = low if key else body.integer("end", 1, MAX_PORT)
        body.close()
        if low is None or high is None or low > high:
            inner.report(field, inner.values[field], f"ports from 1 to {MAX_PORT}, the first not above the last")
            return []
        return [(protocol, PortRange(low, high))]
    for name, protocol in (("tcp", 6), ("udp", 17), ("sctp", 132)):
        if inner.has(name):
            return [(protocol, _protocol_port(inner.fields(name)))]
    inner.place.report(inner.path, sorted(inner.values), "portNumber, portRange, namedPort, tcp, udp or sctp")
    return []


def _protocol_port(body: Fields) -> PortRange | str:
    if not body.has("destinationPort"):
        body.ignore("destinationPort")
        body.close()
        return PortRange(0, MAX_PORT)
    target = body.fields("destinationPort")
    number = target.integer("number", 1, MAX_PORT)
    span = target.fields("range") if target.has("range") else None
    low = span.integer("start", 1, MAX_PORT) if span else number
    high = span.integer("end", 1, MAX_PORT) if span else number
    target.close()
    body.close()
    if low is None or high is None or low > high:
        body.report("destinationPort", body.values["destinationPort"], "number, or range with start and end")
        return PortRange(0, 0)
    return PortRange(low, high)


def read_service(top: Fields, metadata: Fields) -> Service:
    """A Service, for rules that name it; its endpoints are the pods that its selector selects."""
    spec = top.fields("spec")
    selector = tuple(sorted(spec.labels("selector").items()))
    ports: list[tuple[str, int, int, int | str]] = []
    for path, value in spec.items("ports"):
        inner = Fields(top.place, path, value)
        number = inner.integer("port", 1, MAX_PORT) or 0
        target = inner.take("targetPort")
        protocol = PROTOCOLS[inner.choice("protocol", tuple(PROTOCOLS), "TCP")]
        ports.append((inner.text("name"), protocol, number, number if target is ABSENT else target))
    return Service(metadata.text("namespace", "default"), metadata.text("name"), selector, tuple(ports))
