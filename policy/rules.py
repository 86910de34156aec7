"""Calico's rules as written, checked and defaulted."""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING, Any, Final

from tierflow.policy.document import ABSENT, Fields
from tierflow.policy.model import EGRESS, EntityRule, Icmp, PortRange, Rule, ServiceName
from tierflow.policy.selector import SelectorError, parse_selector

if TYPE_CHECKING:
    from collections.abc import Sequence

ACTIONS: Final = ("Allow", "Deny", "Pass", "Log")
PROTOCOLS: Final = {"tcp": 6, "udp": 17, "icmp": 1, "icmpv6": 58, "sctp": 132, "udplite": 136}
PORT_PROTOCOLS: Final = frozenset({6, 17, 132})
MAX_PORT: Final = 65535

_PORT_NAME: Final = re.compile(r"[a-z0-9A-Z]([-a-zA-Z0-9_.]*[a-zA-Z0-9])?")
_DOMAIN: Final = re.compile(r"(\*\.)?([a-zA-Z0-9_-]+\.)*[a-zA-Z0-9_-]+")
_ACCEPTED_PROTOCOL: Final = "TCP, UDP, ICMP, ICMPv6, SCTP, UDPLite or a number from 1 to 255"
_ACCEPTED_PORT: Final = f"a port from 0 to {MAX_PORT}, a range low:high or a port name"


def read_rules(spec: Fields, name: str, direction: str, namespace: str | None) -> tuple[Rule, ...]:
    """The rules of a list field, in order; a mistake in one doesn't hide the next."""
    return tuple(_read_rule(Fields(spec.place, path, value), direction, namespace) for path, value in spec.items(name))


def read_selector(fields: Fields, name: str) -> str:
    """The text of a selector that parses; empty when absent or wrong."""
    text = fields.text(name)
    try:
        parse_selector(text)
    except SelectorError as error:
        fields.report(name, text, f"{error.expected} at position {error.position}")
        return ""
    return text


def read_nets(fields: Fields, name: str, what: str = "a CIDR or an IP address") -> tuple[str, ...]:
    """CIDRs, host bits cleared as upstream does; an address alone is a network of its own."""
    nets: list[str] = []
    for path, text in fields.texts(name):
        try:
            nets.append(str(ipaddress.ip_network(text, strict=False)))
        except ValueError:
            fields.place.report(path, text, what)
    return tuple(nets)


def _read_rule(fields: Fields, direction: str, namespace: str | None) -> Rule:
    protocol = _protocol(fields, "protocol")
    not_protocol = _protocol(fields, "notProtocol")
    ip_version = fields.take("ipVersion")
    if ip_version is not ABSENT and ip_version not in (4, 6):
        fields.report("ipVersion", ip_version, "4 or 6")
        ip_version = ABSENT
    icmp = _icmp(fields, "icmp", protocol)
    not_icmp = _icmp(fields, "notICMP", protocol)
    http = fields.has("http")
    if http and protocol not in (None, 6):
        fields.report("http", fields.values["http"], "with protocol TCP only")
    action = fields.choice("action", ACTIONS, "")
    if http and action != "Allow":
        fields.report("http", fields.values["http"], "in rules with action Allow only")
    rule = Rule(
        action=action,
        protocol=protocol,
        not_protocol=not_protocol,
        icmp=icmp,
        not_icmp=not_icmp,
        ip_version=None if ip_version is ABSENT else int(ip_version),
        source=_entity(fields.fields("source"), namespace, protocol, may_name_domains=False),
        destination=_entity(fields.fields("destination"), namespace, protocol, may_name_domains=direction == EGRESS),
        http=http,
    )
    fields.ignore("http", "metadata")
    fields.close()
    _check_versions(fields, rule)
    _check_services(fields, direction, rule)
    return rule


def _check_versions(fields: Fields, rule: Rule) -> None:
    wanted = rule.ip_version or {1: 4, 58: 6}.get(rule.protocol or 0)
    if rule.ip_version and rule.protocol == (1 if rule.ip_version == 6 else 58):
        fields.report("ipVersion", rule.ip_version, "4 with ICMP, 6 with ICMPv6")
    if wanted is None:
        return
    for side, entity in (("source", rule.source), ("destination", rule.destination)):
        for name, nets in (("nets", entity.nets), ("notNets", entity.not_nets)):
            for index, net in enumerate(nets):
                if ipaddress.ip_network(net).version != wanted:
                    fields.report(
                        f"{side}.{name}[{index}]", net, f"an IPv{wanted} network, as the rule is for IPv{wanted}"
                    )


def _check_services(fields: Fields, direction: str, rule: Rule) -> None:
    if rule.source.service is not None and direction == EGRESS:
        fields.report("source.services", rule.source.service.name, "in ingress rules only")
    if rule.destination.service is not None and direction != EGRESS:
        fields.report("destination.services", rule.destination.service.name, "in egress rules only")


def _protocol(fields: Fields, name: str) -> int | None:
    value = fields.take(name)
    if value is ABSENT:
        return None
    number = read_protocol(value)
    if number is None:
        fields.report(name, value, _ACCEPTED_PROTOCOL)
    return number


def read_protocol(value: object) -> int | None:
    """The number of a protocol given by name or number; None when it is neither."""
    if isinstance(value, str):
        if value.isdecimal():
            value = int(value)
        else:
            return PROTOCOLS.get(value.lower())
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 255:
        return value
    return None


def _icmp(fields: Fields, name: str, protocol: int | None) -> Icmp | None:
    if not fields.has(name):
        fields.ignore(name)
        return None
    inner = fields.fields(name)
    # Type 255 isn't a type: upstream refuses it, for some kernels can't match it.
    found = Icmp(inner.integer("type", 0, 254), inner.integer("code", 0, 255))
    inner.close()
    if found.code is not None and found.type is None:
        inner.report("type", ABSENT, "an integer from 0 to 254, as there is a code")
    if protocol not in (1, 58):
        fields.report(name, fields.values[name], "with protocol ICMP or ICMPv6 only")
        return None
    return found


def _entity(fields: Fields, namespace: str | None, protocol: int | None, *, may_name_domains: bool) -> EntityRule:
    names: tuple[str, ...] = ()
    account_selector = ""
    if fields.has("serviceAccounts"):
        accounts = fields.fields("serviceAccounts")
        names = tuple(text for _, text in accounts.texts("names"))
        account_selector = read_selector(accounts, "selector")
        accounts.close()
    else:
        fields.ignore("serviceAccounts")
    service = _service(fields, namespace)
    domains: tuple[str, ...] = ()
    if fields.has("domains"):
        if not may_name_domains:
            fields.report("domains", fields.values["domains"], "in the destination of egress rules only")
        domains = _domains(fields)
    fields.ignore("domains")
    entity = EntityRule(
        nets=read_nets(fields, "nets"),
        not_nets=read_nets(fields, "notNets"),
        selector=read_selector(fields, "selector"),
        not_selector=read_selector(fields, "notSelector"),
        namespace_selector=read_selector(fields, "namespaceSelector"),
        service_account_names=names,
        service_account_selector=account_selector,
        ports=_ports(fields, "ports", protocol),
        not_ports=_ports(fields, "notPorts", protocol),
        service=service,
        domains=domains,
    )
    fields.close()
    if service is not None and (
        entity.ports
        or entity.not_ports
        or entity.nets
        or entity.not_nets
        or entity.selector
        or entity.not_selector
        or entity.namespace_selector
        or names
        or account_selector
    ):
        fields.report("services", service.name, "alone: a service brings its own addresses and ports")
    return entity


def _domains(fields: Fields) -> tuple[str, ...]:
    domains: list[str] = []
    for path, text in fields.texts("domains"):
        if _DOMAIN.fullmatch(text):
            domains.append(text.lower())
        else:
            fields.place.report(path, text, "a domain name such as api.example.com or *.example.com")
    return tuple(domains)


def _service(fields: Fields, namespace: str | None) -> ServiceName | None:
    if not fields.has("services"):
        fields.ignore("services")
        return None
    inner = fields.fields("services")
    name = inner.text("name")
    where = inner.text("namespace", namespace or "")
    if not name:
        inner.report("name", ABSENT, "the name of a Service")
    if not where:
        inner.report("namespace", ABSENT, "the namespace of the Service, as the policy has none")
    inner.close()
    return ServiceName(where, name)


def _ports(fields: Fields, name: str, protocol: int | None) -> tuple[PortRange | str, ...]:
    found: list[PortRange | str] = []
    for path, value in fields.items(name):
        port = read_port(value)
        if port is None:
            fields.place.report(path, value, _ACCEPTED_PORT)
        else:
            found.append(port)
    if found and protocol not in PORT_PROTOCOLS:
        fields.report(name, fields.values[name], "with protocol TCP, UDP or SCTP in the same rule only")
        return ()
    return tuple(found)


def read_port(value: Any) -> PortRange | str | None:
    """A port, a range ``low:high`` or a port name; None when it is neither."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return PortRange(value, value) if 0 <= value <= MAX_PORT else None
    if not isinstance(value, str):
        return None
    low, colon, high = value.partition(":")
    if low.isdecimal() and (not colon or high.isdecimal()):
        first, last = int(low), int(high or low)
        return PortRange(first, last) if first <= last <= MAX_PORT else None
    return value if _PORT_NAME.fullmatch(value) else None


def merged_ranges(ranges: Sequence[PortRange]) -> tuple[PortRange, ...]:
    """The fewest ranges with the same ports, ascending."""
    merged: list[PortRange] = []
    for each in sorted(ranges, key=lambda port: (port.low, port.high)):
        if merged and each.low <= merged[-1].high + 1:
            merged[-1] = PortRange(merged[-1].low, max(merged[-1].high, each.high))
        else:
            merged.append(each)
    return tuple(merged)
