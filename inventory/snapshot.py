"""The inventory as immutable columns: who held an address at a time, network sets, services, policies in force."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from tierflow.inventory.address_table import AddressTable
    from tierflow.inventory.resources import NetworkSetEntry, OutsideTimes
    from tierflow.inventory.services import ServicePort, ServiceTable, SliceVersion
    from tierflow.policy.model import Endpoint, Resources

    U64 = NDArray[np.uint64]
    I64 = NDArray[np.int64]
    I32 = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class EndpointVersion:
    """One endpoint as it was from ``valid_from_ns`` (included) to ``valid_to_ns`` (not included; None: still is).

    Attributes:
        endpoint: as policies see it.
        key: identity of the object it comes from.
        name_aggr: aggregated name of a flow log.
        node: the node that it runs on.
        policed: False for a node's address without a host endpoint: no policy applies to it.
        valid_from_ns: Unix time in ns.
        valid_to_ns: Unix time in ns.
    """

    endpoint: Endpoint
    key: str
    name_aggr: str
    node: str
    policed: bool
    valid_from_ns: int
    valid_to_ns: int | None

    @property
    def kind(self) -> str:
        """``wep`` or ``hep``."""
        kind: str = self.endpoint.kind
        return kind

    @property
    def namespace(self) -> str:
        """The endpoint's namespace, ``""`` for a host endpoint."""
        namespace: str = self.endpoint.namespace
        return namespace

    @property
    def labels_list(self) -> tuple[str, ...]:
        """``key=value``, sorted."""
        return tuple(sorted(f"{key}={value}" for key, value in self.endpoint.labels.items()))


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What is known up to ``watermark_ns``; never changes.

    Attributes:
        watermark_ns: what happened before this time is in here.
        generation: while it stays the same, an endpoint version keeps its id from snapshot to snapshot.
        boundaries_ns: uint64, sorted distinct times at which an address changed hands or the policies changed; the
            same column as in the snapshot before when none is new.
        endpoints: endpoint versions by id.
        endpoint_namespace: int32, namespace id of each endpoint version, -1 for none.
        namespaces: namespace names by id.
        network_sets: by index, those of all of the retained past.
        services: by index, likewise.
        slices: EndpointSlices by namespace and name of their Service, likewise.
        node_names: names of the nodes, sorted.
        policy_versions: what was in force, one after the other.
        policy_from_ns: int64, since when each was; the first also holds for all time before.
    """

    watermark_ns: int
    generation: int
    boundaries_ns: U64
    endpoints: tuple[EndpointVersion, ...]
    endpoint_namespace: I32
    namespaces: tuple[str, ...]
    network_sets: tuple[NetworkSetEntry, ...]
    services: tuple[ServicePort, ...]
    slices: Mapping[tuple[str, str], tuple[SliceVersion, ...]]
    node_names: tuple[str, ...]
    policy_versions: tuple[Resources, ...]
    policy_from_ns: I64
    _held: AddressTable
    _held_lately: AddressTable | None
    _outside: OutsideTimes
    _services: ServiceTable

    def lookup(self, hi: U64, lo: U64, times_ns: NDArray[np.integer]) -> I32:
        """The endpoint version that held each address at each time, -1 nobody; shape (n,) each.

        ``times_ns`` is int64, or uint64 below 2**63.
        """
        times = _signed(times_ns)
        ids, _ = self._held.lookup(hi, lo, times)
        if self._held_lately is not None:
            newer, known = self._held_lately.lookup(hi, lo, times)
            np.copyto(ids, newer, where=known)
        return ids

    def spans(self, hi: U64, lo: U64, times_ns: NDArray[np.integer]) -> tuple[U64, U64]:
        """From when (included) to when (not included) each address was held by whom :meth:`lookup` says; shape (n,).

        ``to_ns`` of what still holds is the largest int64.
        """
        times = _signed(times_ns)
        begin, end, _ = self._held.spans(hi, lo, times)
        if self._held_lately is not None:
            newer_begin, newer_end, known = self._held_lately.spans(hi, lo, times)
            np.copyto(begin, newer_begin, where=known)
            np.copyto(end, newer_end, where=known)
        return begin.view(np.uint64), end.view(np.uint64)

    def rare_spans(self, times_ns: NDArray[np.integer]) -> tuple[U64, U64]:
        """From when to when policies, Services, network sets and private ranges were what they were at each time."""
        # A Service or a network set that changes makes another policy version.
        changes = np.union1d(self.policy_from_ns[1:], self._outside.changes_ns)
        at = np.searchsorted(changes, _signed(times_ns), side="right")
        edges = np.concatenate(([0], changes, [np.iinfo(np.int64).max])).astype(np.uint64)
        return edges[at], edges[at + 1]

    def network_set(self, hi: U64, lo: U64, times_ns: NDArray[np.integer], namespace_ids: I32 | None = None) -> I32:
        """Index in ``network_sets`` of each address at each time, -1 none.

        Args:
            hi: upper halves of the addresses.
            lo: lower halves.
            times_ns: as for :meth:`lookup`.
            namespace_ids: namespace id (see ``endpoint_namespace``) of the flow's other side, -1 none; its own sets
                come first.
        """
        return self._outside.network_set(hi, lo, _signed(times_ns), namespace_ids)

    def service(
        self, hi: U64, lo: U64, port: NDArray[np.uint16], proto: NDArray[np.uint8], times_ns: NDArray[np.integer]
    ) -> I32:
        """Index in ``services`` of each (address, port, protocol) at each time, -1 none.

        Cluster IPs, external and load-balancer addresses, and node ports on the nodes' addresses.
        """
        return self._services.find(hi, lo, port, proto, _signed(times_ns))

    def as_shown(self, services: I32) -> I32:
        """For each index in ``services``, the first that a flow log shows in the same way; -1 stays."""
        return np.where(services >= 0, self._services.first[np.maximum(services, 0)], np.int32(-1))

    def services_at(self, hi: int, lo: int, time_ns: int) -> tuple[ServicePort, ...]:
        """All service ports of one address at one time."""
        return self._services.at(hi, lo, time_ns)

    def private(self, hi: U64, lo: U64, times_ns: NDArray[np.integer]) -> NDArray[np.bool_]:
        """Whether each address is shown as ``pvt`` (else ``pub``) when nothing else is known of it."""
        return self._outside.private(hi, lo, _signed(times_ns))

    def policy_version(self, times_ns: NDArray[np.integer]) -> I32:
        """Index in ``policy_versions`` of what was in force at each time."""
        at = np.searchsorted(self.policy_from_ns, _signed(times_ns), side="right") - 1
        return np.maximum(at, 0).astype(np.int32)


def _signed(times_ns: NDArray[np.integer]) -> I64:
    # Times below 2**63 have the same bits in both.
    return times_ns.view(np.int64) if times_ns.dtype == np.uint64 else times_ns.astype(np.int64, copy=False)
