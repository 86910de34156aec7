"""Calico's network sets, host endpoints and profiles as written, checked and defaulted."""

from __future__ import annotations

import ipaddress
import re
from typing import Final

from tierflow.policy.calico import close_object
from tierflow.policy.document import ABSENT, Fields
from tierflow.policy.entity import read_domains
from tierflow.policy.metadata import read_labels, read_name, read_set_labels
from tierflow.policy.model import EGRESS, INGRESS, HostEndpoint, NetworkSet, Profile
from tierflow.policy.ports import MAX_PORT, PORT_PROTOCOLS, read_protocol
from tierflow.policy.rules import read_rules

_INTERFACE: Final = re.compile(r"[a-zA-Z0-9_.-]{1,15}")
_PORT_NAME: Final = re.compile(r"(?=.*[a-z])[a-z0-9]+(-[a-z0-9]+)*")
_MAX_PORT_NAME: Final = 15


def read_network_set(top: Fields, metadata: Fields) -> NetworkSet:
    """A NetworkSet or GlobalNetworkSet."""
    is_global = top.text("kind") == "GlobalNetworkSet"
    spec = top.fields("spec")
    made = NetworkSet(
        None if is_global else metadata.text("namespace", "default"),
        read_name(metadata),
        read_set_labels(metadata),
        _nets(spec),
        read_domains(spec, "allowedEgressDomains"),
    )
    spec.close()
    close_object(top, metadata)
    return made


def _nets(spec: Fields) -> tuple[str, ...]:
    """CIDRs, host bits cleared as upstream does; an address alone is a network of its own."""
    nets: list[str] = []
    for path, text in spec.texts("nets"):
        try:
            nets.append(str(ipaddress.ip_network(text, strict=False)))
        except ValueError:
            spec.place.report(path, text, "a CIDR or an IP address")
    return tuple(nets)


def read_host_endpoint(top: Fields, metadata: Fields) -> HostEndpoint:
    """A HostEndpoint."""
    name = read_name(metadata)
    spec = top.fields("spec")
    node = spec.text("node")
    if not node:
        spec.report("node", ABSENT, "the name of a node")
    interface = spec.text("interfaceName")
    if interface not in ("", "*") and not _INTERFACE.fullmatch(interface):
        spec.report("interfaceName", interface, "* or up to 15 letters, digits, _, . and -")
    addresses: list[str] = []
    for path, text in spec.texts("expectedIPs"):
        try:
            addresses.append(str(ipaddress.ip_address(text)))
        except ValueError:
            spec.place.report(path, text, "an IP address")
    if not interface and not spec.values.get("expectedIPs"):
        spec.report("interfaceName", ABSENT, "an interface name, *, or expectedIPs beside it")
    made = HostEndpoint(
        name,
        node,
        read_labels(metadata, "labels"),
        interface,
        tuple(addresses),
        tuple(text for _, text in spec.texts("profiles")),
        _named_ports(spec),
    )
    spec.close()
    close_object(top, metadata)
    return made


def _named_ports(spec: Fields) -> tuple[tuple[str, int, int], ...]:
    ports: list[tuple[str, int, int]] = []
    for path, value in spec.items("ports"):
        fields = Fields(spec.place, path, value)
        name, number = fields.text("name"), fields.integer("port", 1, MAX_PORT)
        protocol = read_protocol(fields.take("protocol"))
        if not _PORT_NAME.fullmatch(name) or len(name) > _MAX_PORT_NAME:
            fields.report("name", name or ABSENT, f"up to {_MAX_PORT_NAME} of a-z, 0-9 and -, at least one letter")
        if protocol not in PORT_PROTOCOLS:
            fields.report("protocol", fields.values.get("protocol", ABSENT), "TCP, UDP or SCTP")
        if not fields.has("port"):
            fields.report("port", ABSENT, f"an integer from 1 to {MAX_PORT}")
        fields.close()
        if name and protocol and number:
            ports.append((name, protocol, number))
    return tuple(ports)


def read_profile(top: Fields, metadata: Fields) -> Profile:
    """A Profile."""
    name = read_name(metadata)
    spec = top.fields("spec")
    made = Profile(
        name,
        read_labels(spec, "labelsToApply"),
        read_rules(spec, "ingress", INGRESS, None),
        read_rules(spec, "egress", EGRESS, None),
    )
    read_labels(metadata, "labels")
    spec.close()
    close_object(top, metadata)
    return made
