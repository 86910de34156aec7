"""Enforces a cluster's policies on one of its nodes by the lab's nftables rules: for a demonstration, not for use.

It follows the cluster as the inventory does, and knows a pod's host-side interface by the node's route to the pod.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

import orjson

from tierflow.inventory.history import History
from tierflow.lab import command, enforcement
from tierflow.policy import compile_policies, enforcement_plan
from tierflow.policy.model import Resources
from tierflow.schemas.inventory import Heartbeat

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tierflow.inventory.snapshot import EndpointVersion
    from tierflow.policy import EndpointPlan
    from tierflow.schemas.inventory import ObjectVersion

LOOK_S: Final = 0.2


class Cluster(Protocol):
    """What is followed: the inventory's Kubernetes source."""

    def drain(self, timeout_s: float) -> Sequence[ObjectVersion]:
        """Versions that began or ended."""
        ...

    @property
    def watermark_ns(self) -> int:
        """Everything before it has been handed over; 0 until all kinds have been listed."""
        ...


class NodeEnforcement:
    """Keeps one node's rules as the cluster's policies want them.

    Args:
        node: whose pods are judged.
        cluster: what to follow; started and stopped by the caller.
    """

    def __init__(self, node: str, cluster: Cluster) -> None:
        self._node = node
        self._cluster = cluster
        self._history = History()
        self._plans: list[tuple[tuple[str, ...], EndpointPlan]] = []
        self._rules = ""

    def look(self) -> int | None:
        """Take what has changed; returns the number of pods under rules if these were replaced.

        Nothing is enforced before the cluster is known in whole: half of it would deny what is allowed.

        Raises:
            UnavailableError: nft or ip refuses.
        """
        changes = self._cluster.drain(LOOK_S)
        for change in changes:
            self._history.apply(change)
        watermark = self._cluster.watermark_ns
        if not watermark:
            return None
        if changes or not self._rules:
            self._history.apply(Heartbeat(watermark, self._node, 0))
            self._plans = self._planned()
        linked = _linked(self._plans, links())
        rules = enforcement.ruleset(linked)
        if rules == self._rules:
            return None
        enforcement.replace(rules)
        self._rules = rules
        return len(linked)

    def remove(self) -> None:
        """Take the rules away."""
        command.succeeds("nft", "delete", "table", "ip", enforcement.TABLE)

    def _planned(self) -> list[tuple[tuple[str, ...], EndpointPlan]]:
        snapshot = self._history.snapshot()
        resources = snapshot.policy_versions[-1] if snapshot.policy_versions else Resources()
        alive = [each for each in snapshot.endpoints if each.valid_to_ns is None and each.policed]
        plans = enforcement_plan(compile_policies(resources), [each.endpoint for each in alive])
        return [
            (each.endpoint.addresses, plan) for each, plan in zip(alive, plans, strict=True) if self._judged_here(each)
        ]

    def _judged_here(self, version: EndpointVersion) -> bool:
        return version.node == self._node and version.kind == "wep"


def links() -> dict[str, str]:
    """Host-side interface by pod address, from the node's routes to single addresses.

    Raises:
        UnavailableError: ip refuses.
    """
    routes = orjson.loads(command.run("ip", "-json", "-4", "route", "show"))
    return {route["dst"]: route["dev"] for route in routes if "dev" in route and "/" not in route["dst"]}


def _linked(
    plans: Sequence[tuple[tuple[str, ...], EndpointPlan]], by_address: Mapping[str, str]
) -> list[tuple[str, EndpointPlan]]:
    """The plans of pods that have an interface by now."""
    return [(by_address[address], plan) for addresses, plan in plans for address in addresses if address in by_address]
