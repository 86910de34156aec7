"""Kubernetes objects reduced to what joins and verdicts need: pure functions from manifest to inventory objects."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from tierflow.inventory.fields import (
    MalformedObject,
    address_of,
    labels_of,
    mapping,
    mappings,
    port_of,
    protocol_of,
    text,
    texts,
    time_ns,
    unique,
)
from tierflow.inventory.names import Naming, calico_name
from tierflow.policy.resources import parse_documents
from tierflow.policy.services import SERVICE_LABEL, from_selector
from tierflow.schemas import inventory as topic
from tierflow.schemas import metrics

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
_FLANNEL_BACKEND: Final = "flannel.alpha.coreos.com/backend-type"
_CALICO_ADDRESS_ANNOTATIONS: Final = ("projectcalico.org/IPv4Address", "projectcalico.org/IPv6Address")


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


POLICIES_LEFT_OUT: Final = metrics.gauge(
    "tierflow_inventory_policies_left_out", "policies",
    "Policies that exist and can't be used: verdicts are as if they didn't, and uncertain where they would apply.",
)  # fmt: skip


def consequence(kind: Kind) -> str:
    """What follows from leaving an object of a kind out, to stand behind the reason; ``""`` where that is plain."""
    if kind.becomes[0] != topic.POLICY:
        return ""
    return "; verdicts are as if it didn't exist, and uncertain where it would apply"


def reduce(kind: Kind, manifest: dict[str, Any], naming: Naming = calico_name) -> Reduced:
    """The inventory object of a manifest; ``naming`` gives pods their aggregated names.

    Raises:
        MalformedObject: a field that is needed is missing or wrong.
    """
    metadata = mapping(manifest, "metadata", "metadata")
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
    labels_of(metadata, "metadata.labels")
    become = kind.becomes[0]
    if kind.name == "Pod":
        return Reduced(become, key, _pod_began(manifest, metadata), _pod(manifest, metadata, namespace, naming))
    makers = {"Node": _node, "Service": _service, "EndpointSlice": _endpoint_slice}
    maker = makers.get(kind.name, _plain)
    began = time_ns(metadata.get("creationTimestamp"), "metadata.creationTimestamp")
    return Reduced(become, key, began, maker(kind, manifest, metadata))


def _pod_began(manifest: dict[str, Any], metadata: dict[str, Any]) -> int | None:
    started = time_ns(mapping(manifest, "status", "status").get("startTime"), "status.startTime")
    return started or time_ns(metadata.get("creationTimestamp"), "metadata.creationTimestamp")


def _pod(manifest: dict[str, Any], metadata: dict[str, Any], namespace: str, naming: Naming) -> dict[str, Any] | None:
    spec, status = mapping(manifest, "spec", "spec"), mapping(manifest, "status", "status")
    # A pod that ended has given its address back; one on the host's network never had its own.
    if status.get("phase") in ("Succeeded", "Failed") or spec.get("hostNetwork"):
        return None
    several = mappings(status, "podIPs", "status.podIPs")
    addresses = unique(address_of(each.get("ip"), f"status.podIPs[{i}].ip") for i, each in enumerate(several))
    if not addresses and status.get("podIP"):
        addresses = [address_of(status["podIP"], "status.podIP")]
    if not addresses:
        return None
    return {
        "type": "wep",
        "namespace": namespace,
        "name": metadata["name"],
        "labels": labels_of(metadata, "metadata.labels"),
        "service_account": text(spec, "serviceAccountName", "spec.serviceAccountName")
        or text(spec, "serviceAccount", "spec.serviceAccount")
        or "default",
        "named_ports": sorted(_named_ports(spec)),
        "addresses": addresses,
        "node": text(spec, "nodeName", "spec.nodeName"),
        "name_aggr": naming(manifest),
        "policed": True,
    }


def _named_ports(spec: dict[str, Any]) -> Iterator[tuple[str, int, int]]:
    for i, container in enumerate(mappings(spec, "containers", "spec.containers")):
        for j, port in enumerate(mappings(container, "ports", f"spec.containers[{i}].ports")):
            if port.get("name"):
                path = f"spec.containers[{i}].ports[{j}]"
                yield (
                    str(port["name"]),
                    protocol_of(port, path),
                    port_of(port.get("containerPort"), f"{path}.containerPort"),
                )


def _node(kind: Kind, manifest: dict[str, Any], metadata: dict[str, Any]) -> dict[str, Any]:
    del kind
    status = mapping(manifest, "status", "status")
    addresses = [
        address_of(each.get("address"), f"status.addresses[{i}].address")
        for i, each in enumerate(mappings(status, "addresses", "status.addresses"))
        if each.get("type") in ("InternalIP", "ExternalIP")
    ]
    annotations = mapping(metadata, "annotations", "metadata.annotations")
    addresses += [
        address_of(str(annotations[name]).partition("/")[0], f"metadata.annotations[{name}]")
        for name in (*_TUNNEL_ANNOTATIONS, *_CALICO_ADDRESS_ANNOTATIONS)
        if annotations.get(name)
    ]
    addresses += _of_pod_network(mapping(manifest, "spec", "spec"), annotations)
    return {
        "name": metadata["name"],
        "labels": labels_of(metadata, "metadata.labels"),
        "addresses": unique(iter(addresses)),
    }


def _of_pod_network(spec: dict[str, Any], annotations: dict[str, Any]) -> Iterator[str]:
    """The node's own addresses in its pods' network: the gateway that host-local gives out, and Flannel's tunnel.

    Where another allocates the addresses (Calico's blocks), a pod may have one of these; it comes first, because it
    began later than the node.
    """
    ranges = texts(spec, "podCIDRs", "spec.podCIDRs") or [text(spec, "podCIDR", "spec.podCIDR")]
    for i, cidr in enumerate(each for each in ranges if each):
        try:
            network = ipaddress.ip_network(cidr, strict=False)
        except ValueError as error:
            raise MalformedObject(f"spec.podCIDRs[{i}]", cidr, "an IPv4 or IPv6 prefix") from error
        if annotations.get(_FLANNEL_BACKEND) == "vxlan":
            yield str(network.network_address)
        if network.num_addresses > 2:
            yield str(network.network_address + 1)


def _endpoint_slice(kind: Kind, manifest: dict[str, Any], metadata: dict[str, Any]) -> dict[str, Any] | None:
    """Backends of a Service as kube-proxy takes them: those that are ready, else those that still serve.

    ``rule_addresses`` are what rules that name the Service match beside its selector's pods (tierflow.policy.services);
    slices made from the selector have none.
    """
    del kind
    labels = labels_of(metadata, "metadata.labels")
    service = labels.get(SERVICE_LABEL)
    if not service or manifest.get("addressType") == "FQDN":
        return None
    ready, serving, every = [], [], []
    for i, endpoint in enumerate(mappings(manifest, "endpoints", "endpoints")):
        found = texts(endpoint, "addresses", f"endpoints[{i}].addresses")
        addresses = [address_of(each, f"endpoints[{i}].addresses[{j}]") for j, each in enumerate(found)]
        conditions = mapping(endpoint, "conditions", f"endpoints[{i}].conditions")
        every += addresses
        # An endpoint's addresses are interchangeable; consumers use the first (discovery.k8s.io/v1).
        if conditions.get("ready") is not False:
            ready += addresses[:1]
        elif conditions.get("serving"):
            serving += addresses[:1]
    ports = [
        {
            "name": text(port, "name", f"ports[{i}].name"),
            "protocol": protocol_of(port, f"ports[{i}]"),
            "port": port_of(port["port"], f"ports[{i}].port"),
        }
        for i, port in enumerate(mappings(manifest, "ports", "ports"))
        if port.get("port") is not None
    ]
    reduced = {
        "namespace": metadata.get("namespace") or "default",
        "service": service,
        "backends": sorted(unique(ready or serving)),
        "ports": ports,
    }
    return reduced if from_selector(labels) else reduced | {"rule_addresses": sorted(unique(every))}


def _service(kind: Kind, manifest: dict[str, Any], metadata: dict[str, Any]) -> dict[str, Any]:
    spec = mapping(manifest, "spec", "spec")
    ports = [
        {
            "name": text(port, "name", f"spec.ports[{i}].name"),
            "protocol": protocol_of(port, f"spec.ports[{i}]"),
            "port": port_of(port.get("port"), f"spec.ports[{i}].port"),
            "node_port": port_of(port["nodePort"], f"spec.ports[{i}].nodePort") if port.get("nodePort") else 0,
        }
        for i, port in enumerate(mappings(spec, "ports", "spec.ports"))
    ]
    balancer = mapping(mapping(manifest, "status", "status"), "loadBalancer", "status.loadBalancer")
    several = texts(spec, "clusterIPs", "spec.clusterIPs")
    fields: list[tuple[str, object]] = [("spec.clusterIPs", each) for each in several]
    fields += [] if several else [("spec.clusterIP", spec.get("clusterIP"))]
    fields += [("spec.externalIPs", each) for each in texts(spec, "externalIPs", "spec.externalIPs")]
    fields += [
        # A balancer that has only a name is not found by address.
        ("status.loadBalancer.ingress", each.get("ip"))
        for each in mappings(balancer, "ingress", "status.loadBalancer.ingress")
    ]
    addresses = unique(address_of(value, path) for path, value in fields if value not in (None, "", "None"))
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
    spec = mapping(manifest, "spec", "spec")
    if kind.becomes[0] == topic.NETWORK_SET:
        _check_nets(spec)
    if spec:
        stripped["spec"] = spec
    if kind.becomes[0] == topic.POLICY:
        _check_policy(stripped)
    return stripped


def _check_policy(manifest: dict[str, Any]) -> None:
    """Refuse a policy as a whole for anything that is wrong in it.

    So does Calico's Felix (its validation filter treats what doesn't pass as missing), and leaving out one rule would
    shift what the rules behind it decide.
    """
    _, problems = parse_documents([("", 0, manifest)])
    for problem in problems:
        # Whether the tier exists is not for one object alone to say.
        if problem.field != "spec.tier":
            raise MalformedObject(problem.field, problem.value, problem.accepted, shown=problem.value)


def _check_nets(spec: dict[str, Any]) -> None:
    nets = spec.get("nets") or []
    if not isinstance(nets, list):
        raise MalformedObject("spec.nets", nets, "a list of prefixes")
    for i, net in enumerate(nets):
        try:
            ipaddress.ip_network(net if isinstance(net, str) else "", strict=False)
        except ValueError as error:
            raise MalformedObject(f"spec.nets[{i}]", net, "an IPv4 or IPv6 prefix") from error
