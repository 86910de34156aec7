"""The worker's side of history: from messages of the topic to snapshots, rebuilding only what changed."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from tierflow.inventory.endpoint_versions import EndpointVersions, with_times
from tierflow.inventory.resources import (
    OUTSIDE_KINDS,
    POLICY_KINDS,
    Outside,
    OutsideTimes,
    backs_a_rule,
    outside_of,
    parse_policies,
    services_named,
)
from tierflow.inventory.services import Slices, service_table
from tierflow.inventory.snapshot import EndpointVersion, Snapshot
from tierflow.inventory.timeline import Timeline
from tierflow.policy.model import Endpoint
from tierflow.policy.ports import read_protocol
from tierflow.schemas import inventory as topic
from tierflow.schemas.clock import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tierflow.inventory.endpoint_versions import EndpointColumns, Which
    from tierflow.policy.document import Problem
    from tierflow.policy.model import Resources
    from tierflow.policy.resources import ReadDocument
    from tierflow.policy.services import ServiceKey
    from tierflow.schemas.inventory import Heartbeat, Message, ObjectVersion, Tombstone

DEFAULT_RETENTION_NS: Final = 3600 * NS_PER_S


_RARE_KINDS: Final = topic.KINDS - {topic.ENDPOINT, topic.ENDPOINT_SLICE}


class History:
    """Applies messages in the topic's order; equal messages give equal snapshots, whenever these are taken."""

    def __init__(self, *, retention_ns: int = DEFAULT_RETENTION_NS) -> None:
        """Keep versions for ``retention_ns`` after their end, until the topic's settings say otherwise."""
        self._retention_ns = retention_ns
        self._watermark_ns = 0
        self._epoch = -1
        self._expired_ns = 0
        self._generation = 0
        self._endpoints = EndpointVersions()
        self._namespace_ids: dict[str, int] = {}
        self._slices = Slices()
        self._rare: dict[str, dict[Which, ObjectVersion]] = {}
        self._named: set[ServiceKey] = set()
        self._stale = set(_RARE_KINDS)
        self._policies: Timeline[Resources] = Timeline(self._parse)
        self._outside: Timeline[Outside] = Timeline(lambda versions: outside_of(versions, self._namespace_id))
        self._read: dict[Which, ReadDocument] = {}
        self._problems: dict[str, Problem] = {}
        self._strings: dict[str, str] = {}
        self._rare_parts: dict[str, Any] = {}
        self._columns: EndpointColumns | None = None
        self._snapshot: Snapshot | None = None

    @property
    def watermark_ns(self) -> int:
        """What happened before this time has been applied."""
        return self._watermark_ns

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Policies that could not be used."""
        return tuple(self._problems.values())

    @property
    def known_from_ns(self) -> int:
        """The begin of the retained past: of what was before, only what held on at this time is known."""
        return max(0, self._watermark_ns - self._retention_ns)

    def apply(self, message: Message) -> None:
        """Take one message; a message seen before changes nothing."""
        if isinstance(message, topic.Heartbeat):
            self._heartbeat(message)
        elif isinstance(message, topic.Tombstone):
            self._forget(message)
        elif message.kind == topic.ENDPOINT_SLICE:
            self._slices.put(message)
            if "rule_addresses" in message.object:
                self._put_rare(message)
        else:
            if message.kind in (topic.ENDPOINT, topic.NODE) or message.object.get("kind") == "HostEndpoint":
                self._put_endpoint(message)
            if message.kind != topic.ENDPOINT:
                self._put_rare(message)

    def _heartbeat(self, heartbeat: Heartbeat) -> None:
        if heartbeat.epoch < self._epoch:
            return
        if heartbeat.epoch > self._epoch and heartbeat.watermark_ns:
            # Another publisher, or a clock that was put right, may know less far than the one before.
            self._epoch, self._watermark_ns = heartbeat.epoch, heartbeat.watermark_ns
        self._watermark_ns = max(self._watermark_ns, heartbeat.watermark_ns)

    def _put_rare(self, version: ObjectVersion) -> None:
        which = (version.kind, version.key, version.valid_from_ns)
        of_kind = self._rare.setdefault(version.kind, {})
        known = of_kind.get(which)
        if known == version:
            return
        of_kind[which] = version
        if version.kind == topic.POLICY and (new := set(services_named(version.object)) - self._named):
            self._name(new)
        if version.kind == topic.ENDPOINT_SLICE and not backs_a_rule(version, self._named):
            return
        self._stale.add(version.kind)
        if version.kind in POLICY_KINDS:
            self._policies.touch(_changed_from_ns(known, version))
        if version.kind in OUTSIDE_KINDS:
            self._outside.touch(_changed_from_ns(known, version))
        if version.kind == topic.SETTINGS and version.valid_to_ns is None:
            self._retention_ns = topic.Settings.of_object(version.object).retention_s * NS_PER_S

    def _name(self, services: set[ServiceKey]) -> None:
        """From now on these EndpointSlices make policy versions, from their own begins on."""
        self._named |= services
        for each in self._of_kinds(topic.ENDPOINT_SLICE):
            if backs_a_rule(each, services):
                self._policies.touch(each.valid_from_ns)

    def _put_endpoint(self, version: ObjectVersion) -> None:
        which = (version.kind, version.key, version.valid_from_ns)
        known = self._endpoints.known(which)
        if known is None:
            made = self._endpoint(version)
            self._endpoints.add(which, made, self._namespace_id(made.namespace))
        elif known.valid_to_ns != version.valid_to_ns:
            self._endpoints.end(which, version.valid_to_ns)

    def _namespace_id(self, name: str) -> int:
        return self._namespace_ids.setdefault(name, len(self._namespace_ids)) if name else -1

    def _endpoint(self, version: ObjectVersion) -> EndpointVersion:
        content = version.object
        if version.kind == topic.NODE:
            endpoint = self._host_endpoint(content["name"], content["labels"], content["addresses"])
            return self._version(version, endpoint, content["name"], content["name"], policed=False)
        if version.kind == topic.POLICY:
            metadata, spec = content["metadata"], content.get("spec") or {}
            node = spec.get("node") or ""
            addresses = spec.get("expectedIPs") or self._node_addresses_of(node)
            endpoint = self._host_endpoint(metadata["name"], metadata.get("labels") or {}, addresses)
            endpoint = replace(endpoint, named_ports=_named_ports(spec.get("ports") or ()))
            return self._version(version, endpoint, node or metadata["name"], node, policed=True)
        endpoint = Endpoint(
            kind=content["type"],
            namespace=self._shared(content["namespace"]),
            name=content["name"],
            labels=self._shared_labels(content["labels"]),
            service_account=self._shared(content["service_account"]),
            named_ports=tuple((name, proto, port) for name, proto, port in content["named_ports"]),
            addresses=tuple(content["addresses"]),
        )
        aggregated, node = self._shared(content["name_aggr"]), self._shared(content["node"])
        return self._version(version, endpoint, aggregated, node, policed=content["policed"])

    def _version(
        self, version: ObjectVersion, endpoint: Endpoint, name_aggr: str, node: str, *, policed: bool
    ) -> EndpointVersion:
        return EndpointVersion(
            endpoint, version.key, name_aggr, node, policed, version.valid_from_ns, version.valid_to_ns
        )

    def _host_endpoint(self, name: str, labels: dict[str, Any], addresses: Sequence[str]) -> Endpoint:
        return Endpoint(
            kind="hep", namespace="", name=name, labels=self._shared_labels(labels), service_account="",
            named_ports=(), addresses=tuple(addresses),
        )  # fmt: skip

    def _node_addresses_of(self, name: str) -> list[str]:
        return [
            address
            for version in self._of_kinds(topic.NODE)
            if version.valid_to_ns is None and version.object["name"] == name
            for address in version.object["addresses"]
        ]

    def _shared(self, text: str) -> str:
        return self._strings.setdefault(text, text)

    def _shared_labels(self, labels: dict[str, str]) -> dict[str, str]:
        # Most label texts are common to many pods; one copy of each is kept.
        shared = self._strings.setdefault
        return {shared(key, key): shared(value, value) for key, value in labels.items()}

    def _of_kinds(self, *kinds: str) -> list[ObjectVersion]:
        return [version for kind in kinds for version in self._rare.get(kind, {}).values()]

    def _deciding(self) -> list[ObjectVersion]:
        """What makes policy versions: of EndpointSlices, those that rules of the retained past depend on."""
        slices = self._of_kinds(topic.ENDPOINT_SLICE)
        return [
            *self._of_kinds(*POLICY_KINDS - {topic.ENDPOINT_SLICE}),
            *(each for each in slices if backs_a_rule(each, self._named)),
        ]

    def _parse(self, versions: Sequence[ObjectVersion]) -> Resources:
        resources, problems = parse_policies(versions, self._read)
        self._problems |= {str(problem): problem for problem in problems}
        return resources

    def _forget(self, tombstone: Tombstone) -> None:
        which = (tombstone.kind, tombstone.key, tombstone.valid_from_ns)
        version = self._rare.get(tombstone.kind, {}).get(which)
        # The topic's own retention is longer than a reader's: only what has ended is ever forgotten.
        if version is not None and version.valid_to_ns is not None:
            self._expire_rare([which])

    def _expire_rare(self, old: Iterable[Which]) -> None:
        for which in old:
            del self._rare[which[0]][which]
            self._read.pop(which, None)
            self._stale.add(which[0])

    def _expire(self) -> None:
        """Drop what ended before the retained past; done rarely, since it numbers endpoint versions anew."""
        horizon = self._watermark_ns - self._retention_ns
        if horizon - self._expired_ns < self._retention_ns // 8:
            return
        self._expired_ns = horizon
        self._policies.expire(horizon)
        self._outside.expire(horizon)
        self._slices.expire(horizon)
        self._expire_rare(
            [
                which
                for of_kind in self._rare.values()
                for which, each in of_kind.items()
                if each.valid_to_ns is not None and each.valid_to_ns < horizon
            ]
        )
        self._named = {name for each in self._of_kinds(topic.POLICY) for name in services_named(each.object)}
        if self._endpoints.expire(horizon):
            self._generation += 1
            self._strings.clear()

    def snapshot(self) -> Snapshot:
        """What is known now. Cheap when little changed since the last one; the same object when nothing did."""
        self._expire()
        last, columns, slices = self._snapshot, self._endpoints.columns(), self._slices.by_service()
        if last is not None and not self._stale and columns is self._columns and slices is last.slices:
            if last.watermark_ns != self._watermark_ns:
                self._snapshot = last = replace(last, watermark_ns=self._watermark_ns)
            return last
        self._update_rare_parts()
        self._columns = columns
        boundaries = with_times(columns.boundaries_ns, self._rare_parts["policy_from_ns"].tolist())
        self._snapshot = Snapshot(
            **self._rare_parts,
            watermark_ns=self._watermark_ns,
            generation=self._generation,
            boundaries_ns=last.boundaries_ns if last and np.array_equal(boundaries, last.boundaries_ns) else boundaries,
            endpoints=columns.versions,
            endpoint_namespace=columns.namespaces,
            namespaces=tuple(self._namespace_ids),
            slices=slices,
            _held=columns.held,
            _held_lately=columns.held_lately,
        )
        return self._snapshot

    def _update_rare_parts(self) -> None:
        """Make those parts of a snapshot anew whose objects, other than endpoints, have changed."""
        parts = self._rare_parts
        horizon = self._watermark_ns - self._retention_ns
        if self._stale & POLICY_KINDS:
            policies = self._policies.build(self._deciding(), horizon)
            parts["policy_versions"] = tuple(resources for _, resources in policies)
            parts["policy_from_ns"] = np.array([begin for begin, _ in policies], np.int64)
        if self._stale & OUTSIDE_KINDS:
            parts["_outside"] = outside = OutsideTimes(self._outside.build(self._of_kinds(*OUTSIDE_KINDS), horizon))
            parts["network_sets"] = outside.entries
        if self._stale & {topic.SERVICE, topic.NODE}:
            parts["_services"] = table = service_table(self._of_kinds(topic.SERVICE), self._of_kinds(topic.NODE))
            parts["services"] = table.ports
        if topic.NODE in self._stale:
            nodes = (each for each in self._of_kinds(topic.NODE) if each.valid_to_ns is None)
            parts["node_names"] = tuple(sorted(each.object["name"] for each in nodes))
        self._stale.clear()


def _changed_from_ns(known: ObjectVersion | None, version: ObjectVersion) -> int:
    """From when on something is otherwise than with the same version as it was known before."""
    if known is None:
        return version.valid_from_ns
    ends = (end for end in (known.valid_to_ns, version.valid_to_ns) if end is not None)
    return min(ends, default=version.valid_from_ns)


def _named_ports(ports: Iterable[dict[str, Any]]) -> tuple[tuple[str, int, int], ...]:
    """(name, protocol number, port) of a HostEndpoint's ports."""
    return tuple((each["name"], read_protocol(each["protocol"]) or 0, each["port"]) for each in ports)
