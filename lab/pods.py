"""Pods as Kubernetes would make them from a Deployment, and their live objects for the inventory."""

from __future__ import annotations

import hashlib
import secrets
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import yaml

from tierflow.lab.manifests import SAFE_ALPHABET, Deployment
from tierflow.lab.record import NODE, Pod
from tierflow.schemas.clock import NS_PER_S
from tierflow.schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

    from tierflow.schemas.clock import Clock

LINK_PREFIX: Final = "tf"
PROGRAMS: Final = {"tierflow/storefront": "storefront.py", "tierflow/storefront-dns": "dns.py"}
"""The program that stands for a container image."""


def new_pod(deployment: Deployment, address: str, netns_prefix: str, clock: Clock, node: str = NODE) -> Pod:
    """A pod of a Deployment with a fresh name, on a node.

    Raises:
        ConfigurationError: a container's image is not one that the lab can run.
    """
    suffix = "".join(secrets.choice(SAFE_ALPHABET) for _ in range(5))
    name = f"{deployment.name}-{deployment.template_hash}-{suffix}"
    containers, ports = [], []
    for container in deployment.containers:
        image = str(container["image"]).split(":")[0]
        if image not in PROGRAMS:
            raise ConfigurationError(
                f"Deployment {deployment.namespace}/{deployment.name}: field spec.template.spec.containers.image: "
                f"{image} can't run in the lab; accepted: {', '.join(PROGRAMS)}"
            )
        arguments = tuple(str(argument) for argument in container.get("args", ()))
        containers.append((str(container["name"]), PROGRAMS[image], arguments))
        ports += [
            (str(port.get("name", "")), str(port.get("protocol", "TCP")), int(port["containerPort"]))
            for port in container.get("ports", ())
        ]
    return Pod(
        namespace=deployment.namespace,
        name=name,
        deployment=deployment.name,
        netns=netns_prefix + name,
        link=link_name(LINK_PREFIX, f"{deployment.namespace}/{name}"),
        addresses=(address,),
        labels=dict(deployment.labels),
        service_account=deployment.service_account,
        template_hash=deployment.template_hash,
        containers=tuple(containers),
        ports=tuple(ports),
        started=datetime.fromtimestamp(clock.now_ns() / NS_PER_S, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        uid=str(uuid.uuid4()),
        node=node,
    )


def link_name(prefix: str, key: str) -> str:
    """A name for an interface, within the kernel's 15 characters."""
    return prefix + hashlib.sha256(key.encode()).hexdigest()[:8]


def pod_object(pod: Pod) -> dict[str, Any]:
    """The Pod object that the API server would show."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": pod.name,
            "generateName": f"{pod.deployment}-{pod.template_hash}-",
            "namespace": pod.namespace,
            "uid": pod.uid,
            "creationTimestamp": pod.started,
            "labels": dict(pod.labels),
            "ownerReferences": [
                {
                    "apiVersion": "apps/v1",
                    "kind": "ReplicaSet",
                    "name": f"{pod.deployment}-{pod.template_hash}",
                    "uid": str(uuid.uuid5(uuid.NAMESPACE_DNS, f"{pod.namespace}/{pod.deployment}/{pod.template_hash}")),
                    "controller": True,
                    "blockOwnerDeletion": True,
                }
            ],
        },
        "spec": {
            "nodeName": pod.node,
            "serviceAccountName": pod.service_account,
            "containers": [
                {
                    "name": name,
                    "image": next(image for image, file in PROGRAMS.items() if file == program),
                    "args": list(arguments),
                    **({"ports": _ports(pod)} if index == 0 and pod.ports else {}),
                }
                for index, (name, program, arguments) in enumerate(pod.containers)
            ],
        },
        "status": {
            "phase": "Running",
            "podIP": pod.addresses[0],
            "podIPs": [{"ip": address} for address in pod.addresses],
            "startTime": pod.started,
            "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": pod.started}],
        },
    }


def _ports(pod: Pod) -> list[dict[str, Any]]:
    return [{"name": name, "protocol": protocol, "containerPort": port} for name, protocol, port in pod.ports]


def publish(folder: Path, pod: Pod) -> None:
    """Write a pod's live object where the inventory reads it; readers see all of it or nothing."""
    write_documents(_path(folder, pod), [pod_object(pod)])


def withdraw(folder: Path, pod: Pod) -> None:
    """Take a pod's live object away: the pod is deleted."""
    _path(folder, pod).unlink(missing_ok=True)


def write_documents(path: Path, documents: list[dict[str, Any]]) -> None:
    """Replace a YAML file at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not *.yaml: a reader of the folder must not meet the draft.
    draft = path.with_suffix(".draft")
    draft.write_text(yaml.safe_dump_all(documents, sort_keys=False))
    draft.replace(path)


def _path(folder: Path, pod: Pod) -> Path:
    return folder / f"pod.{pod.namespace}.{pod.name}.yaml"
