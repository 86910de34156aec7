"""The inventory as immutable columns: who held an address at a time, network sets, services, policies in force."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tierflow.inventory.address_numbers import AddressNumbers
    from tierflow.inventory.address_ranges import NetworkSetTable, PrivateRanges
    from tierflow.inventory.address_table import AddressTable
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
class NetworkSetEntry:
    """A network set; ``namespace`` is None for a global one."""

    namespace: str | None
    name: str
    labels_list: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ServicePort:
    """One port of a Service.

    Attributes:
        namespace: of the Service.
        name: of the Service.
        port_name: ``""`` for a port without one.
        port: the Service's, also where a node port led to it.
        target_port: number or name of the pods' port.
        selector: labels of the pods behind it, sorted; empty: endpoints that somebody else keeps.
    """

    namespace: str
    name: str
    port_name: str
    port: int
    target_port: int | str
    selector: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class ServiceTable:
    """(address, port, protocol) to the index of a service port; ``keys`` is sorted."""

    addresses: AddressNumbers
    keys: I64
    index: I32

    def find(self, hi: U64, lo: U64, port: NDArray[np.uint16], proto: NDArray[np.uint8]) -> I32:
        """Index of the service port, -1 none."""
        found = np.full(len(hi), -1, np.int32)
        number = self.addresses.numbers(hi, lo)
        rows = np.flatnonzero(number >= 0)
        if len(rows):
            key = service_key(number[rows], port[rows], proto[rows])
            at = np.minimum(np.searchsorted(self.keys, key), len(self.keys) - 1)
            found[rows] = np.where(self.keys[at] == key, self.index[at], -1)
        return found


def service_key(address: I32, port: NDArray[np.integer], proto: NDArray[np.integer]) -> I64:
    """One sortable number of an address number, a port and a protocol."""
    return (address.astype(np.int64) << 24) | (port.astype(np.int64) << 8) | proto.astype(np.int64)


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
        network_sets: by index.
        services: by index.
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
    node_names: tuple[str, ...]
    policy_versions: tuple[Resources, ...]
    policy_from_ns: I64
    _held: AddressTable
    _held_lately: AddressTable | None
    _sets: NetworkSetTable
    _services: ServiceTable
    _private: PrivateRanges

    def lookup(self, hi: U64, lo: U64, times_ns: NDArray[np.integer]) -> I32:
        """The endpoint version that held each address at each time, -1 nobody; shape (n,) each.

        ``times_ns`` is int64, or uint64 below 2**63.
        """
        times = times_ns.view(np.int64) if times_ns.dtype == np.uint64 else times_ns.astype(np.int64, copy=False)
        ids, _ = self._held.lookup(hi, lo, times)
        if self._held_lately is not None:
            newer, known = self._held_lately.lookup(hi, lo, times)
            np.copyto(ids, newer, where=known)
        return ids

    def network_set(self, hi: U64, lo: U64, namespace_ids: I32 | None = None) -> I32:
        """Index in ``network_sets`` of each address, -1 none.

        Args:
            hi: upper halves of the addresses.
            lo: lower halves.
            namespace_ids: namespace id (see ``endpoint_namespace``) of the flow's other side, -1 none; its own sets
                come first.
        """
        return self._sets.find(hi, lo, namespace_ids)

    def service(self, hi: U64, lo: U64, port: NDArray[np.uint16], proto: NDArray[np.uint8]) -> I32:
        """Index in ``services`` of each (address, port, protocol): cluster IPs, external ones, node ports; -1 none."""
        return self._services.find(hi, lo, port, proto)

    def services_at(self, hi: int, lo: int) -> tuple[ServicePort, ...]:
        """All service ports of one address."""
        number = int(self._services.addresses.numbers(np.array([hi], np.uint64), np.array([lo], np.uint64))[0])
        at = np.flatnonzero(self._services.keys >> 24 == number) if number >= 0 else ()
        return tuple(self.services[self._services.index[each]] for each in at)

    def private(self, hi: U64, lo: U64) -> NDArray[np.bool_]:
        """Whether each address is shown as ``pvt`` (else ``pub``) when nothing else is known of it."""
        return self._private.contains(hi, lo)

    def policy_version(self, times_ns: NDArray[np.integer]) -> I32:
        """Index in ``policy_versions`` of what was in force at each time."""
        times = times_ns.astype(np.int64, copy=False)
        at = np.searchsorted(self.policy_from_ns, times, side="right") - 1
        return np.maximum(at, 0).astype(np.int32)
