"""Aggregated names of pods: Calico's, and those by the workload that a pod belongs to."""

from __future__ import annotations

import re
from collections.abc import Callable
from types import MappingProxyType
from typing import Any, Final

from tierflow.inventory.fields import mapping, mappings

Naming = Callable[[dict[str, Any]], str]
"""From a pod's metadata and spec (``{"metadata": …, "spec": …}``) to its aggregated name."""

_RUN: Final = re.compile(r"-\d{8,10}$")
"""What the CronJob controller puts behind the CronJob's name: the scheduled time in minutes."""


def calico_name(pod: dict[str, Any]) -> str:
    """``generateName`` with a star, else the bare name."""
    metadata = mapping(pod, "metadata", "metadata")
    prefix = metadata.get("generateName")
    return f"{prefix}*" if isinstance(prefix, str) and prefix else str(metadata["name"])


def owner_name(pod: dict[str, Any]) -> str:
    """The controlling owner's name with a star, where Calico's name says less or splits what belongs together.

    All pods of a StatefulSet, a DaemonSet or an operator's own kind have one name, whether or not their maker set
    ``generateName``; so have all runs of a CronJob (Calico: a name per run), all indices of an indexed Job (Calico: a
    name per index) and the static pods of all nodes (Calico: a name per node). A ReplicaSet's pods keep Calico's name,
    which tells one roll-out of a Deployment from the next; so do pods that nobody owns.
    """
    metadata = mapping(pod, "metadata", "metadata")
    owners = mappings(metadata, "ownerReferences", "metadata.ownerReferences")
    owner = next((each for each in owners if each.get("controller")), None)
    kind, name = (owner.get("kind"), owner.get("name")) if owner else (None, None)
    if not isinstance(name, str) or not name or kind == "ReplicaSet":
        return calico_name(pod)
    if kind == "Job":
        return f"{_RUN.sub('', name)}-*"
    if kind == "Node":
        own = str(metadata["name"])
        return f"{own.removesuffix(name)}*" if own.endswith(f"-{name}") else calico_name(pod)
    return f"{name}-*"


NAMINGS: Final = MappingProxyType({"calico": calico_name, "owner": owner_name})
"""By the word that a user chooses."""
