"""Calico's own kinds as written, checked and defaulted: Tier, policies, network sets, HostEndpoint, Profile."""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING, Final

from tierflow.policy.document import ABSENT
from tierflow.policy.model import (
    DEFAULT_TIER,
    DEFAULT_TIER_ORDER,
    EGRESS,
    INGRESS,
    HostEndpoint,
    NetworkSet,
    Policy,
    Profile,
    Tier,
)
from tierflow.policy.rules import MAX_PORT, read_nets, read_protocol, read_rules, read_selector
from tierflow.policy.selector import valid_label

if TYPE_CHECKING:
    from tierflow.policy.document import Fields

DEFAULT_ACTIONS: Final = ("Deny", "Pass")
TYPES: Final = (INGRESS, EGRESS)
FIXED_ORDERS: Final = {DEFAULT_TIER: DEFAULT_TIER_ORDER, "kube-admin": 1_000.0, "kube-baseline": 10_000_000.0}

_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")
_ACCEPTED_NAME: Final = "lower-case letters, digits, - and . with a letter or digit at both ends"


def read_tier(top: Fields, metadata: Fields) -> Tier:
    """A Tier; upstream's own tiers have a fixed order."""
    name = _name(metadata)
    spec = top.fields("spec")
    order = spec.number("order")
    default = "Pass" if name in ("kube-admin", "kube-baseline") else "Deny"
    action = spec.choice("defaultAction", DEFAULT_ACTIONS, default)
    fixed = FIXED_ORDERS.get(name)
    if fixed is not None and order is not None and order != fixed:
        spec.report("order", order, f"{fixed:.0f}: the order of tier {name} is fixed")
    if fixed is not None and action != default:
        spec.report("defaultAction", action, f"{default}: the default action of tier {name} is fixed")
    spec.close()
    _close(top)
    return Tier(name, fixed if fixed is not None else DEFAULT_TIER_ORDER if order is None else order, action)


def read_policy(top: Fields, metadata: Fields) -> Policy:
    """A NetworkPolicy, GlobalNetworkPolicy or one of their staged forms."""
    kind = top.text("kind")
    staged = kind.startswith("Staged")
    is_global = kind.endswith("GlobalNetworkPolicy")
    name = _name(metadata)
    namespace = None if is_global else metadata.text("namespace", "default")
    spec = top.fields("spec")
    if not top.has("spec") and not staged:
        top.report("spec", ABSENT, "the policy's specification")
    tier = spec.text("tier", DEFAULT_TIER)
    ingress = read_rules(spec, "ingress", INGRESS, namespace)
    egress = read_rules(spec, "egress", EGRESS, namespace)
    staged_action = _staged_action(spec) if staged else ""
    forward = _forward(spec) if is_global else ""
    if (
        is_global
        and (spec.values.get("doNotTrack") or spec.values.get("preDNAT"))
        and spec.values.get("applyOnForward") is not True
    ):
        spec.report("applyOnForward", spec.values.get("applyOnForward", ABSENT), "true with preDNAT or doNotTrack")
    if spec.values.get("preDNAT") is True and spec.values.get("egress"):
        spec.report("egress", spec.values["egress"], "nothing with preDNAT, which is for ingress only")
    if staged_action == "Delete" and (ingress or egress):
        spec.report("stagedAction", "Delete", "no rules beside it")
    policy = Policy(
        kind=kind,
        namespace=namespace,
        name=name,
        tier=tier,
        order=spec.number("order"),
        selector=read_selector(spec, "selector"),
        namespace_selector=read_selector(spec, "namespaceSelector") if is_global else "",
        service_account_selector=read_selector(spec, "serviceAccountSelector"),
        types=_types(spec, ingress=bool(ingress), egress=bool(egress)),
        ingress=ingress,
        egress=egress,
        staged=staged,
        staged_action=staged_action,
        not_judged="stagedAction Delete takes a policy away, it has no rules" if staged_action == "Delete" else forward,
    )
    spec.ignore("performanceHints")
    spec.close()
    _close(top)
    return policy


def _forward(spec: Fields) -> str:
    spec.flag("applyOnForward")
    untracked, before_nat = spec.flag("doNotTrack"), spec.flag("preDNAT")
    if untracked and before_nat:
        spec.report("preDNAT", True, "false, as doNotTrack is true")
    if untracked:
        return "doNotTrack policies act before connection tracking"
    return "preDNAT policies act before destination translation" if before_nat else ""


def _staged_action(spec: Fields) -> str:
    return spec.choice("stagedAction", ("Set", "Delete", "Learn", "Ignore"), "Set")


def _types(spec: Fields, *, ingress: bool, egress: bool) -> tuple[str, ...]:
    written: list[str] = []
    for path, value in spec.texts("types"):
        if value not in TYPES:
            spec.place.report(path, value, "Ingress, Egress")
        elif value in written:
            spec.place.report(path, value, "each type once")
        else:
            written.append(value)
    if spec.has("types") and written:
        for name, present, kind in (("ingress", ingress, INGRESS), ("egress", egress, EGRESS)):
            if present and kind not in written:
                spec.report(name, f"{name} rules", f"{kind} among types, or no {name} rules: they would never apply")
        return tuple(each for each in TYPES if each in written)
    if not ingress and egress:
        return (EGRESS,)
    return (INGRESS, EGRESS) if ingress and egress else (INGRESS,)


def read_network_set(top: Fields, metadata: Fields) -> NetworkSet:
    """A NetworkSet or GlobalNetworkSet."""
    is_global = top.text("kind") == "GlobalNetworkSet"
    name = _name(metadata)
    spec = top.fields("spec")
    domains = tuple(text for _, text in spec.texts("allowedEgressDomains"))
    made = NetworkSet(
        None if is_global else metadata.text("namespace", "default"),
        name,
        _labels(metadata, "labels"),
        read_nets(spec, "nets"),
        domains,
    )
    spec.close()
    _close(top)
    return made


def read_host_endpoint(top: Fields, metadata: Fields) -> HostEndpoint:
    """A HostEndpoint."""
    name = _name(metadata)
    spec = top.fields("spec")
    node = spec.text("node")
    if not node:
        spec.report("node", ABSENT, "the name of a node")
    interface = spec.text("interfaceName")
    addresses: list[str] = []
    for path, text in spec.texts("expectedIPs"):
        try:
            addresses.append(str(ipaddress.ip_address(text)))
        except ValueError:
            spec.place.report(path, text, "an IP address")
    if not interface and not addresses:
        spec.report("interfaceName", ABSENT, "an interface name, *, or expectedIPs beside it")
    made = HostEndpoint(
        name,
        node,
        _labels(metadata, "labels"),
        interface,
        tuple(addresses),
        tuple(text for _, text in spec.texts("profiles")),
        _named_ports(spec),
    )
    spec.close()
    _close(top)
    return made


def _named_ports(spec: Fields) -> tuple[tuple[str, int, int], ...]:
    ports: list[tuple[str, int, int]] = []
    for path, value in spec.items("ports"):
        fields = type(spec)(spec.place, path, value)
        name, number = fields.text("name"), fields.integer("port", 1, MAX_PORT)
        protocol = read_protocol(fields.take("protocol"))
        if not name:
            fields.report("name", ABSENT, "a port name")
        if protocol is None:
            fields.report("protocol", fields.values.get("protocol", ABSENT), "TCP, UDP or SCTP")
        if number is None and not fields.has("port"):
            fields.report("port", ABSENT, f"an integer from 1 to {MAX_PORT}")
        fields.close()
        if name and protocol and number:
            ports.append((name, protocol, number))
    return tuple(ports)


def read_profile(top: Fields, metadata: Fields) -> Profile:
    """A Profile."""
    name = _name(metadata)
    spec = top.fields("spec")
    made = Profile(
        name,
        _labels(spec, "labelsToApply"),
        read_rules(spec, "ingress", INGRESS, None),
        read_rules(spec, "egress", EGRESS, None),
    )
    spec.close()
    _close(top)
    return made


def _name(metadata: Fields) -> str:
    name = metadata.text("name")
    if name and not _NAME.fullmatch(name):
        metadata.report("name", name, _ACCEPTED_NAME)
    return name


def _labels(fields: Fields, name: str) -> dict[str, str]:
    labels = fields.labels(name)
    for label in labels:
        if not valid_label(label):
            fields.report(f"{name}.{label}", label, "a label of letters, digits, _ . / and -")
    return labels


def _close(top: Fields) -> None:
    top.ignore("metadata", "status")
    top.close()
