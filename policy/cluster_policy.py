"""The cluster-wide policies of Kubernetes' network-policy API in Calico's terms.

AdminNetworkPolicy and BaselineAdminNetworkPolicy (v1alpha1) name their ports under ``ports``, ClusterNetworkPolicy
(v1alpha2 and later), which took their place, under ``protocols``. Rules are numbered as in ``kubernetes``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tierflow.policy.calico import close_object
from tierflow.policy.document import ABSENT, Fields
from tierflow.policy.entity import read_domains
from tierflow.policy.kubernetes import PROTOCOLS, ProtocolPorts, add_port, by_protocol, peer_rules, read_cidrs
from tierflow.policy.label_selector import PODS, read_namespaces, read_pods
from tierflow.policy.metadata import read_labels, read_name
from tierflow.policy.model import EGRESS, INGRESS, KUBERNETES_ORDER, EntityRule, Policy, PortRange, Rule
from tierflow.policy.ports import MAX_PORT

if TYPE_CHECKING:
    from collections.abc import Sequence

CLUSTER: Final = "ClusterNetworkPolicy"
BASELINE: Final = "BaselineAdminNetworkPolicy"
TIERS: Final = {
    "AdminNetworkPolicy": "adminnetworkpolicy",
    BASELINE: "baselineadminnetworkpolicy",
    "Admin": "kube-admin",
    "Baseline": "kube-baseline",
}
ACTIONS: Final = {
    "AdminNetworkPolicy": ("Allow", "Deny", "Pass"),
    BASELINE: ("Allow", "Deny"),
    CLUSTER: ("Accept", "Deny", "Pass"),
}
MAX_PRIORITY: Final = 1000


def read_cluster_policy(top: Fields, metadata: Fields) -> Policy:
    """An AdminNetworkPolicy, BaselineAdminNetworkPolicy or ClusterNetworkPolicy; without rules it governs nothing."""
    kind = top.text("kind")
    name = read_name(metadata)
    spec = top.fields("spec")
    tier = TIERS[spec.choice("tier", ("Admin", "Baseline"), "") if kind == CLUSTER else kind]
    if kind == BASELINE and name != "default":
        metadata.report("name", name, "default: there is one BaselineAdminNetworkPolicy")
    order = KUBERNETES_ORDER if kind == BASELINE else _priority(spec)
    selector, namespace_selector = _subject(spec)
    ingress = _rules(spec, "ingress", "from", kind)
    egress = _rules(spec, "egress", "to", kind)
    spec.close()
    read_labels(metadata, "labels")
    close_object(top, metadata)
    types = tuple(each for each, rules in ((INGRESS, ingress), (EGRESS, egress)) if rules)
    return Policy(
        kind=kind,
        namespace=None,
        name=name,
        tier=tier,
        order=order,
        selector=selector,
        namespace_selector=namespace_selector,
        types=types,
        ingress=ingress,
        egress=egress,
    )


def _priority(spec: Fields) -> float:
    priority = spec.integer("priority", 0, MAX_PRIORITY)
    if not spec.has("priority"):
        spec.report("priority", ABSENT, f"an integer from 0 to {MAX_PRIORITY}")
    return float(priority or 0)


def _subject(spec: Fields) -> tuple[str, str]:
    """Selectors of the pods and of their namespaces; pods only, never nodes."""
    subject = spec.fields("subject")
    if subject.has("namespaces") == subject.has("pods"):
        spec.report("subject", spec.take("subject"), "either namespaces or pods")
    found = _namespaced_pods(subject) if subject.has("pods") else (PODS, read_namespaces(subject, "namespaces"))
    subject.ignore("pods", "namespaces")
    subject.close()
    return found


def _namespaced_pods(fields: Fields) -> tuple[str, str]:
    pods = fields.fields("pods")
    found = read_pods(pods, "podSelector"), read_namespaces(pods, "namespaceSelector")
    for name in ("podSelector", "namespaceSelector"):
        if not pods.has(name):
            pods.report(name, ABSENT, "a label selector; {} selects all")
    pods.close()
    return found


def _rules(spec: Fields, name: str, peers_name: str, kind: str) -> tuple[Rule, ...]:
    rules: list[Rule] = []
    for path, value in spec.items(name):
        fields = Fields(spec.place, path, value)
        action = fields.choice("action", ACTIONS[kind], "")
        fields.text("name")
        peers = [_peer(Fields(spec.place, at, peer), name, kind, action) for at, peer in fields.items(peers_name)]
        if not peers:
            fields.report(peers_name, fields.values.get(peers_name, ABSENT), "at least one peer")
        ports = _protocols(fields) if kind == CLUSTER else _ports(fields)
        if any(isinstance(port, str) for each in ports.values() for port in each or ()):
            _check_named(fields, peers, peers_name)
        fields.close()
        chosen = "Allow" if action == "Accept" else action
        rules += peer_rules(chosen, by_protocol(ports), peers, ingress=name == "ingress")
    return tuple(rules)


def _check_named(fields: Fields, peers: Sequence[EntityRule], peers_name: str) -> None:
    for index, peer in enumerate(peers):
        if peer.nets or peer.domains:
            accepted = "namespaces or pods beside named ports: nothing else names its ports"
            fields.report(f"{peers_name}[{index}]", list(peer.nets or peer.domains), accepted)


def _peer(fields: Fields, direction: str, kind: str, action: str) -> EntityRule:
    peers = ["namespaces", "pods"]
    if direction == "egress":
        peers += ["networks"] if kind == BASELINE else ["networks", "domainNames"]
    chosen = [name for name in peers if fields.has(name)]
    if len(chosen) != 1:
        fields.place.report(fields.path, sorted(fields.values), f"exactly one of {', '.join(peers)}")
    entity = _chosen_peer(fields, chosen[0]) if chosen else EntityRule(selector="!all()")
    if entity.domains and action in ("Deny", "Pass"):
        fields.report("domainNames", list(entity.domains), "in rules that accept only")
    fields.ignore(*peers)
    fields.close()
    return entity


def _chosen_peer(fields: Fields, name: str) -> EntityRule:
    match name:
        case "pods":
            pods, namespaces = _namespaced_pods(fields)
            return EntityRule(selector=pods, namespace_selector=namespaces)
        case "namespaces":
            return EntityRule(namespace_selector=read_namespaces(fields, "namespaces"))
        case "networks":
            return EntityRule(nets=read_cidrs(fields, fields.items("networks")))
        case _:
            return EntityRule(domains=read_domains(fields, "domainNames"))


def _ports(fields: Fields) -> ProtocolPorts:
    """Ports of an AdminNetworkPolicy or BaselineAdminNetworkPolicy."""
    found: ProtocolPorts = {}
    for path, value in fields.items("ports"):
        inner = Fields(fields.place, path, value)
        chosen = [name for name in ("portNumber", "portRange", "namedPort") if inner.has(name)]
        if len(chosen) != 1:
            inner.place.report(path, sorted(inner.values), "exactly one of portNumber, portRange, namedPort")
        elif chosen == ["namedPort"]:
            add_port(found, None, inner.text("namedPort"))
        else:
            body = inner.fields(chosen[0])
            protocol = PROTOCOLS[body.choice("protocol", tuple(PROTOCOLS), "TCP")]
            add_port(found, protocol, _number(body, "port") if chosen == ["portNumber"] else _range(body))
            body.close()
        inner.ignore("portNumber", "portRange", "namedPort")
        inner.close()
    return found


def _protocols(fields: Fields) -> ProtocolPorts:
    """Protocols and ports of a ClusterNetworkPolicy."""
    found: ProtocolPorts = {}
    known = ("tcp", "udp", "sctp", "destinationNamedPort")
    for path, value in fields.items("protocols"):
        inner = Fields(fields.place, path, value)
        chosen = [name for name in known if inner.has(name)]
        if len(chosen) != 1:
            inner.place.report(path, sorted(inner.values), f"exactly one of {', '.join(known)}")
        elif chosen == ["destinationNamedPort"]:
            add_port(found, None, inner.text("destinationNamedPort"))
        else:
            add_port(found, PROTOCOLS[chosen[0].upper()], _destination(inner.fields(chosen[0])))
        inner.ignore(*known)
        inner.close()
    return found


def _destination(body: Fields) -> PortRange | None:
    """The destination port of a protocol; None is every port."""
    if not body.has("destinationPort"):
        body.ignore("destinationPort")
        body.close()
        return None
    target = body.fields("destinationPort")
    body.close()
    if target.has("number") == target.has("range"):
        body.report("destinationPort", body.values["destinationPort"], "either number or range")
        return PortRange(0, 0)
    if target.has("number"):
        found = _number(target, "number")
    else:
        span = target.fields("range")
        found = _range(span)
        span.close()
    target.ignore("number", "range")
    target.close()
    return found


def _number(body: Fields, name: str) -> PortRange:
    number = body.integer(name, 1, MAX_PORT)
    if not body.has(name):
        body.report(name, ABSENT, f"an integer from 1 to {MAX_PORT}")
    return PortRange(number or 0, number or 0)


def _range(body: Fields) -> PortRange:
    low, high = body.integer("start", 1, MAX_PORT), body.integer("end", 1, MAX_PORT)
    for name in ("start", "end"):
        if not body.has(name):
            body.report(name, ABSENT, f"an integer from 1 to {MAX_PORT}")
    if low is not None and high is not None and low > high:
        body.report("end", high, f"a port not below start, which is {low}")
    return PortRange(low or 0, high or 0)
