"""Kubernetes objects reduced to what joins and verdicts need: pure functions from manifest to inventory objects."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from tierflow.policy.resources import parse_documents
from tierflow.schemas import inventory as topic
from tierflow.schemas.clock import NS_PER_S
from tierflow.schemas.record import PROTOCOL_NUMBERS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tierflow.inventory.kinds import Kind

_TUNNEL_ANNOTATIONS: Final = (
    "projectcalico.org/IPv4IPIPTunnelAddr",
    "projectcalico.org/IPv4VXLANTunnelAddr",
    "projectcalico.org/IPv6VXLANTunnelAddr",
    "projectcalico.org/IPv4WireguardInterfaceAddr",
    "projectcalico.org/IPv6WireguardInterfaceAddr",
)
_CALICO_ADDRESS_ANNOTATIONS: Final = ("projectcalico.org/IPv4Address", "projectcalico.org/IPv6Address")


class MalformedObject(ValueError):
    """An object can't be used.

    Attributes:
        field: path of the field at fault.
        found: what stands there.
        accepted: what may stand there.
    """

    def __init__(self, field: str, found: object, accepted: str) -> None:
        super().__init__(f"{field} is {found!r}; accepted: {accepted}")
        self.field, self.found, self.accepted = field, found, accepted


@dataclass(frozen=True, slots=True)
class Reduced:
    """One inventory object made of a manifest.

    Attributes:
        kind: kind of inventory message.
        key: identity within the kind.
        began_ns: since when the object says that it is so, None where it doesn't say.
        object: its content; None when it has none at present (a pod without an address, or one that has ended).
    """

    kind: str
    key: str
    began_ns: int | None
    object: dict[str, Any] | None


def object_key(kind: Kind, namespace: str, name: str) -> str:
    """The identity of an object: two groups may have kinds of the same name."""
    group = kind.group_versions[0].rpartition("/")[0]
    return f"{group}/{kind.name}/{namespace}/{name}" if group else f"{kind.name}/{namespace}/{name}"


def reduce(kind: Kind, manifest: dict[str, Any]) -> Reduced:
    """The inventory object of a manifest.

    Raises:
        MalformedObject: a field that is needed is missing or wrong.
    """
    metadata = _mapping(manifest, "metadata", "metadata")
    name = metadata.get("name")
    if not isinstance(name, str) or not name:
        raise MalformedObject("metadata.name", name, "a name")
    if "|" in name:
        raise MalformedObject("metadata.name", name, "a name without '|'")
    namespace = metadata.get("namespace")
    if kind.namespaced:
        namespace = "default" if namespace is None else namespace
        if not isinstance(namespace, str) or not namespace:
            raise MalformedObject("metadata.namespace", namespace, "a namespace's name")
    else:
        namespace = ""
    key = object_key(kind, namespace, name)
    _labels(metadata, "metadata.labels")
    become = kind.becomes[0]
    if kind.name == "Pod":
        return Reduced(become, key, _pod_began(manifest, metadata), _pod(manifest, metadata, namespace, name))
    makers = {"Node": _node, "Service": _service}
    maker = makers.get(kind.name, _plain)
    began = _time(metadata.get("creationTimestamp"), "metadata.creationTimestamp")
    return Reduced(become, key, began, maker(kind, manifest, metadata))


def _mapping(parent: dict[str, Any], field: str, path: str) -> dict[str, Any]:
    value = parent.get(field)
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise MalformedObject(path, value, "a mapping from names")
    return value


def _list(parent: dict[str, Any], field: str, path: str) -> list[dict[str, Any]]:
    value = parent.get(field)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        raise MalformedObject(path, value, "a list of mappings")
    return value


def _labels(metadata: dict[str, Any], path: str) -> dict[str, str]:
    labels = _mapping(metadata, "labels", path)
    for key, value in labels.items():
        if not isinstance(value, str):
            raise MalformedObject(f"{path}.{key}", value, "text (quote it in YAML)")
    return labels


def _time(value: object, path: str) -> int | None:
    if value is None:
        return None
    try:
        parsed = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    except ValueError as error:
        raise MalformedObject(path, value, "a time such as 2026-01-31T12:00:00Z") from error
    parsed = parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)
    return int(parsed.timestamp() * 1_000_000) * (NS_PER_S // 1_000_000)


def _address(value: object, path: str) -> str:
    try:
        return str(ipaddress.ip_address(value if isinstance(value, str) else ""))
    except ValueError as error:
        raise MalformedObject(path, value, "an IPv4 or IPv6 address") from error


def _unique(addresses: Iterator[str]) -> list[str]:
    return list(dict.fromkeys(addresses))


def _pod_began(manifest: dict[str, Any], metadata: dict[str, Any]) -> int | None:
    started = _time(_mapping(manifest, "status", "status").get("startTime"), "status.startTime")
    return started or _time(metadata.get("creationTimestamp"), "metadata.creationTimestamp")


def _pod(manifest: dict[str, Any], metadata: dict[str, Any], namespace: str, name: str) -> dict[str, Any] | None:
    spec, status = _mapping(manifest, "spec", "spec"), _mapping(manifest, "status", "status")
    # A pod that ended has given its address back; one on the host's network never had its own.
    if status.get("phase") in ("Succeeded", "Failed") or spec.get("hostNetwork"):
        return None
    several = _list(status, "podIPs", "status.podIPs")
    addresses = _unique(_address(each.get("ip"), f"status.podIPs[{i}].ip") for i, each in enumerate(several))
    if not addresses and status.get("podIP"):
        addresses = [_address(status["podIP"], "status.podIP")]
    if not addresses:
        return None
    return {
        "type": "wep",
        "namespace": namespace,
        "name": name,
        "labels": _labels(metadata, "metadata.labels"),
        "service_account": spec.get("serviceAccountName") or spec.get("serviceAccount") or "default",
        "named_ports": sorted(_named_ports(spec)),
        "addresses": addresses,
        "node": spec.get("nodeName") or "",
        "name_aggr": _name_aggr(metadata, name),
        "policed": True,
    }


def _named_ports(spec: dict[str, Any]) -> Iterator[tuple[str, int, int]]:
    for i, container in enumerate(_list(spec, "containers", "spec.containers")):
        for j, port in enumerate(_list(container, "ports", f"spec.containers[{i}].ports")):
            if port.get("name"):
                path = f"spec.containers[{i}].ports[{j}]"
                yield (
                    str(port["name"]),
                    _protocol(port, path),
                    _port(port.get("containerPort"), f"{path}.containerPort"),
                )


def _protocol(port: dict[str, Any], path: str) -> int:
    name = port.get("protocol") or "TCP"
    number = PROTOCOL_NUMBERS.get(str(name).lower())
    if number is None:
        raise MalformedObject(f"{path}.protocol", name, "TCP, UDP or SCTP")
    return number


def _port(value: object, path: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 65536:
        raise MalformedObject(path, value, "a port from 1 to 65535")
    return value


def _name_aggr(metadata: dict[str, Any], name: str) -> str:
    """Calico's aggregated name: ``generateName`` with a star, else the bare name."""
    prefix = metadata.get("generateName")
    return f"{prefix}*" if isinstance(prefix, str) and prefix else name


def _node(kind: Kind, manifest: dict[str, Any], metadata: dict[str, Any]) -> dict[str, Any]:
    del kind
    status = _mapping(manifest, "status", "status")
    addresses = [
        _address(each.get("address"), f"status.addresses[{i}].address")
        for i, each in enumerate(_list(status, "addresses", "status.addresses"))
        if each.get("type") in ("InternalIP", "ExternalIP")
    ]
    annotations = _mapping(metadata, "annotations", "metadata.annotations")
    addresses += [
        _address(str(annotations[name]).partition("/")[0], f"metadata.annotations[{name}]")
        for name in (*_TUNNEL_ANNOTATIONS, *_CALICO_ADDRESS_ANNOTATIONS)
        if annotations.get(name)
    ]
    return {
        "name": metadata["name"],
        "labels": _labels(metadata, "metadata.labels"),
        "addresses": _unique(iter(addresses)),
    }


def _service(kind: Kind, manifest: dict[str, Any], metadata: dict[str, Any]) -> dict[str, Any]:
    spec = _mapping(manifest, "spec", "spec")
    ports = [
        {
            "name": str(port.get("name") or ""),
            "protocol": _protocol(port, f"spec.ports[{i}]"),
            "port": _port(port.get("port"), f"spec.ports[{i}].port"),
            "node_port": _port(port["nodePort"], f"spec.ports[{i}].nodePort") if port.get("nodePort") else 0,
        }
        for i, port in enumerate(_list(spec, "ports", "spec.ports"))
    ]
    balancer = _mapping(_mapping(manifest, "status", "status"), "loadBalancer", "status.loadBalancer")
    several = spec.get("clusterIPs")
    fields = [("spec.clusterIPs", each) for each in several] if several else [("spec.clusterIP", spec.get("clusterIP"))]
    fields += [("spec.externalIPs", each) for each in spec.get("externalIPs") or []]
    fields += [
        ("status.loadBalancer.ingress", each.get("ip"))
        for each in _list(balancer, "ingress", "status.loadBalancer.ingress")
    ]
    addresses = _unique(_address(value, path) for path, value in fields if value not in (None, "", "None"))
    return {
        "name": metadata["name"],
        "namespace": metadata.get("namespace") or "default",
        "addresses": addresses,
        "ports": ports,
        "manifest": _plain(kind, manifest, metadata),
    }


def _plain(kind: Kind, manifest: dict[str, Any], metadata: dict[str, Any]) -> dict[str, Any]:
    """The manifest without status and bookkeeping, in the spelling of ``projectcalico.org/v3``."""
    kept: dict[str, Any] = {"name": metadata["name"]}
    if kind.namespaced:
        kept["namespace"] = metadata.get("namespace") or "default"
    if metadata.get("labels"):
        kept["labels"] = metadata["labels"]
    version = manifest.get("apiVersion")
    if not isinstance(version, str) or version.startswith("crd."):
        # Items of a list don't say it; Calico's storage version has the same fields as v3.
        version = kind.group_versions[0]
    stripped: dict[str, Any] = {"apiVersion": version, "kind": kind.name, "metadata": kept}
    spec = _mapping(manifest, "spec", "spec")
    if kind.becomes[0] == topic.NETWORK_SET:
        _check_nets(spec)
    if spec:
        stripped["spec"] = spec
    if kind.becomes[0] == topic.POLICY:
        _check_policy(stripped)
    return stripped


def _check_policy(manifest: dict[str, Any]) -> None:
    _, problems = parse_documents([("", 0, manifest)])
    for problem in problems:
        # Whether the tier exists is not for one object alone to say.
        if problem.field != "spec.tier":
            raise MalformedObject(problem.field, problem.value, problem.accepted)


def _check_nets(spec: dict[str, Any]) -> None:
    nets = spec.get("nets") or []
    if not isinstance(nets, list):
        raise MalformedObject("spec.nets", nets, "a list of prefixes")
    for i, net in enumerate(nets):
        try:
            ipaddress.ip_network(net if isinstance(net, str) else "", strict=False)
        except ValueError as error:
            raise MalformedObject(f"spec.nets[{i}]", net, "an IPv4 or IPv6 prefix") from error
