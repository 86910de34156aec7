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

ObjectKey = tuple[str, str, str, str]
"""(group, kind, namespace, name)."""


@dataclass(slots=True)
class _Found:
    tiers: dict[ObjectKey, Tier] = field(default_factory=dict)
    policies: dict[ObjectKey, Policy] = field(default_factory=dict)
    network_sets: dict[ObjectKey, NetworkSet] = field(default_factory=dict)
    host_endpoints: dict[ObjectKey, HostEndpoint] = field(default_factory=dict)
    profiles: dict[ObjectKey, Profile] = field(default_factory=dict)
    namespaces: dict[str, dict[str, str]] = field(default_factory=dict)
    service_accounts: dict[tuple[str, str], dict[str, str]] = field(default_factory=dict)
    services: dict[ObjectKey, Service] = field(default_factory=dict)
    backends: list[tuple[ServiceKey, Backends]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class ReadDocument:
    """One document by itself, read; it may be assembled with others again and again.

    Attributes:
        place: the document, with its problems.
        key: whose it is.
        made: what it says; None for another's kind, or one that isn't known.
    """

    place: Place
    key: ObjectKey
    made: Any


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
    return assemble(read_document(*each) for each in _flattened(documents) if each[2] is not None)


def assemble(documents: Iterable[ReadDocument]) -> tuple[Resources, list[Problem]]:
    """What documents make together; see :func:`parse_documents`."""
    found = _Found()
    problems: list[Problem] = []
    seen: dict[ObjectKey, Place] = {}
    for each in documents:
        problems += each.place.problems
        if each.made is None:
            continue
        name, before = each.key[3], seen.get(each.key)
        if name and before is not None:
            having = f"{before.file} document {before.document}"
            each.place.joining(problems).report("metadata.name", name, f"a name used once; {having} has it already")
        seen[each.key] = each.place
        _keep(found, each.key, each.made)
    written = {tier.name for tier in found.tiers.values()} | {tier.name for tier in BUILT_IN}
    for key, policy in found.policies.items():
        if policy.tier not in written:
            accepted = f"the name of a Tier; known here: {', '.join(sorted(written))}"
            seen[key].joining(problems).report("spec.tier", policy.tier, accepted)
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


def read_document(file: str, index: int, document: object) -> ReadDocument:
    """Read one document; see :func:`parse_documents`."""
    place = Place(file, index, _object_name(document))
    nothing = ReadDocument(place, ("", "", "", ""), None)
    top = Fields(place, "", document)
    if not isinstance(document, dict):
        return nothing
    version, kind = top.text("apiVersion"), top.text("kind")
    if not kind:
        top.report("kind", ABSENT, "the kind of the object")
        return nothing
    if not version:
        top.report("apiVersion", ABSENT, "the API group and version of the object")
        return nothing
    reader = _reader(top, version, kind)
    if reader is None:
        return nothing
    metadata = top.fields("metadata")
    name = metadata.text("name")
    namespace = metadata.text("namespace")
    if not name:
        metadata.report("name", ABSENT, "a name")
    namespaced = kind in NAMESPACED or kind in ("ServiceAccount", "Service", "EndpointSlice")
    if not namespaced and namespace:
        metadata.report("namespace", namespace, f"nothing: a {kind} belongs to no namespace")
    group = version.partition("/")[0].removeprefix("crd.")
    key = (group, kind, namespace or "default" if namespaced else "", name)
    return ReadDocument(place, key, reader(top, metadata))


def _keep(found: _Found, key: ObjectKey, made: Any) -> None:
    _, kind, namespace, name = key
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
            found.backends.append(made)
        case "Namespace":
            found.namespaces[name] = made
        case "ServiceAccount":
            found.service_accounts[namespace, name] = made
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
        return lambda _, metadata: read_labels(metadata, "labels")
    if version == "v1" and kind == "Service":
        return read_service
    if version == "discovery.k8s.io/v1" and kind == "EndpointSlice":
        return read_endpoint_slice
    return None
