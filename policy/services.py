"""Services as rules name them, and the EndpointSlices that give them addresses of their own.

Calico's Felix takes a Service's addresses from its EndpointSlices alone, whether an endpoint is ready or not
(``felix/serviceindex``). Those that Kubernetes makes from the selector say what the selector says; here the selector
stands for them, so that an endpoint's class decides and a pod that becomes ready makes no new policy version.
"""

from __future__ import annotations

import dataclasses
import ipaddress
from typing import TYPE_CHECKING, Final

from tierflow.policy.document import ABSENT, Fields
from tierflow.policy.kubernetes import PROTOCOLS
from tierflow.policy.model import Backends, PortRange, Service
from tierflow.policy.ports import MAX_PORT, read_port

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

ServiceKey = tuple[str, str]
"""(namespace, name)."""

SERVICE_LABEL: Final = "kubernetes.io/service-name"
"""Names the Service of an EndpointSlice."""
_MANAGED_BY: Final = "endpointslice.kubernetes.io/managed-by"
_FROM_SELECTOR: Final = "endpointslice-controller.k8s.io"


def from_selector(labels: Mapping[str, object]) -> bool:
    """Whether Kubernetes' controller made the EndpointSlice with these labels from its Service's selector."""
    return labels.get(_MANAGED_BY) == _FROM_SELECTOR


def with_backends(services: Iterable[Service], backends: Iterable[tuple[ServiceKey, Backends]]) -> tuple[Service, ...]:
    """The Services, each with its backends; slices whose Service isn't there make one without ports, as in Felix."""
    found: dict[ServiceKey, list[Backends]] = {}
    for key, each in backends:
        found.setdefault(key, []).append(each)
    known = [
        dataclasses.replace(each, backends=tuple(own))
        if (own := found.pop((each.namespace, each.name), None))
        else each
        for each in services
    ]
    return (*known, *(Service(*key, (), (), tuple(own)) for key, own in found.items()))


def read_endpoint_slice(top: Fields, metadata: Fields) -> tuple[ServiceKey, Backends] | None:
    """What an EndpointSlice gives to which Service; None for one of names, of no Service, or made from a selector."""
    labels = metadata.labels("labels")
    service = labels.get(SERVICE_LABEL)
    addresses: list[str] = []
    if top.text("addressType") == "FQDN" or not service or from_selector(labels):
        return None
    for path, value in top.items("endpoints"):
        for at, text in Fields(top.place, path, value).texts("addresses"):
            try:
                addresses.append(str(ipaddress.ip_address(text)))
            except ValueError:
                top.place.report(at, text, "an IP address")
    ports: list[tuple[str, int, int]] = []
    for path, value in top.items("ports"):
        inner = Fields(top.place, path, value)
        protocol = PROTOCOLS[inner.choice("protocol", tuple(PROTOCOLS), "TCP")]
        number = inner.integer("port", 1, MAX_PORT)
        # Without a number it stands for no port at all, as in Felix.
        if number is not None:
            ports.append((inner.text("name"), protocol, number))
    namespace = metadata.text("namespace", "default")
    return (namespace, service), Backends(tuple(dict.fromkeys(addresses)), tuple(ports))


def read_service(top: Fields, metadata: Fields) -> Service:
    """A Service."""
    spec = top.fields("spec")
    selector = tuple(sorted(spec.labels("selector").items()))
    ports: list[tuple[str, int, int, int | str]] = []
    for path, value in spec.items("ports"):
        inner = Fields(top.place, path, value)
        number = inner.integer("port", 1, MAX_PORT)
        if not inner.has("port"):
            inner.report("port", ABSENT, f"an integer from 1 to {MAX_PORT}")
        protocol = PROTOCOLS[inner.choice("protocol", tuple(PROTOCOLS), "TCP")]
        target = _target(inner)
        if number is not None:
            ports.append((inner.text("name"), protocol, number, number if target is None else target))
    return Service(metadata.text("namespace", "default"), metadata.text("name"), selector, tuple(ports))


def _target(inner: Fields) -> int | str | None:
    value = inner.take("targetPort")
    if value is ABSENT:
        return None
    port = read_port(value)
    if isinstance(port, PortRange) and port.low == port.high:
        return port.low
    if isinstance(port, str):
        return port
    inner.report("targetPort", value, f"a port from 1 to {MAX_PORT} or a port name")
    return None
