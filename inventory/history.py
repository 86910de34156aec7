"""The worker's side of history: from messages of the topic to snapshots, rebuilding only what changed."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from tierflow.inventory.address_ranges import UPSTREAM_PRIVATE, PrivateRanges
from tierflow.inventory.endpoint_versions import EndpointVersions, with_times
from tierflow.inventory.resources import POLICY_KINDS, PolicyVersions, network_sets, services
from tierflow.inventory.snapshot import EndpointVersion, Snapshot
from tierflow.policy.model import Endpoint
from tierflow.policy.ports import read_protocol
from tierflow.schemas import inventory as topic
from tierflow.schemas.clock import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from tierflow.inventory.endpoint_versions import EndpointColumns, Which
    from tierflow.policy.document import Problem
    from tierflow.schemas.inventory import Heartbeat, Message, ObjectVersion, Tombstone

DEFAULT_RETENTION_NS: Final = 3600 * NS_PER_S


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
        self._endpoints = EndpointVersions()
        self._namespace_ids: dict[str, int] = {}
        self._rare: dict[Which, ObjectVersion] = {}
        self._rare_changed = True
        self._policies = PolicyVersions()
        self._strings: dict[str, str] = {}
        self._columns: EndpointColumns | None = None
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
        if self._endpoints.expire(horizon):
            self._generation += 1
            self._strings.clear()

    def snapshot(self) -> Snapshot:
        """What is known now. Cheap when little changed since the last one; the same object when nothing did."""
        self._expire()
        last, columns = self._snapshot, self._endpoints.columns()
        if last is None or self._rare_changed:
            last = self._rare_parts(columns)
        elif columns is self._columns:
            if last.watermark_ns != self._watermark_ns:
                self._snapshot = last = replace(last, watermark_ns=self._watermark_ns)
            return last
        self._columns = columns
        self._snapshot = replace(
            last,
            watermark_ns=self._watermark_ns,
            generation=self._generation,
            boundaries_ns=self._boundaries(columns, last),
            endpoints=columns.versions,
            endpoint_namespace=columns.namespaces,
            namespaces=tuple(self._namespace_ids),
            _held=columns.held,
            _held_lately=columns.held_lately,
        )
        return self._snapshot

    def _boundaries(self, columns: EndpointColumns, last: Snapshot) -> NDArray[np.uint64]:
        found = with_times(columns.boundaries_ns, last.policy_from_ns.tolist())
        return last.boundaries_ns if np.array_equal(found, last.boundaries_ns) else found

    def _rare_parts(self, columns: EndpointColumns) -> Snapshot:
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
            boundaries_ns=columns.boundaries_ns,
            endpoints=columns.versions,
            endpoint_namespace=columns.namespaces,
            namespaces=(),
            network_sets=sets,
            services=ports,
            node_names=tuple(sorted(node["name"] for node in nodes)),
            policy_versions=tuple(resources for _, resources in policies),
            policy_from_ns=np.array([begin for begin, _ in policies], np.int64),
            _held=columns.held,
            _held_lately=columns.held_lately,
            _sets=set_table,
            _services=port_table,
            _private=self._private,
        )


def _named_ports(ports: Iterable[dict[str, Any]]) -> tuple[tuple[str, int, int], ...]:
    """(name, protocol number, port) of a HostEndpoint's ports."""
    return tuple((each["name"], read_protocol(each["protocol"]) or 0, each["port"]) for each in ports)
