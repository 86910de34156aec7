"""Which backend a Service's address stood for, where conntrack can't say.

A connection that a policy denies is dropped before conntrack confirms it, so its translation is never seen. Its
destination is then one of the backends that kube-proxy would have chosen from: those in the Service's EndpointSlices,
or where a folder of manifests has none, the pods that its selector names. It is taken where all of them share their
aggregated name: which replica it would have been nobody knows, and the first by name stands for them. Where the names
differ, the address stays as it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tierflow.inventory.address_table import FOREVER
from tierflow.schemas.record import V4_MAPPED, address_columns, address_halves

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tierflow.inventory.services import ServicePort, SliceVersion
    from tierflow.inventory.snapshot import EndpointVersion, Snapshot

    U64 = NDArray[np.uint64]
    I32 = NDArray[np.int32]

Backend = tuple[int, int, int]
"""Address halves and port."""


class Backends:
    """Backends of Services in one snapshot, asked only for addresses that nothing else explains."""

    __slots__ = ("_by_namespace", "_edges", "_selected", "_snapshot")

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._by_namespace: dict[str, list[EndpointVersion]] | None = None
        self._edges: dict[int, U64] = {}
        self._selected: dict[int, list[EndpointVersion]] = {}

    def resolve(
        self, rows: NDArray[np.intp], service: I32, times_ns: U64, hi: U64, lo: U64, port: NDArray[np.uint16],
        from_ns: U64, to_ns: U64,
    ) -> None:  # fmt: skip
        """Put a backend's address and port into ``hi``, ``lo`` and ``port`` at ``rows``, where there is just one name.

        Args:
            rows: indices of rows that address a Service and were not translated.
            service: service port index by row.
            times_ns: time by row.
            hi: upper address half by row, changed in place.
            lo: lower half, likewise.
            port: likewise.
            from_ns: since when the row says the same; moved to where the answer changed before its time.
            to_ns: until when; moved to where it changes next.
        """
        # kube-proxy never translates from one address family to the other.
        v4 = (hi[rows] == 0) & (lo[rows] >> np.uint64(32) == np.uint64(V4_MAPPED >> 32))
        kinds, kind = np.unique(service[rows].astype(np.int64) * 2 + v4, return_inverse=True)
        for number, each in enumerate(kinds.tolist()):
            waiting = rows[kind == number]
            while len(waiting):
                first_ns = int(times_ns[waiting[0]])
                backend = self._backend(each >> 1, first_ns, v4=bool(each & 1))
                since, until = self._span(each >> 1, first_ns)
                covered = (times_ns[waiting] >= since) & (times_ns[waiting] < until)
                at, waiting = waiting[covered], waiting[~covered]
                from_ns[at], to_ns[at] = np.maximum(from_ns[at], since), np.minimum(to_ns[at], until)
                if backend is not None:
                    hi[at], lo[at], port[at] = backend

    def _span(self, index: int, time_ns: int) -> tuple[np.uint64, np.uint64]:
        """From when to when a Service's backends were what they were at a time, and each address held by the same."""
        service = self._snapshot.services[index]
        slices = self._snapshot.slices.get((service.namespace, service.name), ())
        edges = self._edges.get(index)
        if edges is None:
            versions = slices or self._pods_of(index)
            times = {time for each in versions for time in (each.valid_from_ns, each.valid_to_ns) if time}
            edges = self._edges[index] = np.array(sorted(times | {0, FOREVER}), np.uint64)
        at = int(np.searchsorted(edges, np.uint64(time_ns), side="right"))
        since, until = edges[at - 1], edges[at]
        if slices:
            addresses = sorted({address for each in slices for address in each.backends})
            hi, lo = address_columns(addresses)
            begin, end = self._snapshot.spans(hi, lo, np.full(len(addresses), time_ns, np.int64))
            since, until = max(since, begin.max(initial=0)), min(until, end.min(initial=np.uint64(FOREVER)))
        return since, until

    def _backend(self, index: int, time_ns: int, *, v4: bool) -> Backend | None:
        service = self._snapshot.services[index]
        slices = self._snapshot.slices.get((service.namespace, service.name))
        if slices:
            # A later version of the same slice replaces the one before, ended or not.
            latest = {each.key: each for each in slices if each.valid_from_ns <= time_ns}
            alive = [each for each in latest.values() if each.valid_to_ns is None or time_ns < each.valid_to_ns]
            return self._of_slices(service, alive, time_ns, v4=v4)
        pods = _alive(self._pods_of(index), time_ns)
        if len({each.name_aggr for each in pods}) != 1:
            return None
        first = min(pods, key=lambda each: each.key)
        address = next((each for each in first.endpoint.addresses if (":" not in each) == v4), None)
        target = _target_port(service, first)
        return None if address is None or target is None else (*address_halves(address), target)

    def _of_slices(self, service: ServicePort, slices: list[SliceVersion], time_ns: int, *, v4: bool) -> Backend | None:
        ports = {
            address: port
            for each in slices
            for name, protocol, port in each.ports
            if (name, protocol) == (service.port_name, service.protocol)
            for address in each.backends
            if (":" not in address) == v4
        }
        if not ports:
            return None
        addresses = sorted(ports)
        hi, lo = address_columns(addresses)
        ids = self._snapshot.lookup(hi, lo, np.full(len(addresses), time_ns, np.int64)).tolist()
        if len(addresses) == 1:
            # There is nobody else it could have been, a pod or not.
            return int(hi[0]), int(lo[0]), ports[addresses[0]]
        held = {
            address: self._snapshot.endpoints[each] for address, each in zip(addresses, ids, strict=True) if each >= 0
        }
        names = {(each.kind, each.namespace, each.name_aggr) for each in held.values()}
        if len(held) < len(addresses) or len(names) != 1:
            return None
        first = min(held, key=lambda address: held[address].key)
        return (*address_halves(first), ports[first])

    def _pods_of(self, index: int) -> list[EndpointVersion]:
        """The pods that a Service selects or selected, oldest first."""
        known = self._selected.get(index)
        if known is None:
            known = self._selected[index] = self._selectable(self._snapshot.services[index])
        return known

    def _selectable(self, service: ServicePort) -> list[EndpointVersion]:
        if not service.selector:
            return []
        if self._by_namespace is None:
            self._by_namespace = {}
            for version in sorted(self._snapshot.endpoints, key=lambda each: each.valid_from_ns):
                if version.kind == "wep" and version.endpoint.addresses:
                    self._by_namespace.setdefault(version.namespace, []).append(version)
        return [
            each
            for each in self._by_namespace.get(service.namespace, ())
            if all(each.endpoint.labels.get(key) == value for key, value in service.selector)
        ]


def _alive(candidates: list[EndpointVersion], time_ns: int) -> list[EndpointVersion]:
    # A later version of the same object replaces the one before, ended or not.
    latest = {each.key: each for each in candidates if each.valid_from_ns <= time_ns}
    return [each for each in latest.values() if each.valid_to_ns is None or time_ns < each.valid_to_ns]


def _target_port(service: ServicePort, backend: EndpointVersion) -> int | None:
    if isinstance(service.target_port, int):
        return service.target_port
    return next((port for name, _, port in backend.endpoint.named_ports if name == service.target_port), None)
