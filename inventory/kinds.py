"""The kinds of objects that the inventory reads, and how each is reduced to the fields in use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tierflow.schemas import inventory as topic

CALICO_GROUPS: Final = ("projectcalico.org/v3", "crd.projectcalico.org/v1")
"""Where Calico's objects are read from; the first that the cluster serves is taken."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of Kubernetes object.

    Attributes:
        name: ``kind`` of the manifest.
        group_versions: accepted ``apiVersion``, in order of preference.
        plural: its name in the API's paths.
        namespaced: whether it lives in a namespace.
        becomes: kinds of inventory messages made of it.
    """

    name: str
    group_versions: tuple[str, ...]
    plural: str
    namespaced: bool
    becomes: tuple[str, ...]


def _calico(name: str, plural: str, *, namespaced: bool, becomes: str = topic.POLICY) -> Kind:
    return Kind(name, CALICO_GROUPS, plural, namespaced, (becomes,))


_GROUP: Final = "policy.networking.k8s.io"
_CLUSTER_POLICY: Final = (f"{_GROUP}/v1", f"{_GROUP}/v1beta1", f"{_GROUP}/v1alpha2")
_ADMIN_POLICY: Final = (f"{_GROUP}/v1alpha1",)

KINDS: Final = (
    Kind("Namespace", ("v1",), "namespaces", False, (topic.NAMESPACE,)),
    Kind("Node", ("v1",), "nodes", False, (topic.NODE,)),
    Kind("ServiceAccount", ("v1",), "serviceaccounts", True, (topic.SERVICE_ACCOUNT,)),
    Kind("Service", ("v1",), "services", True, (topic.SERVICE,)),
    Kind("EndpointSlice", ("discovery.k8s.io/v1",), "endpointslices", True, (topic.ENDPOINT_SLICE,)),
    Kind("Pod", ("v1",), "pods", True, (topic.ENDPOINT,)),
    Kind("NetworkPolicy", ("networking.k8s.io/v1",), "networkpolicies", True, (topic.POLICY,)),
    Kind("ClusterNetworkPolicy", _CLUSTER_POLICY, "clusternetworkpolicies", False, (topic.POLICY,)),
    Kind("AdminNetworkPolicy", _ADMIN_POLICY, "adminnetworkpolicies", False, (topic.POLICY,)),
    Kind("BaselineAdminNetworkPolicy", _ADMIN_POLICY, "baselineadminnetworkpolicies", False, (topic.POLICY,)),
    _calico("Tier", "tiers", namespaced=False),
    _calico("NetworkPolicy", "networkpolicies", namespaced=True),
    _calico("GlobalNetworkPolicy", "globalnetworkpolicies", namespaced=False),
    _calico("StagedNetworkPolicy", "stagednetworkpolicies", namespaced=True),
    _calico("StagedGlobalNetworkPolicy", "stagedglobalnetworkpolicies", namespaced=False),
    _calico("StagedKubernetesNetworkPolicy", "stagedkubernetesnetworkpolicies", namespaced=True),
    _calico("Profile", "profiles", namespaced=False),
    _calico("HostEndpoint", "hostendpoints", namespaced=False),
    _calico("NetworkSet", "networksets", namespaced=True, becomes=topic.NETWORK_SET),
    _calico("GlobalNetworkSet", "globalnetworksets", namespaced=False, becomes=topic.NETWORK_SET),
)

_BY_TYPE: Final = {(version, kind.name): kind for kind in KINDS for version in kind.group_versions}


def kind_of(api_version: object, name: object) -> Kind | None:
    """The kind with this ``apiVersion`` and ``kind``; None for one that the inventory doesn't read."""
    return _BY_TYPE.get((api_version, name)) if isinstance(api_version, str) and isinstance(name, str) else None
