"""Manifests to resources: finds out what each document is, and reports every mistake at once."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from tierflow.policy import calico, cluster_policy, endpoints, kubernetes
from tierflow.policy.document import ABSENT, Fields, Place, Problem
from tierflow.policy.metadata import read_labels
from tierflow.policy.model import Resources
from tierflow.policy.order import BUILT_IN
from tierflow.policy.services import read_endpoint_slice, read_service, with_backends

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tierflow.policy.model import Backends, HostEndpoint, NetworkSet, Policy, Profile, Service, Tier
    from tierflow.policy.services import ServiceKey

CALICO_VERSIONS: Final = ("projectcalico.org/v3", "crd.projectcalico.org/v1")

_CALICO: Final[dict[str, Callable[[Fields, Fields], object]]] = {
    "Tier": calico.read_tier,
    "NetworkPolicy": calico.read_policy,
    "GlobalNetworkPolicy": calico.read_policy,
    "StagedNetworkPolicy": calico.read_policy,
    "StagedGlobalNetworkPolicy": calico.read_policy,
    "StagedKubernetesNetworkPolicy": kubernetes.read_network_policy,
    "NetworkSet": endpoints.read_network_set,
    "GlobalNetworkSet": endpoints.read_network_set,
    "HostEndpoint": endpoints.read_host_endpoint,
    "Profile": endpoints.read_profile,
}
_CLUSTER_POLICIES: Final = {
    "AdminNetworkPolicy": ("policy.networking.k8s.io/v1alpha1",),
    "BaselineAdminNetworkPolicy": ("policy.networking.k8s.io/v1alpha1",),
    "ClusterNetworkPolicy": (
        "policy.networking.k8s.io/v1alpha2",
        "policy.networking.k8s.io/v1beta1",
        "policy.networking.k8s.io/v1",
    ),
}
NAMESPACED: Final = frozenset({"NetworkPolicy", "StagedNetworkPolicy", "StagedKubernetesNetworkPolicy", "NetworkSet"})


@dataclass(slots=True)
class _Found:
    tiers: dict[object, Tier] = field(default_factory=dict)
    policies: dict[object, Policy] = field(default_factory=dict)
    network_sets: dict[object, NetworkSet] = field(default_factory=dict)
    host_endpoints: dict[object, HostEndpoint] = field(default_factory=dict)
    profiles: dict[object, Profile] = field(default_factory=dict)
    namespaces: dict[str, dict[str, str]] = field(default_factory=dict)
    service_accounts: dict[tuple[str, str], dict[str, str]] = field(default_factory=dict)
    services: dict[object, Service] = field(default_factory=dict)
    backends: list[tuple[ServiceKey, Backends]] = field(default_factory=list)


def parse_documents(documents: Iterable[tuple[str, int, Any]]) -> tuple[Resources, list[Problem]]:
    """Read manifests.

    Documents of other kinds (Deployments and so on) are left to others; an unknown kind of Calico's own group is a
    problem. An object with problems is kept as far as it was understood, so that the rest is still checked; enforce
    nothing while there are problems.

    Args:
        documents: (file, 0-based position in the file, parsed YAML or JSON).

    Returns:
        The resources, and all problems in the order of the documents.
    """
    found = _Found()
    problems: list[Problem] = []
    policies: list[tuple[Policy, Place]] = []
    seen: dict[tuple[str, str, str, str], str] = {}
    for file, index, document in _flattened(documents):
        if document is None:
            continue
        place = Place(file, index, _object_name(document), problems)
        _read_document(document, place, found, policies, seen)
    written = {tier.name for tier in found.tiers.values()} | {tier.name for tier in BUILT_IN}
    for policy, place in policies:
        if policy.tier not in written:
            place.report("spec.tier", policy.tier, f"the name of a Tier; known here: {', '.join(sorted(written))}")
    return (
        Resources(
            tiers=tuple(found.tiers.values()),
            policies=tuple(found.policies.values()),
            network_sets=tuple(found.network_sets.values()),
            host_endpoints=tuple(found.host_endpoints.values()),
            profiles=tuple(found.profiles.values()),
            namespaces=found.namespaces,
            service_accounts=found.service_accounts,
            services=with_backends(found.services.values(), found.backends),
        ),
        problems,
    )


def _flattened(documents: Iterable[tuple[str, int, Any]]) -> Iterable[tuple[str, int, Any]]:
    for file, index, document in documents:
        items = document.get("items") if isinstance(document, dict) else None
        if isinstance(items, list) and str(document.get("kind", "")).endswith("List"):
            yield from ((file, index, item) for item in items)
        else:
            yield file, index, document


def _object_name(document: object) -> str:
    if not isinstance(document, dict):
        return "?"
    metadata = document.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    namespace = f"{metadata['namespace']}/" if metadata.get("namespace") else ""
    return f"{document.get('kind', '?')} {namespace}{metadata.get('name', '?')}"


def _read_document(
    document: object,
    place: Place,
    found: _Found,
    policies: list[tuple[Policy, Place]],
    seen: dict[tuple[str, str, str, str], str],
) -> None:
    top = Fields(place, "", document)
    if not isinstance(document, dict):
        return
    version, kind = top.text("apiVersion"), top.text("kind")
    if not kind:
        top.report("kind", ABSENT, "the kind of the object")
        return
    if not version:
        top.report("apiVersion", ABSENT, "the API group and version of the object")
        return
    reader = _reader(top, version, kind)
    if reader is None:
        return
    metadata = top.fields("metadata")
    name = metadata.text("name")
    namespace = metadata.text("namespace")
    if not name:
        metadata.report("name", ABSENT, "a name")
    namespaced = kind in NAMESPACED or kind in ("ServiceAccount", "Service", "EndpointSlice")
    if not namespaced and namespace:
        metadata.report("namespace", namespace, f"nothing: a {kind} belongs to no namespace")
    key = (version.partition("/")[0].removeprefix("crd."), kind, namespace or "default" if namespaced else "", name)
    if name and key in seen:
        place.report("metadata.name", name, f"a name used once; {seen[key]} has it already")
    seen[key] = f"{place.file} document {place.document}"
    made = reader(top, metadata)
    if kind == "Namespace":
        found.namespaces[name] = read_labels(metadata, "labels")
    elif kind == "ServiceAccount":
        found.service_accounts[namespace or "default", name] = read_labels(metadata, "labels")
    else:
        _keep(found, kind, key, made)
        if kind.endswith("Policy"):
            policies.append((found.policies[key], place))


def _keep(found: _Found, kind: str, key: object, made: Any) -> None:
    match kind:
        case "Tier":
            found.tiers[key] = made
        case "NetworkSet" | "GlobalNetworkSet":
            found.network_sets[key] = made
        case "HostEndpoint":
            found.host_endpoints[key] = made
        case "Profile":
            found.profiles[key] = made
        case "Service":
            found.services[key] = made
        case "EndpointSlice":
            found.backends += [made] if made is not None else []
        case _:
            found.policies[key] = made


def _reader(top: Fields, version: str, kind: str) -> Callable[[Fields, Fields], object] | None:
    group = version.partition("/")[0]
    if group in ("projectcalico.org", "crd.projectcalico.org"):
        if version not in CALICO_VERSIONS:
            top.report("apiVersion", version, ", ".join(CALICO_VERSIONS))
            return None
        if kind not in _CALICO:
            if kind.endswith(("Policy", "Set", "Tier")):
                top.report("kind", kind, ", ".join(_CALICO))
            return None
        return _CALICO[kind]
    if version == "networking.k8s.io/v1" and kind == "NetworkPolicy":
        return kubernetes.read_network_policy
    if kind == "NetworkPolicy":
        top.report("apiVersion", version, f"networking.k8s.io/v1, {', '.join(CALICO_VERSIONS)}")
        return None
    if kind in _CLUSTER_POLICIES:
        if version not in _CLUSTER_POLICIES[kind]:
            top.report("apiVersion", version, ", ".join(_CLUSTER_POLICIES[kind]))
            return None
        return cluster_policy.read_cluster_policy
    if version == "v1" and kind in ("Namespace", "ServiceAccount"):
        return lambda _top, _metadata: None
    if version == "v1" and kind == "Service":
        return read_service
    if version == "discovery.k8s.io/v1" and kind == "EndpointSlice":
        return read_endpoint_slice
    return None
