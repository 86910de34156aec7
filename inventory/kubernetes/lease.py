"""One publisher at a time: a Lease that its holder renews, and that another may take when it no longer does."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from tierflow.inventory.kubernetes.api import Conflict, NotServed

if TYPE_CHECKING:
    from tierflow.inventory.kubernetes.api import Api
    from tierflow.schemas.clock import Clock

_GROUP = "/apis/coordination.k8s.io/v1"


class Lease:
    """A Lease of ``coordination.k8s.io/v1``; the protocol is that of client-go's leader election.

    Whether the holder is alive is told by whether the lease changes, measured by our own monotonic clock: the times in
    it are its holder's, whose clock may be wrong.
    """

    def __init__(
        self, api: Api, namespace: str, name: str, identity: str, clock: Clock, duration_s: float = 15.0
    ) -> None:
        """``identity`` must be unique to this process; a holder that is silent for ``duration_s`` has lost it."""
        self._api, self._identity, self._clock, self._duration_s = api, identity, clock, duration_s
        self._all = f"{_GROUP}/namespaces/{namespace}/leases"
        self._path, self._name, self._namespace = f"{self._all}/{name}", name, namespace
        self._seen: tuple[str, float] = ("", 0.0)
        self._renewed_s: float | None = None
        self.transitions = 0
        """How often the lease changed hands; grows with every new holder."""

    @property
    def held(self) -> bool:
        """Whether this process may still publish: it renewed within two thirds of the duration."""
        return self._renewed_s is not None and self._clock.monotonic_s() - self._renewed_s < self._duration_s * 2 / 3

    def try_hold(self) -> bool:
        """Take or renew the lease; False when another has it.

        Raises:
            TransientError: the API server can't be reached; ``held`` says whether there is time to try again.
            Forbidden: the role lacks a right.
        """
        at = self._clock.monotonic_s()
        try:
            lease = self._api.get(self._path)
        except NotServed:
            return self._written("POST", self._all, self._lease({}, transitions=0), at)
        spec = lease.get("spec") or {}
        holder, version = spec.get("holderIdentity") or "", lease["metadata"]["resourceVersion"]
        if self._seen[0] != version:
            self._seen = (version, at)
        if holder not in ("", self._identity) and at - self._seen[1] < float(
            spec.get("leaseDurationSeconds") or self._duration_s
        ):
            self._renewed_s = None
            return False
        transitions = int(spec.get("leaseTransitions") or 0) + (holder != self._identity)
        return self._written("PUT", self._path, self._lease(lease, transitions=transitions), at)

    def release(self) -> None:
        """Give the lease up, so that a standby need not wait; nothing happens when it isn't held."""
        if self._renewed_s is None:
            return
        self._renewed_s = None
        # Gone, or another's by now: given up all the same.
        with contextlib.suppress(NotServed, Conflict):
            lease = self._api.get(self._path)
            if (lease.get("spec") or {}).get("holderIdentity") == self._identity:
                lease["spec"]["holderIdentity"] = ""
                self._api.send("PUT", self._path, lease)

    def _written(self, method: str, path: str, lease: dict[str, Any], at_s: float) -> bool:
        try:
            written = self._api.send(method, path, lease)
        except Conflict:
            self._renewed_s = None
            return False
        self._seen = (written["metadata"]["resourceVersion"], at_s)
        self._renewed_s = at_s
        self.transitions = lease["spec"]["leaseTransitions"]
        return True

    def _lease(self, before: dict[str, Any], *, transitions: int) -> dict[str, Any]:
        now = datetime.fromtimestamp(self._clock.now_ns() / 1e9, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        spec = dict(before.get("spec") or {})
        if spec.get("holderIdentity") != self._identity:
            spec["acquireTime"] = now
        spec |= {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": max(1, round(self._duration_s)),
            "renewTime": now,
            "leaseTransitions": transitions,
        }
        metadata = before.get("metadata") or {"name": self._name, "namespace": self._namespace}
        return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec}
