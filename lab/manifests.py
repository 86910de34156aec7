"""What the lab runs, read from ordinary Kubernetes manifests: Deployments and Services."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import orjson
import yaml

from tierflow.schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

Manifest = dict[str, Any]

SAFE_ALPHABET: Final = "bcdfghjklmnpqrstvwxz2456789"
"""Kubernetes' own alphabet of generated names: no vowels, so no words, and no digits that look like letters."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """One Deployment: what its pods are.

    Attributes:
        namespace, name: the Deployment's.
        labels: of its pods, ``pod-template-hash`` included.
        service_account: of its pods.
        template_hash: of its pod template; changes with it.
        replicas: how many pods.
        containers: as in the manifest.
    """

    namespace: str
    name: str
    labels: Mapping[str, str]
    service_account: str
    template_hash: str
    replicas: int
    containers: tuple[Manifest, ...]


@dataclass(frozen=True, slots=True)
class ServicePort:
    """One port of a Service: ``protocol`` in lower case, ``port`` of the ClusterIP, ``target_port`` of the pods."""

    protocol: str
    port: int
    target_port: int


@dataclass(frozen=True, slots=True)
class Service:
    """One ClusterIP Service."""

    namespace: str
    name: str
    cluster_ip: str
    selector: Mapping[str, str]
    ports: tuple[ServicePort, ...]

    def selects(self, namespace: str, labels: Mapping[str, str]) -> bool:
        """Whether a pod is a backend of this Service."""
        return namespace == self.namespace and all(labels.get(key) == value for key, value in self.selector.items())


def read_folder(folder: Path) -> list[tuple[str, int, Manifest]]:
    """The documents of a folder's ``*.yaml`` files, not of its subfolders, as (file, index, document).

    Raises:
        ConfigurationError: a file can't be read or isn't YAML, or a document isn't an object.
    """
    documents = []
    for path in sorted(folder.glob("*.yaml")):
        try:
            found = list(yaml.load_all(path.read_text(), Loader=yaml.CSafeLoader))
        except OSError as error:
            raise ConfigurationError(f"{path}: {error.strerror or error}") from error
        except yaml.YAMLError as error:
            raise ConfigurationError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
        for index, document in enumerate(found):
            if document is None:
                continue
            if not isinstance(document, dict):
                raise ConfigurationError(f"{path}: document {index}: expected an object with kind and metadata")
            documents.append((str(path), index, document))
    return documents


def deployments(documents: Iterable[tuple[str, int, Manifest]]) -> tuple[Deployment, ...]:
    """The Deployments among documents, in their order.

    Raises:
        ConfigurationError: one lacks a field that the lab needs; file, document and field are named.
    """
    return tuple(_deployment(*each) for each in documents if each[2].get("kind") == "Deployment")


def services(documents: Iterable[tuple[str, int, Manifest]]) -> tuple[Service, ...]:
    """The Services among documents that have a clusterIP, in their order.

    Raises:
        ConfigurationError: as for :func:`deployments`.
    """
    found = (_service(*each) for each in documents if each[2].get("kind") == "Service")
    return tuple(service for service in found if service.cluster_ip not in ("", "None"))


def _deployment(file: str, index: int, document: Manifest) -> Deployment:
    try:
        spec = document["spec"]
        template = spec["template"]
        template_hash = hash_of(template)
        return Deployment(
            namespace=document["metadata"].get("namespace", "default"),
            name=document["metadata"]["name"],
            labels={**template["metadata"]["labels"], "pod-template-hash": template_hash},
            service_account=template["spec"].get("serviceAccountName", "default"),
            template_hash=template_hash,
            replicas=int(spec.get("replicas", 1)),
            containers=tuple(template["spec"]["containers"]),
        )
    except KeyError as error:
        raise ConfigurationError(f"{file}: document {index}: Deployment: field {error.args[0]} is missing") from error


def _service(file: str, index: int, document: Manifest) -> Service:
    try:
        spec = document["spec"]
        ports = tuple(
            ServicePort(
                port.get("protocol", "TCP").lower(), int(port["port"]), int(port.get("targetPort", port["port"]))
            )
            for port in spec["ports"]
        )
        return Service(
            namespace=document["metadata"].get("namespace", "default"),
            name=document["metadata"]["name"],
            cluster_ip=spec.get("clusterIP", ""),
            selector=spec.get("selector", {}),
            ports=ports,
        )
    except KeyError as error:
        raise ConfigurationError(f"{file}: document {index}: Service: field {error.args[0]} is missing") from error
    except ValueError as error:
        raise ConfigurationError(
            f"{file}: document {index}: Service: field spec.ports: {error}; the lab knows numbers, not port names"
        ) from error


def hash_of(template: Manifest) -> str:
    """Ten letters that stand for a pod template, as ``pod-template-hash`` does."""
    digest = hashlib.sha256(orjson.dumps(template, option=orjson.OPT_SORT_KEYS)).digest()
    return "".join(SAFE_ALPHABET[byte % len(SAFE_ALPHABET)] for byte in digest[:10])
