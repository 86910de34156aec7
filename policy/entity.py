"""One side of one of Calico's rules as written, checked and defaulted."""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING, Final

from tierflow.policy.document import ABSENT
from tierflow.policy.model import EntityRule, PortRange, ServiceName
from tierflow.policy.ports import ACCEPTED_PORT, PORT_PROTOCOLS, read_port
from tierflow.policy.selector import Global, SelectorError, nodes, parse_selector

if TYPE_CHECKING:
    from tierflow.policy.document import Fields

DOMAIN: Final = re.compile(r"([a-zA-Z0-9_-]+\.)*(\*\.)?([a-zA-Z0-9_-]+\.)*[a-zA-Z0-9_-]+")
ACCEPTED_DOMAIN: Final = "a domain name such as api.example.com, *.example.com or www.*.com, with one * at most"

_CATCH_ALL: Final = ("0.0.0.0/0", "::/0")


def read_selector(fields: Fields, name: str, *, may_be_global: bool = False) -> str:
    """The text of a selector that parses; empty when absent or wrong.

    ``global()`` has a meaning in the namespaceSelector of a rule only, and there it stands alone.
    """
    text = fields.text(name)
    try:
        node = parse_selector(text)
    except SelectorError as error:
        fields.report(name, text, f"{error.expected} at position {error.position}")
        return ""
    alone = may_be_global and isinstance(node, Global)
    if not alone and any(isinstance(each, Global) for each in nodes(node)):
        fields.report(name, text, "global() alone, in the namespaceSelector of a rule only")
        return ""
    return text


def read_entity(
    fields: Fields, namespace: str | None, protocol: int | None, *, domain_action: str | None, with_ports: bool
) -> EntityRule:
    """One side of a rule.

    Args:
        fields: the side.
        namespace: of the policy; None when it has none.
        protocol: of the rule.
        domain_action: the rule's action where domains may stand, as at the destination of egress rules; else None.
        with_ports: whether a service brings its own ports, as at the destination.
    """
    names: tuple[str, ...] = ()
    account_selector = ""
    if fields.has("serviceAccounts"):
        accounts = fields.fields("serviceAccounts")
        names = tuple(text for _, text in accounts.texts("names"))
        account_selector = read_selector(accounts, "selector")
        accounts.close()
    service = _service(fields, namespace)
    entity = EntityRule(
        nets=_nets(fields, "nets"),
        not_nets=_nets(fields, "notNets"),
        selector=read_selector(fields, "selector"),
        not_selector=read_selector(fields, "notSelector"),
        namespace_selector=read_selector(fields, "namespaceSelector", may_be_global=True),
        service_account_names=names,
        service_account_selector=account_selector,
        ports=_ports(fields, "ports", protocol),
        not_ports=_ports(fields, "notPorts", protocol),
        service=service,
        domains=_domains(fields, domain_action),
    )
    fields.ignore("serviceAccounts", "services")
    fields.close()
    if service is not None:
        _check_service_stands_alone(fields, service, with_ports=with_ports)
    return entity


def _check_service_stands_alone(fields: Fields, service: ServiceName, *, with_ports: bool) -> None:
    others = ["nets", "notNets", "selector", "notSelector", "namespaceSelector", "serviceAccounts", "domains"]
    beside = [name for name in others + (["ports", "notPorts"] if with_ports else []) if fields.values.get(name)]
    if beside:
        fields.report("services", service.name, f"without {', '.join(beside)}: a service brings its own addresses")


def _nets(fields: Fields, name: str) -> tuple[str, ...]:
    """CIDRs of a rule; unlike a network set's they have a length, and no bits beyond it."""
    nets: list[str] = []
    for path, text in fields.texts(name):
        try:
            net = str(ipaddress.ip_network(text if "/" in text else ""))
        except ValueError:
            fields.place.report(path, text, "a CIDR such as 10.0.0.0/8, with no bits set beyond its length")
            continue
        nets.append(net)
        if name == "notNets" and net in _CATCH_ALL:
            fields.place.report(path, text, "less than all addresses: the rule would match nothing")
    return tuple(nets)


def _domains(fields: Fields, action: str | None) -> tuple[str, ...]:
    if not fields.has("domains"):
        fields.ignore("domains")
        return ()
    if action is None:
        fields.report("domains", fields.values["domains"], "in the destination of egress rules only")
    elif action != "Allow":
        fields.report("domains", fields.values["domains"], "in rules with action Allow only")
    beside = [name for name in ("nets", "selector") if fields.values.get(name)]
    if beside:
        fields.report("domains", fields.values["domains"], f"without {', '.join(beside)}")
    return read_domains(fields, "domains")


def read_domains(fields: Fields, name: str) -> tuple[str, ...]:
    """Domain names in lower case, ``*`` for one part or more."""
    domains: list[str] = []
    for path, text in fields.texts(name):
        if DOMAIN.fullmatch(text):
            domains.append(text.lower())
        else:
            fields.place.report(path, text, ACCEPTED_DOMAIN)
    return tuple(domains)


def _service(fields: Fields, namespace: str | None) -> ServiceName | None:
    if not fields.has("services"):
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
            fields.place.report(path, value, ACCEPTED_PORT)
        else:
            found.append(port)
    if protocol is None and any(isinstance(port, PortRange) for port in found):
        fields.report(name, fields.values[name], "port names only, or protocol TCP, UDP or SCTP in the same rule")
        return ()
    if found and protocol is not None and protocol not in PORT_PROTOCOLS:
        fields.report(name, fields.values[name], "with protocol TCP, UDP or SCTP only")
        return ()
    return tuple(found)
