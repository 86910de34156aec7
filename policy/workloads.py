"""The pods that manifests describe, running or not: Pods, and one for each template of a controller."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from tierflow.policy.model import Endpoint
from tierflow.policy.ports import read_protocol

if TYPE_CHECKING:
    from collections.abc import Iterable

CONTROLLERS: Final = ("Deployment", "DaemonSet", "StatefulSet", "ReplicaSet", "Job")


def read_workloads(documents: Iterable[Any]) -> tuple[Endpoint, ...]:
    """Endpoints of the workloads among manifests, by the name of the controller or pod; wrong ones are left out."""
    found: list[Endpoint] = []
    for document in documents:
        if not isinstance(document, dict) or not isinstance(document.get("spec"), dict):
            continue
        metadata = document.get("metadata") or {}
        kind = document.get("kind")
        if kind == "Pod":
            found.append(_endpoint(metadata, metadata, document["spec"], document.get("status") or {}))
        elif kind in CONTROLLERS:
            template = document["spec"].get("template") or {}
            found.append(_endpoint(metadata, template.get("metadata") or {}, template.get("spec") or {}, {}))
    return tuple(found)


def _endpoint(
    metadata: dict[str, Any], template: dict[str, Any], spec: dict[str, Any], status: dict[str, Any]
) -> Endpoint:
    ports = tuple(
        (str(port["name"]), read_protocol(port.get("protocol", "TCP")) or 6, int(port["containerPort"]))
        for container in spec.get("containers") or ()
        for port in container.get("ports") or ()
        if port.get("name") and port.get("containerPort")
    )
    addresses = tuple(str(each["ip"]) for each in status.get("podIPs") or () if each.get("ip"))
    return Endpoint(
        "wep",
        str(metadata.get("namespace") or "default"),
        str(metadata.get("name", "")),
        {str(key): str(value) for key, value in (template.get("labels") or {}).items()},
        str(spec.get("serviceAccountName") or "default"),
        ports,
        addresses,
    )
