"""Services as of a time: which one an address, port and protocol led to, and the backends behind it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tierflow.inventory.address_numbers import AddressNumbers
from tierflow.inventory.address_table import FOREVER, AddressTable, segments_of
from tierflow.schemas.record import address_halves

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from tierflow.schemas.inventory import ObjectVersion

    U64 = NDArray[np.uint64]
    I64 = NDArray[np.int64]
    I32 = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class ServicePort:
    """One port of a Service, as it was at some time.

    Attributes:
        namespace: of the Service.
        name: of the Service.
        port_name: ``""`` for a port without one.
        shown_name: of a flow log: ``*`` where several of the Service's ports with this number have different names.
        protocol: IANA number.
        port: the Service's, also where a node port led to it.
        target_port: number or name of the pods' port.
        selector: labels of the pods behind it, sorted; empty: backends that somebody else keeps.
    """

    namespace: str
    name: str
    port_name: str
    shown_name: str
    protocol: int
    port: int
    target_port: int | str
    selector: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class SliceVersion:
    """Backends of a Service as one EndpointSlice named them from ``valid_from_ns`` to ``valid_to_ns`` (None: still).

    Attributes:
        key: identity of the slice.
        backends: addresses, sorted.
        ports: (name of the Service's port, protocol, the backends' port).
        valid_from_ns: Unix time in ns.
        valid_to_ns: Unix time in ns, not included.
    """

    key: str
    backends: tuple[str, ...]
    ports: tuple[tuple[str, int, int], ...]
    valid_from_ns: int
    valid_to_ns: int | None


@dataclass(frozen=True, slots=True)
class ServiceTable:
    """Service ports of the retained past by (address, port, protocol) and time; immutable.

    Attributes:
        ports: by index; a Service that changed has an index for each time.
        first: of each index, the first that a flow log shows in the same way.
        addresses: numbers of the addresses that Services have or had.
        held: who held ``(address number, port, protocol)`` when, packed as an address whose upper half is 0.
    """

    ports: tuple[ServicePort, ...]
    first: I32
    addresses: AddressNumbers
    held: AddressTable

    def find(
        self, hi: U64, lo: U64, port: NDArray[np.uint16], proto: NDArray[np.uint8], times_ns: NDArray[np.int64]
    ) -> I32:
        """Index of the service port, -1 none."""
        found = np.full(len(hi), -1, np.int32)
        number = self.addresses.numbers(hi, lo)
        rows = np.flatnonzero(number >= 0)
        if len(rows):
            keys = _packed(number[rows], port[rows], proto[rows])
            found[rows], _ = self.held.lookup(np.zeros(len(rows), np.uint64), keys, times_ns[rows])
        return found

    def at(self, hi: int, lo: int, time_ns: int) -> tuple[ServicePort, ...]:
        """All service ports of one address at one time."""
        number = int(self.addresses.numbers(np.array([hi], np.uint64), np.array([lo], np.uint64))[0])
        _, keys = self.held.addresses.addresses()
        own = keys[keys >> np.uint64(24) == number] if number >= 0 else keys[:0]
        ids, _ = self.held.lookup(np.zeros(len(own), np.uint64), own, np.full(len(own), time_ns, np.int64))
        return tuple(self.ports[each] for each in ids.tolist() if each >= 0)


def _packed(number: I32, port: NDArray[np.integer], proto: NDArray[np.integer]) -> U64:
    packed = number.astype(np.uint64) << np.uint64(24)
    packed |= port.astype(np.uint64) << np.uint64(8)
    packed |= proto.astype(np.uint64)
    return packed


def service_table(services: Iterable[ObjectVersion], nodes: Iterable[ObjectVersion]) -> ServiceTable:
    """The table of these versions; node ports are found on the addresses that nodes have or had."""
    ports: list[ServicePort] = []
    holders: dict[tuple[int, int, int, int], list[tuple[int, int, str, int]]] = {}
    node_addresses = sorted({address for node in nodes for address in node.object["addresses"]})
    for version in sorted(services, key=lambda each: (each.valid_from_ns, each.key)):
        end = FOREVER if version.valid_to_ns is None else version.valid_to_ns
        for i, port in enumerate(version.object["ports"]):
            for address, number in _listening(version.object, port, node_addresses):
                holders.setdefault((*address_halves(address), number, port["protocol"]), []).append(
                    (version.valid_from_ns, end, version.key, len(ports))
                )
            ports.append(_service_port(version.object, i, port))
    numbers: dict[tuple[int, int], int] = {}
    for hi, lo, *_ in holders:
        numbers.setdefault((hi, lo), len(numbers))
    columns = np.array(list(numbers), np.uint64).reshape(-1, 2)
    rows = np.array([(numbers[hi, lo], port, proto) for hi, lo, port, proto in holders], np.int32).reshape(-1, 3)
    held = AddressTable.of(
        np.zeros(len(rows), np.uint64), _packed(rows[:, 0], rows[:, 1], rows[:, 2]),
        [segments_of(each) for each in holders.values()],
    )  # fmt: skip
    shown: dict[tuple[str, str, str, int], int] = {}
    first = [
        shown.setdefault((each.namespace, each.name, each.shown_name, each.port), i) for i, each in enumerate(ports)
    ]
    return ServiceTable(
        tuple(ports), np.array(first, np.int32), AddressNumbers(columns[:, 0].copy(), columns[:, 1].copy()), held
    )


def _service_port(service: dict[str, Any], i: int, port: dict[str, Any]) -> ServicePort:
    spec = service["manifest"].get("spec") or {}
    selector = spec.get("selector")
    target = spec["ports"][i].get("targetPort")
    several = len({each["name"] for each in service["ports"] if each["port"] == port["port"]}) > 1
    return ServicePort(
        service["namespace"],
        service["name"],
        port["name"],
        "*" if several else port["name"],
        port["protocol"],
        port["port"],
        # Kubernetes' default is the port itself.
        target if isinstance(target, int | str) and target else port["port"],
        tuple(sorted((str(key), str(value)) for key, value in selector.items())) if isinstance(selector, dict) else (),
    )


def _listening(
    service: dict[str, Any], port: dict[str, Any], node_addresses: Sequence[str]
) -> Iterator[tuple[str, int]]:
    for address in service["addresses"]:
        yield address, port["port"]
    if port["node_port"]:
        for address in node_addresses:
            yield address, port["node_port"]


class Slices:
    """EndpointSlices of the retained past by Service."""

    __slots__ = ("_by_service", "_frozen", "_versions")

    def __init__(self) -> None:
        self._versions: dict[tuple[str, int], tuple[tuple[str, str], SliceVersion]] = {}
        self._by_service: dict[tuple[str, str], tuple[SliceVersion, ...]] = {}
        self._frozen: Mapping[tuple[str, str], tuple[SliceVersion, ...]] | None = None

    def put(self, version: ObjectVersion) -> None:
        """A version began or ended."""
        content = version.object
        service = (content["namespace"], content["service"])
        made = SliceVersion(
            version.key,
            tuple(content["backends"]),
            tuple((each["name"], each["protocol"], each["port"]) for each in content["ports"]),
            version.valid_from_ns,
            version.valid_to_ns,
        )
        which = (version.key, version.valid_from_ns)
        known = self._versions.get(which)
        if known is not None and known[1] == made:
            return
        self._versions[which] = (service, made)
        others = (each for each in self._by_service.get(service, ()) if (each.key, each.valid_from_ns) != which)
        self._by_service[service] = tuple(sorted((*others, made), key=lambda each: (each.valid_from_ns, each.key)))
        self._frozen = None

    def expire(self, horizon_ns: int) -> None:
        """Forget what ended before ``horizon_ns``."""
        old = [
            which
            for which, (_, each) in self._versions.items()
            if each.valid_to_ns is not None and each.valid_to_ns < horizon_ns
        ]
        for service in {self._versions.pop(which)[0] for which in old}:
            left = tuple(
                each for each in self._by_service[service] if each.valid_to_ns is None or each.valid_to_ns >= horizon_ns
            )
            if left:
                self._by_service[service] = left
            else:
                del self._by_service[service]
        if old:
            self._frozen = None

    def by_service(self) -> Mapping[tuple[str, str], tuple[SliceVersion, ...]]:
        """All of them by namespace and name of the Service, by their begin; the same object while unchanged."""
        if self._frozen is None:
            self._frozen = dict(self._by_service)
        return self._frozen
