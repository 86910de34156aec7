"""The lab as a whole: set up, let the rogue in and out, look at it, take it down."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import orjson

from tierflow.lab import command, enforcement, manifests, namespaces, pods, processes, record, services, truth
from tierflow.policy import Endpoint, compile_policies, enforcement_plan, parse_documents
from tierflow.schemas.errors import ConfigurationError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from tierflow.lab.manifests import Manifest
    from tierflow.lab.record import Pod, Record
    from tierflow.policy import PolicySet
    from tierflow.schemas.clock import Clock

POD_PREFIX: Final = "10.244.0"
LAST_HOST: Final = 250
DNS_ADDRESS: Final = "10.96.0.10"
INTERNET: Final = {"api.twilio.com": "203.0.113.10", "elsewhere": "198.51.100.20"}
"""Addresses of the internet host, all in documentation ranges (RFC 5737)."""
PROTOCOLS: Final = {"TCP": 6, "UDP": 17, "SCTP": 132}
ROGUE: Final = "rogue"
TABLES: Final = (services.TABLE, enforcement.TABLE, truth.TABLE)


@dataclass(frozen=True, slots=True)
class LabSettings:
    """Where the lab reads and writes.

    Attributes:
        state: the lab's own folder under the state folder.
        manifests: the storefront's folder, with its subfolders ``lab`` and ``rogue``.
    """

    state: Path
    manifests: Path

    @property
    def inventory(self) -> Path:
        """Live objects, for an inventory that reads manifests."""
        return self.state / "inventory"

    @property
    def run(self) -> processes.RunFolder:
        """Counts and output of the programs."""
        return processes.RunFolder(self.state / "run")


class Lab:
    """One lab on this machine.

    Args:
        settings: where it reads and writes.
        clock: for the start times of pods.
    """

    def __init__(self, settings: LabSettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock

    def set_up(self, node: str = record.NODE) -> bool:
        """Bring the storefront up on a node of this name; what an earlier, killed command left is removed first.

        Returns:
            False if it was up already.

        Raises:
            UnavailableError: no privilege, another lab in the way, or the kernel refuses.
            ConfigurationError: a manifest is wrong.
        """
        command.require_privilege()
        with record.only_one(self._settings.state):
            old = record.load(self._settings.state)
            if old is not None and self._whole(old):
                return False
            self._remove(old)
            self._refuse_neighbour()
            documents = self._documents()
            fresh = record.new_record(node)
            for deployment in manifests.deployments(documents):
                fresh = self._planned(fresh, deployment)
            fresh = replace(fresh, pods=(*fresh.pods, _internet(fresh, self._clock)))
            try:
                self._build(fresh, documents)
            except BaseException:
                self._remove(fresh)
                raise
            return True

    def deploy_rogue(self) -> Pod:
        """Start the rogue; one that is there already stays.

        Raises:
            UnavailableError: the lab isn't up.
        """
        command.require_privilege()
        with record.only_one(self._settings.state):
            now = self._required()
            there = [pod for pod in now.pods if pod.deployment == ROGUE]
            if there and namespaces.processes(there[0].netns):
                return there[0]
            now = self._without_rogue(now)
            (deployment,) = manifests.deployments(manifests.read_folder(self._settings.manifests / ROGUE))
            now = self._planned(now, deployment)
            rogue = now.pods[-1]
            record.save(self._settings.state, now)
            namespaces.add_pod(rogue, _resolver(rogue.namespace))
            pods.publish(self._settings.inventory, rogue)
            self._enforce(now, self._documents())
            processes.start([rogue], self._settings.run)
            return rogue

    def remove_rogue(self) -> bool:
        """Stop the rogue and delete its pod.

        Returns:
            False if there was none.

        Raises:
            UnavailableError: the lab isn't up.
        """
        command.require_privilege()
        with record.only_one(self._settings.state):
            now = self._required()
            return self._without_rogue(now) is not now

    def pause(self) -> None:
        """Let no pod begin another call; behind the lock, since a program that still starts would die of the signal."""
        with record.only_one(self._settings.state):
            processes.pause(self._required().pods)

    def resume(self) -> None:
        """Let the pods call again."""
        with record.only_one(self._settings.state):
            processes.resume(self._required().pods)

    def status(self) -> list[dict[str, Any]]:
        """One entry a pod: namespace, name, address, link, running, served, in_flight, paused and calls by URL.

        An empty list means that there is no lab.
        """
        now = record.load(self._settings.state)
        return [] if now is None else [self._status_of(pod) for pod in now.pods]

    def down(self) -> bool:
        """Remove everything that the lab made.

        Returns:
            False if there was nothing.
        """
        # Looked for behind the lock: a set-up that holds it may not have written its record yet.
        with record.only_one(self._settings.state):
            old = record.load(self._settings.state)
            if old is None:
                return False
            command.require_privilege()
            self._remove(old)
        return True

    def _build(self, fresh: Record, documents: list[tuple[str, int, Manifest]]) -> None:
        settings = self._settings
        record.save(settings.state, fresh)
        for pod in fresh.pods:
            namespaces.add_pod(pod, _resolver(pod.namespace))
        settings.run.path.mkdir(parents=True, exist_ok=True)
        found = manifests.services(documents)
        settings.run.zone.write_bytes(orjson.dumps(_zone(found)))
        services.replace_table(services.TABLE, services.ruleset(found, fresh.pods))
        truth.start()
        self._enforce(fresh, documents)
        own = [document for _, _, document in manifests.read_folder(settings.manifests / "lab")]
        pods.write_documents(
            settings.inventory / "cluster.yaml",
            [_node(fresh.node), *(each for each in own if each["kind"] != "Deployment")],
        )
        for pod in fresh.pods:
            if pod.deployment:
                pods.publish(settings.inventory, pod)
        processes.start(fresh.pods, settings.run)
        record.save(settings.state, replace(fresh, complete=True))

    def _enforce(self, now: Record, documents: list[tuple[str, int, Manifest]]) -> None:
        members = [pod for pod in now.pods if pod.deployment]
        plans = enforcement_plan(_policies(documents), [_endpoint(pod) for pod in members])
        enforcement.enforce([(pod.link, plan) for pod, plan in zip(members, plans, strict=True)])

    def _planned(self, now: Record, deployment: manifests.Deployment) -> Record:
        for _ in range(deployment.replicas):
            address = f"{POD_PREFIX}.{now.next_host}"
            pod = pods.new_pod(deployment, address, now.netns_prefix, self._clock, now.node)
            following = now.next_host + 1 if now.next_host < LAST_HOST else 10
            taken = {int(each.addresses[0].rsplit(".", 1)[1]) for each in now.pods}
            while following in taken:
                following += 1
            now = replace(now, pods=(*now.pods, pod), next_host=following)
        return now

    def _without_rogue(self, now: Record) -> Record:
        gone = tuple(pod for pod in now.pods if pod.deployment == ROGUE)
        if not gone:
            return now
        left = now.without(gone)
        for pod in gone:
            namespaces.stop_processes([pod.netns])
            pods.withdraw(self._settings.inventory, pod)
            namespaces.remove_pod(pod.netns, pod.link)
            self._settings.run.forget(pod)
        self._enforce(left, self._documents())
        record.save(self._settings.state, left)
        return left

    def _remove(self, old: Record | None) -> None:
        if old is not None and old.node_netns == record.current_netns():
            names = namespaces.namespaces(old.netns_prefix)
            namespaces.stop_processes(names)
            links = {pod.netns: pod.link for pod in old.pods}
            for name in {*names, *links}:
                namespaces.remove_pod(name, links.get(name))
            for table in TABLES:
                command.succeeds("nft", "delete", "table", "ip", table)
        shutil.rmtree(self._settings.inventory, ignore_errors=True)
        shutil.rmtree(self._settings.run.path, ignore_errors=True)
        (self._settings.state / "lab.json").unlink(missing_ok=True)

    def _whole(self, old: Record) -> bool:
        return (
            old.complete
            and old.node_netns == record.current_netns()
            and all(len(namespaces.processes(pod.netns)) >= len(pod.containers) for pod in old.pods)
            and all(command.succeeds("nft", "list", "table", "ip", table) for table in TABLES)
        )

    def _refuse_neighbour(self) -> None:
        taken = command.run("ip", "route", "show", "root", f"{POD_PREFIX}.0/24").split()
        if taken:
            raise UnavailableError(
                f"lab: {POD_PREFIX}.0/24 is routed on this machine already ({' '.join(taken[:3])}): by another lab, "
                "which `tierflow lab down` with its own TIERFLOW_STATE removes, or by a cluster"
            )

    def _required(self) -> Record:
        now = record.load(self._settings.state)
        if now is None or not now.complete:
            raise UnavailableError("lab: not up; `tierflow lab set-up` starts it")
        if now.node_netns != record.current_netns():
            raise UnavailableError("lab: set up in another network namespace, or before the machine was started anew")
        return now

    def _documents(self) -> list[tuple[str, int, Manifest]]:
        folder = self._settings.manifests
        documents = [*manifests.read_folder(folder / "lab"), *manifests.read_folder(folder)]
        if not documents:
            raise ConfigurationError(f"lab: no manifests in {folder}")
        return documents

    def _status_of(self, pod: Pod) -> dict[str, Any]:
        return {
            "namespace": pod.namespace or "-",
            "name": pod.name,
            "address": pod.addresses[0],
            "netns": pod.netns,
            "link": pod.link,
            "running": len(namespaces.processes(pod.netns)) >= len(pod.containers),
            **processes.counts(pod, self._settings.run),
        }


def _policies(documents: list[tuple[str, int, Manifest]]) -> PolicySet:
    resources, problems = parse_documents(documents)
    if problems:
        raise ConfigurationError(str(problems[0]))
    return compile_policies(resources)


def _endpoint(pod: Pod) -> Endpoint:
    return Endpoint(
        kind="wep",
        namespace=pod.namespace,
        name=pod.name,
        labels=pod.labels,
        service_account=pod.service_account,
        named_ports=tuple((name, PROTOCOLS[protocol], port) for name, protocol, port in pod.ports),
        addresses=pod.addresses,
    )


def _internet(now: Record, clock: Clock) -> Pod:
    """The host that stands for everything outside: the same server on port 80, no pod, no policy."""
    template = manifests.Deployment(
        namespace="",
        name="internet",
        labels={},
        service_account="",
        template_hash="host",
        replicas=1,
        containers=({"name": "internet", "image": "tierflow/storefront", "args": ["serve", "--listen", "80"]},),
    )
    host = pods.new_pod(template, "", now.netns_prefix, clock)
    link = pods.link_name("tx", host.name)
    return replace(host, deployment="", link=link, addresses=tuple(INTERNET.values()))


def _resolver(namespace: str) -> str:
    search = f"search {namespace}.svc.cluster.local svc.cluster.local cluster.local\n" if namespace else ""
    return f"nameserver {DNS_ADDRESS}\n{search}options ndots:5 timeout:1 attempts:2\n"


def _zone(found: Iterable[manifests.Service]) -> dict[str, str]:
    names = {f"{service.name}.{service.namespace}.svc.cluster.local": service.cluster_ip for service in found}
    return names | {name: address for name, address in INTERNET.items() if "." in name}


def _node(name: str) -> Manifest:
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}}
