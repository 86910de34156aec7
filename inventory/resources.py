"""What object versions of one time mean together: the policies in force, and what unknown addresses are shown as."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tierflow.inventory.address_ranges import UPSTREAM_PRIVATE, NetworkSetTable, PrivateRanges
from tierflow.policy.model import Backends
from tierflow.policy.resources import assemble, read_document
from tierflow.policy.services import with_backends
from tierflow.schemas import inventory as topic
from tierflow.schemas.inventory import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from numpy.typing import NDArray

    from tierflow.inventory.endpoint_versions import Which
    from tierflow.policy.document import Problem
    from tierflow.policy.model import Resources
    from tierflow.policy.resources import ReadDocument
    from tierflow.policy.services import ServiceKey
    from tierflow.schemas.inventory import ObjectVersion

    U64 = NDArray[np.uint64]
    I32 = NDArray[np.int32]

POLICY_KINDS = frozenset(
    {topic.POLICY, topic.NETWORK_SET, topic.NAMESPACE, topic.SERVICE_ACCOUNT, topic.SERVICE, topic.ENDPOINT_SLICE}
)
"""Kinds that make a new policy version when they change; EndpointSlices only where :func:`backs_a_rule` says so."""
OUTSIDE_KINDS = frozenset({topic.NETWORK_SET, topic.SETTINGS})
"""Kinds that change what an address is that no endpoint has."""


def parse_policies(
    versions: Sequence[ObjectVersion], known: dict[Which, ReadDocument]
) -> tuple[Resources, list[Problem]]:
    """The policies that these make together, and what of them can't be used.

    ``known`` holds what was read before, and takes what is read now: most objects of one time are those of another.
    """
    documents = []
    for each in versions:
        if each.kind != topic.ENDPOINT_SLICE:
            which = (each.kind, each.key, each.valid_from_ns)
            if which not in known:
                known[which] = read_document(each.key, 0, _manifest(each))
            documents.append(known[which])
    resources, problems = assemble(documents)
    slices = [each.object for each in versions if each.kind == topic.ENDPOINT_SLICE]
    backends = (((each["namespace"], each["service"]), _backends(each)) for each in slices)
    return replace(resources, services=with_backends(resources.services, backends)), problems


def _manifest(version: ObjectVersion) -> dict[str, Any]:
    found: dict[str, Any] = version.object["manifest"] if version.kind == topic.SERVICE else version.object
    return found


def _backends(endpoint_slice: dict[str, Any]) -> Backends:
    ports = tuple((each["name"], each["protocol"], each["port"]) for each in endpoint_slice["ports"])
    return Backends(tuple(endpoint_slice["rule_addresses"]), ports)


def backs_a_rule(endpoint_slice: ObjectVersion, named: Collection[ServiceKey]) -> bool:
    """Whether an EndpointSlice decides what a rule matches that names one of these Services.

    A publisher of before didn't write ``rule_addresses``: such a slice is left out, and its Service stays unknown.
    """
    content = endpoint_slice.object
    return "rule_addresses" in content and (content["namespace"], content["service"]) in named


def services_named(policy: dict[str, Any]) -> Iterator[ServiceKey]:
    """(namespace, name) of the Services that a policy's rules name; a manifest that was accepted is well-formed."""
    spec = policy.get("spec") or {}
    for rule in (*(spec.get("ingress") or ()), *(spec.get("egress") or ())):
        for side in (rule.get("source"), rule.get("destination")):
            services = (side or {}).get("services") or {}
            if services:
                namespace = services.get("namespace") or policy["metadata"].get("namespace") or "default"
                yield namespace, services.get("name") or ""


@dataclass(frozen=True, slots=True)
class NetworkSetEntry:
    """A network set; ``namespace`` is None for a global one."""

    namespace: str | None
    name: str
    labels_list: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Outside:
    """The network sets of one time and which addresses counted as private."""

    entries: tuple[NetworkSetEntry, ...]
    sets: NetworkSetTable
    private: PrivateRanges


def outside_of(versions: Sequence[ObjectVersion], namespace_id: Callable[[str], int]) -> Outside:
    """What these versions of :data:`OUTSIDE_KINDS` make together."""
    entries, ranges, namespaces = [], [], {}
    prefixes: Sequence[str] = UPSTREAM_PRIVATE
    for version in versions:
        if version.kind == topic.SETTINGS:
            prefixes = Settings.of_object(version.object).private_prefixes
            continue
        metadata, spec = version.object["metadata"], version.object.get("spec") or {}
        namespace = metadata.get("namespace")
        if namespace is not None:
            namespaces[namespace] = namespace_id(namespace)
        labels = tuple(sorted(f"{key}={value}" for key, value in (metadata.get("labels") or {}).items()))
        entries.append(NetworkSetEntry(namespace, metadata["name"], labels))
        ranges.append((namespace, metadata["name"], spec.get("nets") or []))
    return Outside(tuple(entries), NetworkSetTable(ranges, namespaces), PrivateRanges(prefixes))


class OutsideTimes:
    """What an address was that no endpoint had, as of a time; immutable.

    Attributes:
        entries: network sets of all times, by index.
    """

    __slots__ = ("_first", "_from_ns", "_values", "entries")

    def __init__(self, values: Sequence[tuple[int, Outside]]) -> None:
        """``values`` by the time from which each held, in order; the first also holds for all time before."""
        self._from_ns = np.array([begin for begin, _ in values], np.int64)
        self._values = [value for _, value in values]
        self.entries = tuple(entry for value in self._values for entry in value.entries)
        counts = np.array([0, *(len(value.entries) for value in self._values)])
        self._first = np.cumsum(counts)[:-1].tolist()

    @property
    def changes_ns(self) -> NDArray[np.int64]:
        """When it changed, in order."""
        return self._from_ns[1:]

    def network_set(self, hi: U64, lo: U64, times_ns: NDArray[np.int64], namespace_ids: I32 | None) -> I32:
        """Index in ``entries`` of each address, -1 none."""
        found = np.full(len(hi), -1, np.int32)
        for number, at in self._by_value(times_ns):
            own = None if namespace_ids is None else namespace_ids[at]
            sets = self._values[number].sets.find(hi[at], lo[at], own)
            found[at] = np.where(sets >= 0, sets + np.int32(self._first[number]), np.int32(-1))
        return found

    def private(self, hi: U64, lo: U64, times_ns: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether each address counted as private."""
        found = np.zeros(len(hi), bool)
        for number, at in self._by_value(times_ns):
            found[at] = self._values[number].private.contains(hi[at], lo[at])
        return found

    def _by_value(self, times_ns: NDArray[np.int64]) -> list[tuple[int, slice | NDArray[np.intp]]]:
        if len(self._values) == 1 or not len(times_ns):
            return [(0, slice(None))] if self._values else []
        numbers = np.maximum(np.searchsorted(self._from_ns, times_ns, side="right") - 1, 0)
        found = np.unique(numbers).tolist()
        return [(each, slice(None) if len(found) == 1 else np.flatnonzero(numbers == each)) for each in found]
