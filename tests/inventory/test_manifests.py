"""Facts of Kubernetes that joins get wrong, malformed objects, and folders that change."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import yaml

from tests.inventory.follower import holder
from tierflow.inventory.fields import MalformedObject
from tierflow.inventory.history import History
from tierflow.inventory.kinds import kind_of
from tierflow.inventory.manifests import ManifestSource, load_folder
from tierflow.inventory.objects import reduce
from tierflow.schemas.record import address_halves

if TYPE_CHECKING:
    from tierflow.schemas.inventory import Message, ObjectVersion

STOREFRONT = Path(__file__).resolve().parents[2] / "deploy" / "storefront"


def pod(name: str, address: str | None = "10.0.0.1", **more: Any) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "shop", "labels": {"app": name}} | more.pop("metadata", {})
    status = {"phase": "Running"} | ({"podIP": address} if address else {}) | more.pop("status", {})
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": more, "status": status}


def reduced(manifest: dict[str, Any]) -> dict[str, Any] | None:
    kind = kind_of(manifest["apiVersion"], manifest["kind"])
    assert kind is not None
    return reduce(kind, manifest).object


def write(path: Path, *documents: object) -> None:
    draft = path.with_suffix(".draft")
    draft.write_text(yaml.safe_dump_all(documents))
    draft.replace(path)


class Folder:
    """A folder of manifests followed into a history, at times that the test chooses."""

    def __init__(self, *paths: Path) -> None:
        self.source, self.history = ManifestSource(paths), History()

    def look(self, now: int, since: int | None = None) -> list[ObjectVersion]:
        messages = self.source.poll(now, since_ns=since)
        for message in messages:
            self.history.apply(message)
        return messages

    def name(self, address: str, at: int) -> str | None:
        found = holder(self.history.snapshot(), address, at)
        return None if found is None else found.endpoint.name


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_a_pod_that_ended_has_given_its_address_back(phase: str) -> None:
    assert reduced(pod("job", status={"phase": phase})) is None


def test_a_pod_on_the_hosts_network_or_without_an_address_is_no_endpoint() -> None:
    assert reduced(pod("agent", hostNetwork=True)) is None
    assert reduced(pod("waiting", address=None)) is None


def test_a_dual_stack_pod_has_both_addresses() -> None:
    several = [{"ip": "10.0.0.1"}, {"ip": "fd00:0::1"}]
    assert reduced(pod("web", status={"podIPs": several}))["addresses"] == ["10.0.0.1", "fd00::1"]


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({"generateName": "web-6d996fbd97-"}, "web-6d996fbd97-*"),
        ({"generateName": "db-", "name": "db-0"}, "db-*"),
        ({"name": "alone"}, "alone"),
    ],
)
def test_the_aggregated_name_is_generate_name_with_a_star_else_the_name(metadata, expected) -> None:
    assert reduced(pod("web-6d996fbd97-abcde", metadata=metadata))["name_aggr"] == expected


@pytest.mark.parametrize(
    ("manifest", "said"),
    [
        (pod("web", address="10.0.0.300"), "status.podIP is '10.0.0.300'; accepted: an IPv4 or IPv6 address"),
        (pod("web", metadata={"labels": {"n": 1}}), "metadata.labels.n is 1; accepted: text (quote it in YAML)"),
        (pod("web", metadata={"name": None}), "metadata.name is None; accepted: a name"),
        (pod("web", status={"startTime": "soon"}), "status.startTime is 'soon'"),
        (
            pod("web", containers=[{"ports": [{"name": "http", "containerPort": 99999}]}]),
            "spec.containers[0].ports[0].containerPort is 99999; accepted: a port from 1 to 65535",
        ),
        (
            {
                "apiVersion": "projectcalico.org/v3",
                "kind": "GlobalNetworkPolicy",
                "metadata": {"name": "p"},
                "spec": {"selector": "all()", "ingress": [{"action": "Permit"}]},
            },
            "spec.ingress[0].action",
        ),
    ],
)
def test_a_malformed_object_is_refused_by_field(manifest: dict[str, Any], said: str) -> None:
    with pytest.raises(MalformedObject) as refused:
        reduced(manifest)
    assert said in str(refused.value)


def test_a_policy_with_one_wrong_rule_is_left_out_as_a_whole_and_said_to_leave_verdicts_uncertain(
    tmp_path: Path,
) -> None:
    rules = [{"action": "Allow", "source": {"selector": "app == 'a'"}}, {"action": "Forbid"}]
    policy = {
        "apiVersion": "projectcalico.org/v3", "kind": "GlobalNetworkPolicy", "metadata": {"name": "odd"},
        "spec": {"types": ["Ingress"], "ingress": rules},
    }  # fmt: skip
    write(tmp_path / "odd.yaml", policy)
    folder = Folder(tmp_path)
    folder.look(10)
    (problem,) = folder.source.problems
    assert problem == (
        f"{tmp_path}/odd.yaml: document 0: GlobalNetworkPolicy odd: spec.ingress[1].action is 'Forbid'; accepted: "
        "Allow, Deny, Pass, Log; verdicts are as if it didn't exist, and uncertain where it would apply"
    )
    assert folder.source.policies_left_out == 1
    (tmp_path / "odd.yaml").write_text("[")
    folder.look(20)
    assert folder.source.policies_left_out == 1, "what a file said before it was broken still holds"
    rules.pop()
    write(tmp_path / "odd.yaml", policy)
    assert [each.key for each in folder.look(30)] == ["projectcalico.org/GlobalNetworkPolicy//odd"]
    assert folder.source.policies_left_out == 0


def test_a_malformed_object_is_reported_by_file_and_name_and_the_rest_goes_on(tmp_path: Path) -> None:
    write(tmp_path / "a.yaml", pod("web", "10.0.0.300"), pod("api", "10.0.0.2"))
    (tmp_path / "b.yaml").write_text("kind: [unclosed")
    folder = Folder(tmp_path)
    folder.look(100, since=0)
    assert folder.name("10.0.0.2", 50) == "api"
    first, second = sorted(folder.source.problems)
    assert first == (
        f"{tmp_path / 'a.yaml'}: document 0: Pod web: status.podIP is '10.0.0.300'; accepted: an IPv4 or IPv6 address"
    )
    assert second.startswith(f"{tmp_path / 'b.yaml'}: text is")


def test_a_folders_changes_become_versions_and_an_unchanged_one_says_nothing(tmp_path: Path) -> None:
    other = tmp_path / "later"
    folder = Folder(tmp_path, other)
    write(tmp_path / "web.yaml", pod("web"))
    folder.look(100, since=0)
    assert folder.look(110) == []
    (tmp_path / "web.yaml").unlink()
    folder.look(200)
    other.mkdir()
    write(other / "list.yaml", {"apiVersion": "v1", "kind": "List", "items": [pod("api")]})
    folder.look(300)
    assert [folder.name("10.0.0.1", at) for at in (0, 150, 250, 350)] == ["web", "web", None, "api"]


def test_a_file_that_is_broken_for_a_moment_takes_nothing_away(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    write(tmp_path / "web.yaml", pod("web"))
    folder.look(100, since=0)
    (tmp_path / "web.yaml").write_text("kind: [unclosed")
    folder.look(200)
    assert folder.name("10.0.0.1", 250) == "web"
    assert folder.source.problems


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.yaml", "[" * 100_000),
        ("a.yaml", "- " * 50_000),
        ("a.yaml", "\n".join(" " * level + "a:" for level in range(1_000))),
        ("a.json", "[" * 100_000),
    ],
)
def test_a_file_nested_without_end_is_reported_and_ends_nothing(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    write(tmp_path / "good.yaml", pod("frontend"))
    folder = Folder(tmp_path)
    folder.look(10)
    (problem,) = folder.source.problems
    assert problem.startswith(f"{tmp_path / name}: text is ")
    assert folder.name("10.0.0.1", 10) == "frontend"


def test_what_json_cannot_hold_is_reported_by_file_and_object(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    head = "apiVersion: projectcalico.org/v3\nkind: NetworkSet\nmetadata: {name: s}\n"
    (tmp_path / "set.yaml").write_text(f"{head}spec: {{nets: [10.0.0.0/8], more: !!binary aGVsbG8=}}")
    write(tmp_path / "web.yaml", pod("web"))
    folder.look(100, since=0)
    [problem] = folder.source.problems
    assert problem.startswith(f"{tmp_path / 'set.yaml'}: document 0: NetworkSet s: content is 'Type is not JSON")
    assert folder.name("10.0.0.1", 150) == "web"


def test_a_pod_that_comes_back_under_its_name_with_another_address_is_another_version(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    write(tmp_path / "db.yaml", pod("db-0", "10.0.0.1"))
    folder.look(100, since=0)
    write(tmp_path / "db.yaml", pod("db-0", "10.0.0.22"))
    folder.look(200)
    assert [folder.name("10.0.0.1", at) for at in (150, 250)] == ["db-0", None]
    assert [folder.name("10.0.0.22", at) for at in (150, 250)] == [None, "db-0"]


def test_node_ports_and_cluster_addresses_lead_to_the_services_port_and_a_host_endpoint_is_under_policy(
    tmp_path: Path,
) -> None:
    addresses = [{"type": "InternalIP", "address": "192.0.2.1"}]
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}, "status": {"addresses": addresses}}
    ports = [{"name": "http", "port": 80, "nodePort": 30080}, {"name": "dns", "port": 53, "protocol": "UDP"}]
    service = {
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1", "fd00:96::1"], "ports": ports},
    }  # fmt: skip
    write(tmp_path / "all.yaml", node, service)
    folder = Folder(tmp_path)
    folder.look(100, since=0)
    snapshot = folder.history.snapshot()
    asked = [
        ("10.96.0.1", 80, 6), ("fd00:96::1", 80, 6), ("192.0.2.1", 30080, 6), ("10.96.0.1", 53, 17),
        ("10.96.0.1", 53, 6),
    ]  # fmt: skip
    halves = np.array([address_halves(address) for address, *_ in asked], np.uint64)
    found = snapshot.service(
        halves[:, 0].copy(), halves[:, 1].copy(),
        np.array([port for _, port, _ in asked], np.uint16), np.array([proto for *_, proto in asked], np.uint8),
        np.full(len(asked), 150, np.int64),
    )  # fmt: skip
    assert [snapshot.services[each].port_name if each >= 0 else None for each in found] == [
        "http", "http", "http", "dns", None,
    ]  # fmt: skip
    assert snapshot.node_names == ("n1",)
    assert not holder(snapshot, "192.0.2.1", 50).policed
    host_endpoint = {
        "apiVersion": "projectcalico.org/v3", "kind": "HostEndpoint",
        "metadata": {"name": "n1-all", "labels": {"role": "node"}},
        "spec": {"node": "n1", "interfaceName": "*", "ports": [{"name": "kubelet", "protocol": "TCP", "port": 10250}]},
    }  # fmt: skip
    write(tmp_path / "hep.yaml", host_endpoint)
    folder.look(200)
    version = holder(folder.history.snapshot(), "192.0.2.1", 250)
    assert (version.kind, version.endpoint.name, version.name_aggr, version.policed) == ("hep", "n1-all", "n1", True)
    assert version.endpoint.named_ports == (("kubelet", 6, 10250),)


def test_the_storefronts_manifests_have_no_problem_and_its_policies_are_in_force() -> None:
    folder = Folder(STOREFRONT)
    messages: list[Message] = list(folder.look(100, since=0))
    assert messages
    assert folder.source.problems == ()
    resources, problems = load_folder(STOREFRONT)
    assert problems == []
    [in_force] = folder.history.snapshot().policy_versions
    assert {policy.trace_name for policy in in_force.policies} == {policy.trace_name for policy in resources.policies}
    assert folder.history.problems == ()


def test_the_chart_gives_the_inventory_exactly_the_rights_of_the_minimal_role() -> None:
    root = Path(__file__).resolve().parents[2] / "deploy"
    role = next(yaml.safe_load_all((root / "rbac" / "inventory-clusterrole.yaml").read_text()))
    template = (root / "helm" / "tierflow" / "templates" / "rbac.yaml").read_text()
    of_chart = template.split("kind: ClusterRole\n")[1].split("rules:\n")[1].split("---")[0]
    assert yaml.safe_load(of_chart) == role["rules"]
