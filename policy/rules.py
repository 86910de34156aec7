"""Calico's rules as written, checked and defaulted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tierflow.policy.document import ABSENT, Fields
from tierflow.policy.entity import read_entity
from tierflow.policy.metadata import check_annotations
from tierflow.policy.model import EGRESS, Icmp, Rule
from tierflow.policy.ports import ACCEPTED_PROTOCOL, read_protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

ACTIONS: Final = ("Allow", "Deny", "Pass", "Log")

_ICMP_VERSIONS: Final = {1: 4, 58: 6}


def read_rules(spec: Fields, name: str, direction: str, namespace: str | None) -> tuple[Rule, ...]:
    """The rules of a list field, in order; a mistake in one doesn't hide the next."""
    return tuple(_read_rule(Fields(spec.place, path, value), direction, namespace) for path, value in spec.items(name))


def _read_rule(fields: Fields, direction: str, namespace: str | None) -> Rule:
    protocol = _protocol(fields, "protocol")
    action = fields.choice("action", ACTIONS, "")
    domain_action = action if direction == EGRESS else None
    rule = Rule(
        action=action,
        protocol=protocol,
        not_protocol=_protocol(fields, "notProtocol"),
        icmp=_icmp(fields, "icmp"),
        not_icmp=_icmp(fields, "notICMP"),
        ip_version=_ip_version(fields),
        source=read_entity(fields.fields("source"), namespace, protocol, domain_action=None, with_ports=False),
        destination=read_entity(
            fields.fields("destination"), namespace, protocol, domain_action=domain_action, with_ports=True
        ),
        http=fields.has("http"),
    )
    _check_http(fields, direction, rule)
    metadata = fields.fields("metadata")
    check_annotations(metadata)
    metadata.close()
    fields.close()
    _check_icmp(fields, rule)
    _check_versions(fields, rule)
    _check_services(fields, direction, rule)
    return rule


def _protocol(fields: Fields, name: str) -> int | None:
    value = fields.take(name)
    if value is ABSENT:
        return None
    number = read_protocol(value)
    if number is None:
        fields.report(name, value, ACCEPTED_PROTOCOL)
    return number


def _ip_version(fields: Fields) -> int | None:
    value = fields.take("ipVersion")
    if value is ABSENT:
        return None
    if isinstance(value, bool) or value not in (4, 6):
        fields.report("ipVersion", value, "4 or 6")
        return None
    return int(value)


def _icmp(fields: Fields, name: str) -> Icmp | None:
    if not fields.has(name):
        fields.ignore(name)
        return None
    inner = fields.fields(name)
    # Type 255 isn't a type: upstream refuses it, for some kernels can't match it.
    found = Icmp(inner.integer("type", 0, 254), inner.integer("code", 0, 255))
    inner.close()
    if found.code is not None and found.type is None:
        inner.report("type", ABSENT, "an integer from 0 to 254, as there is a code")
    return found if found.type is not None else None


def _check_icmp(fields: Fields, rule: Rule) -> None:
    if fields.has("icmp") and rule.protocol not in _ICMP_VERSIONS:
        fields.report("icmp", fields.values["icmp"], "with protocol ICMP or ICMPv6 only")
    for protocol in (rule.protocol, rule.not_protocol):
        if rule.ip_version and _ICMP_VERSIONS.get(protocol or 0, rule.ip_version) != rule.ip_version:
            fields.report("ipVersion", rule.ip_version, "4 with ICMP, 6 with ICMPv6")


def _check_versions(fields: Fields, rule: Rule) -> None:
    """All networks of a rule are of one IP version, that of ``ipVersion`` if it is there."""
    wanted = rule.ip_version
    for path, net in _nets(fields):
        version = 6 if ":" in net else 4
        if wanted is None:
            wanted = version
        elif version != wanted:
            fields.report(path, net, f"an IPv{wanted} network, as the rule is for IPv{wanted}")


def _nets(fields: Fields) -> Iterator[tuple[str, str]]:
    for side in ("source", "destination"):
        entity = fields.values.get(side)
        for name in ("nets", "notNets"):
            nets = entity.get(name) if isinstance(entity, dict) else None
            for index, net in enumerate(nets if isinstance(nets, list) else ()):
                yield f"{side}.{name}[{index}]", str(net)


def _check_services(fields: Fields, direction: str, rule: Rule) -> None:
    if rule.source.service is not None and direction == EGRESS:
        fields.report("source.services", rule.source.service.name, "in ingress rules only")
    if rule.destination.service is not None and direction != EGRESS:
        fields.report("destination.services", rule.destination.service.name, "in egress rules only")


def _check_http(fields: Fields, direction: str, rule: Rule) -> None:
    if not rule.http:
        fields.ignore("http")
        return
    if direction == EGRESS:
        fields.report("http", fields.values["http"], "in ingress rules only")
    if rule.protocol not in (None, 6):
        fields.report("http", fields.values["http"], "with protocol TCP only")
    if rule.action != "Allow":
        fields.report("http", fields.values["http"], "in rules with action Allow only")
    http = fields.fields("http")
    methods = [text for _, text in http.texts("methods")]
    if len(set(methods)) < len(methods):
        http.report("methods", methods, "each method once")
    for path, value in http.items("paths"):
        _check_http_path(Fields(fields.place, path, value))
    http.close()


def _check_http_path(fields: Fields) -> None:
    exact, prefix = fields.text("exact"), fields.text("prefix")
    fields.close()
    if bool(exact) == bool(prefix):
        fields.place.report(fields.path, fields.values, "either exact or prefix")
    elif not (exact or prefix).startswith("/") or set("? #") & set(exact or prefix):
        fields.place.report(fields.path, exact or prefix, "a path that begins with / and has no blank, ? or #")
