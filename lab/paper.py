"""The storefront's pods on paper only: objects for the inventory where the traffic is synthetic and no pod runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tierflow.lab.manifests import deployments, read_folder
from tierflow.lab.pods import new_pod, publish

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tierflow.schemas.clock import Clock


def publish_pods(manifests: Path, folder: Path, addresses: Mapping[str, str], clock: Clock, node: str) -> None:
    """Write a Pod object for each Deployment that has an address, in place of those of an earlier run.

    Args:
        manifests: the storefront's; its ``lab`` folder holds what a real cluster has of its own.
        folder: where the inventory reads Pod objects; created.
        addresses: address by Deployment name.
        clock: for the pods' start.
        node: that they run on.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for stale in folder.glob("*.yaml"):
        stale.unlink()
    for deployment in deployments([*read_folder(manifests), *read_folder(manifests / "lab")]):
        address = addresses.get(deployment.name)
        if address is not None:
            publish(folder, new_pod(deployment, address, "", clock, node))
