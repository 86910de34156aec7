"""The policies in force, one version after the other, and the tables that change as rarely: sets and services."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tierflow.inventory.address_numbers import AddressNumbers
from tierflow.inventory.address_ranges import NetworkSetTable
from tierflow.inventory.snapshot import NetworkSetEntry, ServicePort, ServiceTable, service_key
from tierflow.policy.resources import parse_documents
from tierflow.schemas import inventory as topic
from tierflow.schemas.record import address_halves

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from tierflow.policy.document import Problem
    from tierflow.policy.model import Resources
    from tierflow.schemas.inventory import ObjectVersion

POLICY_KINDS = frozenset({topic.POLICY, topic.NETWORK_SET, topic.NAMESPACE, topic.SERVICE_ACCOUNT, topic.SERVICE})
"""Kinds that make a new policy version when they change."""


class PolicyVersions:
    """Resources by the time from which they were in force; only what a change touches is parsed again."""

    __slots__ = ("_stale_from_ns", "_versions", "problems")

    def __init__(self) -> None:
        self._versions: list[tuple[int, Resources]] = []
        self._stale_from_ns: int | None = 0
        self.problems: dict[str, Problem] = {}

    def touch(self, version: ObjectVersion) -> None:
        """A version began or ended: everything from then on is stale."""
        at = version.valid_from_ns if version.valid_to_ns is None else version.valid_to_ns
        self._stale_from_ns = at if self._stale_from_ns is None else min(self._stale_from_ns, at)

    def expire(self, horizon_ns: int) -> None:
        """Forget what was in force only before ``horizon_ns``."""
        while len(self._versions) > 1 and self._versions[1][0] <= horizon_ns:
            del self._versions[0]

    def build(self, versions: Sequence[ObjectVersion], horizon_ns: int) -> list[tuple[int, Resources]]:
        """The versions in order; what changed before ``horizon_ns`` is one version."""
        if self._stale_from_ns is None:
            return self._versions
        stale = max(self._stale_from_ns, horizon_ns)
        self._versions = [each for each in self._versions if each[0] < stale]
        ends = {time for each in versions for time in (each.valid_from_ns, each.valid_to_ns) if time is not None}
        times = sorted({time for time in ends if time >= stale} | ({stale} if not self._versions else set()))
        for time in times:
            valid = [
                each
                for each in versions
                if each.valid_from_ns <= time and (each.valid_to_ns is None or each.valid_to_ns > time)
            ]
            self._versions.append((time, self._parse(valid)))
        self._stale_from_ns = None
        return self._versions

    def _parse(self, versions: Iterable[ObjectVersion]) -> Resources:
        documents = [(each.key, 0, _manifest(each)) for each in sorted(versions, key=lambda each: each.key)]
        resources, problems = parse_documents(documents)
        self.problems |= {str(problem): problem for problem in problems}
        return resources


def _manifest(version: ObjectVersion) -> dict[str, Any]:
    found: dict[str, Any] = version.object["manifest"] if version.kind == topic.SERVICE else version.object
    return found


def network_sets(
    versions: Iterable[ObjectVersion], namespaces: Mapping[str, int]
) -> tuple[tuple[NetworkSetEntry, ...], NetworkSetTable]:
    """The network sets that exist now."""
    entries, ranges = [], []
    for version in sorted(versions, key=lambda each: each.key):
        metadata, spec = version.object["metadata"], version.object.get("spec") or {}
        labels = tuple(sorted(f"{key}={value}" for key, value in (metadata.get("labels") or {}).items()))
        entries.append(NetworkSetEntry(metadata.get("namespace"), metadata["name"], labels))
        ranges.append((metadata.get("namespace"), metadata["name"], spec.get("nets") or []))
    return tuple(entries), NetworkSetTable(ranges, namespaces)


def services(
    versions: Iterable[ObjectVersion], node_addresses: Sequence[str]
) -> tuple[tuple[ServicePort, ...], ServiceTable]:
    """Services that exist now or did in the retained past; of two with one address the one that began last."""
    entries: list[ServicePort] = []
    found: dict[tuple[int, int, int, int], int] = {}
    for version in sorted(versions, key=lambda each: (each.valid_from_ns, each.key)):
        selector = _selector(version.object)
        for i, port in enumerate(version.object["ports"]):
            target = _target_port(version.object, i, port["port"])
            entries.append(
                ServicePort(
                    version.object["namespace"], version.object["name"], port["name"], port["port"], target, selector
                )
            )
            for address, number in _listening(version.object, port, node_addresses):
                found[*address_halves(address), number, port["protocol"]] = len(entries) - 1
    numbers: dict[tuple[int, int], int] = {}
    for hi, lo, *_ in found:
        numbers.setdefault((hi, lo), len(numbers))
    addresses = np.array(list(numbers), np.uint64).reshape(-1, 2)
    rows = np.array([(numbers[hi, lo], port, proto) for hi, lo, port, proto in found], np.int32).reshape(-1, 3)
    keys = service_key(rows[:, 0], rows[:, 1], rows[:, 2])
    order = np.argsort(keys)
    index = np.array(list(found.values()), np.int32)[order]
    table = ServiceTable(AddressNumbers(addresses[:, 0].copy(), addresses[:, 1].copy()), keys[order], index)
    return tuple(entries), table


def _selector(service: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    found = (service["manifest"].get("spec") or {}).get("selector")
    return tuple(sorted((str(key), str(value)) for key, value in found.items())) if isinstance(found, dict) else ()


def _target_port(service: dict[str, Any], i: int, port: int) -> int | str:
    """The pods' port of the Service's i-th port; Kubernetes' default is the port itself."""
    found = service["manifest"]["spec"]["ports"][i].get("targetPort")
    return found if isinstance(found, int | str) and found else port


def _listening(
    service: dict[str, Any], port: dict[str, Any], node_addresses: Sequence[str]
) -> Iterator[tuple[str, int]]:
    for address in service["addresses"]:
        yield address, port["port"]
    if port["node_port"]:
        for address in node_addresses:
            yield address, port["node_port"]
