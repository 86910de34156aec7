"""Which backend a Service's address stood for, where conntrack can't say.

A connection that a policy denies is dropped before conntrack confirms it, so its translation is never seen. Its
destination is then taken from the Service's own selector: one of the pods that kube-proxy would have chosen from, where
all of them share their aggregated name. Which replica it would have been nobody knows: the first by name stands for
them. Where the names differ, the address stays as it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tierflow.schemas.record import address_halves

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tierflow.inventory.snapshot import EndpointVersion, ServicePort, Snapshot

    U64 = NDArray[np.uint64]
    I32 = NDArray[np.int32]


class Backends:
    """Backends of Services in one snapshot, asked only for addresses that nothing else explains."""

    __slots__ = ("_by_service", "_snapshot")

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._by_service: dict[int, list[EndpointVersion]] = {}

    def resolve(
        self, rows: NDArray[np.intp], service: I32, times_ns: U64, hi: U64, lo: U64, port: NDArray[np.uint16]
    ) -> None:
        """Put a backend's address and port into ``hi``, ``lo`` and ``port`` at ``rows``, where there is just one name.

        Args:
            rows: indices of rows that address a Service and were not translated.
            service: service port index by row.
            times_ns: time by row.
            hi: upper address half by row, changed in place.
            lo: lower half, likewise.
            port: likewise.
        """
        services = self._snapshot.services
        for index in np.unique(service[rows]).tolist():
            for time_ns in np.unique(times_ns[rows[service[rows] == index]]).tolist():
                found = self._backend(services[index], index, time_ns)
                if found is not None:
                    at = rows[(service[rows] == index) & (times_ns[rows] == time_ns)]
                    hi[at], lo[at], port[at] = found

    def _backend(self, service: ServicePort, index: int, time_ns: int) -> tuple[int, int, int] | None:
        candidates = self._by_service.get(index)
        if candidates is None:
            candidates = self._by_service[index] = self._selected(service)
        # A later version of the same object replaces the one before, ended or not.
        latest = {each.key: each for each in candidates if each.valid_from_ns <= time_ns}
        alive = [each for each in latest.values() if each.valid_to_ns is None or time_ns < each.valid_to_ns]
        if len({each.name_aggr for each in alive}) != 1:
            return None
        first = min(alive, key=lambda each: each.key)
        target = _target_port(service, first)
        return None if target is None else (*address_halves(first.endpoint.addresses[0]), target)

    def _selected(self, service: ServicePort) -> list[EndpointVersion]:
        if not service.selector:
            return []
        wanted = service.selector
        by_age = sorted(self._snapshot.endpoints, key=lambda each: each.valid_from_ns)
        return [
            each
            for each in by_age
            if each.kind == "wep"
            and each.namespace == service.namespace
            and each.endpoint.addresses
            and all(each.endpoint.labels.get(key) == value for key, value in wanted)
        ]


def _target_port(service: ServicePort, backend: EndpointVersion) -> int | None:
    if isinstance(service.target_port, int):
        return service.target_port
    return next((port for name, _, port in backend.endpoint.named_ports if name == service.target_port), None)
