"""The worker's side of history: from messages of the topic to snapshots, rebuilding only what changed."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from tierflow.inventory.address_ranges import UPSTREAM_PRIVATE, PrivateRanges
from tierflow.inventory.address_table import FOREVER, AddressTable, segments_of
from tierflow.inventory.resources import POLICY_KINDS, PolicyVersions, network_sets, services
from tierflow.inventory.snapshot import EndpointVersion, Snapshot
from tierflow.policy.model import Endpoint
from tierflow.schemas import inventory as topic
from tierflow.schemas.clock import NS_PER_S
from tierflow.schemas.record import address_halves

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tierflow.inventory.address_table import Segment
    from tierflow.policy.document import Problem
    from tierflow.schemas.inventory import Heartbeat, Message, ObjectVersion, Tombstone

DEFAULT_RETENTION_NS: Final = 3600 * NS_PER_S
_LATELY: Final = 1024
"""Addresses that may have changed since the large table was built before it is built again."""

Halves = tuple[int, int]
Which = tuple[str, str, int]


class History:
    """Applies messages in the topic's order; equal messages give equal snapshots, whenever these are taken."""

    def __init__(self, *, retention_ns: int = DEFAULT_RETENTION_NS, private: Sequence[str] = UPSTREAM_PRIVATE) -> None:
        """Keep versions for ``retention_ns`` after their end; ``private`` are the prefixes shown as ``pvt``."""
        self._retention_ns = retention_ns
        self._private = PrivateRanges(private)
        self._watermark_ns = 0
        self._epoch = -1
        self._expired_ns = 0
        self._generation = 0
        self._endpoints: list[EndpointVersion] = []
        self._ids: dict[Which, int] = {}
        self._namespace_ids: dict[str, int] = {}
        self._endpoint_namespace: list[int] = []
        self._holders: dict[Halves, list[int]] = {}
        self._segments: dict[Halves, list[Segment]] = {}
        self._changed: set[Halves] = set()
        self._lately: set[Halves] = set()
        self._table: AddressTable | None = None
        self._rare: dict[Which, ObjectVersion] = {}
        self._rare_changed = True
        self._policies = PolicyVersions()
        self._strings: dict[str, str] = {}
        self._snapshot: Snapshot | None = None

    @property
    def watermark_ns(self) -> int:
        """What happened before this time has been applied."""
        return self._watermark_ns

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Policies that could not be used."""
        return tuple(self._policies.problems.values())

    def apply(self, message: Message) -> None:
        """Take one message; a message seen before changes nothing."""
        if isinstance(message, topic.Heartbeat):
            self._heartbeat(message)
        elif isinstance(message, topic.Tombstone):
            self._forget(message)
        elif message.kind in (topic.ENDPOINT, topic.NODE) or message.object.get("kind") == "HostEndpoint":
            self._put_endpoint(message)
        if isinstance(message, topic.ObjectVersion) and message.kind != topic.ENDPOINT:
            self._put_rare(message)

    def _heartbeat(self, heartbeat: Heartbeat) -> None:
        if heartbeat.epoch < self._epoch:
            return
        self._epoch = heartbeat.epoch
        self._watermark_ns = max(self._watermark_ns, heartbeat.watermark_ns)

    def _put_rare(self, version: ObjectVersion) -> None:
        which = (version.kind, version.key, version.valid_from_ns)
        if self._rare.get(which) == version:
            return
        self._rare[which] = version
        self._rare_changed = True
        if version.kind in POLICY_KINDS:
            self._policies.touch(version)

    def _put_endpoint(self, version: ObjectVersion) -> None:
        which = (version.kind, version.key, version.valid_from_ns)
        number = self._ids.get(which)
        if number is not None:
            known = self._endpoints[number]
            if known.valid_to_ns == version.valid_to_ns:
                return
            self._endpoints[number] = replace(known, valid_to_ns=version.valid_to_ns)
            self._mark(known.endpoint.addresses)
            return
        made = self._endpoint(version)
        number = len(self._endpoints)
        self._ids[which] = number
        self._endpoints.append(made)
        self._endpoint_namespace.append(self._namespace_id(made.namespace))
        for address in made.endpoint.addresses:
            self._holders.setdefault(address_halves(address), []).append(number)
        self._mark(made.endpoint.addresses)

    def _mark(self, addresses: Iterable[str]) -> None:
        self._changed.update(address_halves(address) for address in addresses)

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
            for version in self._rare.values()
            if version.kind == topic.NODE and version.valid_to_ns is None and version.object["name"] == name
            for address in version.object["addresses"]
        ]

    def _shared(self, text: str) -> str:
        return self._strings.setdefault(text, text)

    def _shared_labels(self, labels: dict[str, str]) -> dict[str, str]:
        # Most label texts are common to many pods; one copy of each is kept.
        shared = self._strings.setdefault
        return {shared(key, key): shared(value, value) for key, value in labels.items()}

    def _forget(self, tombstone: Tombstone) -> None:
        which = (tombstone.kind, tombstone.key, tombstone.valid_from_ns)
        version = self._rare.get(which)
        # The topic's own retention is longer than a reader's: only what has ended is ever forgotten.
        if version is not None and version.valid_to_ns is not None:
            self._expire_rare([which])

    def _expire_rare(self, old: Iterable[Which]) -> None:
        for which in old:
            del self._rare[which]
            self._rare_changed = True

    def _expire(self) -> None:
        """Drop what ended before the retained past; done rarely, since it numbers endpoint versions anew."""
        horizon = self._watermark_ns - self._retention_ns
        if horizon - self._expired_ns < self._retention_ns // 8:
            return
        self._expired_ns = horizon
        self._policies.expire(horizon)
        self._expire_rare(
            [which for which, each in self._rare.items() if each.valid_to_ns is not None and each.valid_to_ns < horizon]
        )
        kept = [
            (which, number)
            for which, number in self._ids.items()
            if (end := self._endpoints[number].valid_to_ns) is None or end >= horizon
        ]
        if len(kept) == len(self._endpoints):
            return
        self._endpoints = [self._endpoints[number] for _, number in kept]
        self._endpoint_namespace = [self._endpoint_namespace[number] for _, number in kept]
        self._ids = {which: number for number, (which, _) in enumerate(kept)}
        self._generation += 1
        self._strings.clear()
        self._holders.clear()
        self._segments.clear()
        self._lately.clear()
        self._table = None
        for number, version in enumerate(self._endpoints):
            for address in version.endpoint.addresses:
                self._holders.setdefault(address_halves(address), []).append(number)
        self._changed = set(self._holders)

    def snapshot(self) -> Snapshot:
        """What is known now. Cheap when little changed since the last one; the same object when nothing did."""
        self._expire()
        last = self._snapshot
        if last is not None and not self._changed and not self._rare_changed:
            if last.watermark_ns != self._watermark_ns:
                self._snapshot = last = replace(last, watermark_ns=self._watermark_ns)
            return last
        held, lately = self._address_tables()
        if last is None or self._rare_changed:
            last = self._rare_parts(held)
        self._snapshot = replace(
            last,
            watermark_ns=self._watermark_ns,
            generation=self._generation,
            endpoints=tuple(self._endpoints),
            endpoint_namespace=np.array(self._endpoint_namespace, np.int32),
            namespaces=tuple(self._namespace_ids),
            _held=held,
            _held_lately=lately,
        )
        return self._snapshot

    def _address_tables(self) -> tuple[AddressTable, AddressTable | None]:
        for halves in self._changed:
            self._segments[halves] = segments_of(
                (version.valid_from_ns, FOREVER if version.valid_to_ns is None else version.valid_to_ns, version.key, n)
                for n in self._holders[halves]
                for version in (self._endpoints[n],)
            )
        self._lately |= self._changed
        self._changed.clear()
        if self._table is None or len(self._lately) > _LATELY + len(self._segments) // 16:
            self._table = self._table_of(self._segments)
            self._lately.clear()
        return self._table, self._table_of(self._lately) if self._lately else None

    def _table_of(self, addresses: Iterable[Halves]) -> AddressTable:
        chosen = sorted(addresses)
        halves = np.array(chosen, np.uint64).reshape(-1, 2)
        return AddressTable(halves[:, 0].copy(), halves[:, 1].copy(), [self._segments[each] for each in chosen])

    def _rare_parts(self, held: AddressTable) -> Snapshot:
        now = [each for each in self._rare.values() if each.valid_to_ns is None]
        for version in now:
            if version.kind in (topic.NETWORK_SET, topic.POLICY):
                self._namespace_id(version.object["metadata"].get("namespace") or "")
        nodes = [each.object for each in now if each.kind == topic.NODE]
        node_addresses = [address for node in nodes for address in node["addresses"]]
        sets, set_table = network_sets([each for each in now if each.kind == topic.NETWORK_SET], self._namespace_ids)
        ports, port_table = services(
            [each for each in self._rare.values() if each.kind == topic.SERVICE], node_addresses
        )
        policies = self._policies.build(
            [each for each in self._rare.values() if each.kind in POLICY_KINDS], self._watermark_ns - self._retention_ns
        )
        self._rare_changed = False
        return Snapshot(
            watermark_ns=self._watermark_ns,
            generation=self._generation,
            endpoints=(),
            endpoint_namespace=np.zeros(0, np.int32),
            namespaces=(),
            network_sets=sets,
            services=ports,
            node_names=tuple(sorted(node["name"] for node in nodes)),
            policy_versions=tuple(resources for _, resources in policies),
            policy_from_ns=np.array([begin for begin, _ in policies], np.int64),
            _held=held,
            _held_lately=None,
            _sets=set_table,
            _services=port_table,
            _private=self._private,
        )
