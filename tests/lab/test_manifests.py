"""The storefront's manifests, and what the lab reads from them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import yaml

from tierflow.cli.up import lab_folder
from tierflow.lab import manifests, pods
from tierflow.schemas.clock import ManualClock
from tierflow.schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path


def storefront() -> dict[str, manifests.Deployment]:
    found = manifests.deployments(manifests.read_folder(lab_folder()))
    return {f"{deployment.namespace}/{deployment.name}": deployment for deployment in found}


def test_the_folder_holds_the_storefront_and_acme_but_not_the_rogue() -> None:
    assert set(storefront()) == {
        "storefront/frontend",
        "storefront/microservice1",
        "storefront/microservice2",
        "storefront/backend",
        "storefront/logging",
        "acme/acme-microservice1",
        "acme/acme-microservice2",
    }


def test_zones_are_labelled_as_the_policies_select_them() -> None:
    zones = {name: deployment.labels.get("fw-zone") for name, deployment in storefront().items()}
    assert zones["storefront/frontend"] == "dmz"
    assert zones["storefront/microservice1"] == zones["storefront/microservice2"] == "trusted"
    assert zones["storefront/backend"] == "restricted"
    assert zones["storefront/logging"] is None
    (rogue,) = manifests.deployments(manifests.read_folder(lab_folder() / "rogue"))
    assert rogue.namespace == "storefront"
    assert "fw-zone" not in rogue.labels


def test_each_service_has_a_backend_and_an_address_of_its_own() -> None:
    documents = manifests.read_folder(lab_folder())
    services = manifests.services(documents)
    for service in services:
        assert any(service.selects(each.namespace, each.labels) for each in manifests.deployments(documents))
        assert [(port.port, port.target_port) for port in service.ports] == [(80, 8080)]
    assert len({service.cluster_ip for service in services}) == len(services) == 7


def test_a_pod_object_is_what_the_api_server_would_show() -> None:
    deployment = storefront()["storefront/frontend"]
    pod = pods.new_pod(deployment, "10.244.0.9", "tierflow-x-", ManualClock(1_700_000_000_000_000_000))
    shown = pods.pod_object(pod)
    metadata = shown["metadata"]
    assert metadata["generateName"] == f"frontend-{deployment.template_hash}-"
    assert metadata["name"].startswith(metadata["generateName"])
    assert len(metadata["name"]) == len(metadata["generateName"]) + 5
    assert metadata["labels"] == {
        "app": "frontend",
        "fw-zone": "dmz",
        "pod-template-hash": deployment.template_hash,
    }
    assert metadata["ownerReferences"][0]["name"] == f"frontend-{deployment.template_hash}"
    assert shown["status"]["podIP"] == "10.244.0.9"
    assert shown["status"]["startTime"] == "2023-11-14T22:13:20.000000Z"
    assert shown["spec"]["nodeName"] == "lab-node"


def test_a_published_pod_is_read_back_and_a_withdrawn_one_is_gone(tmp_path: Path) -> None:
    pod = pods.new_pod(storefront()["storefront/backend"], "10.244.0.9", "tierflow-x-", ManualClock())
    pods.publish(tmp_path, pod)
    (path,) = tmp_path.iterdir()
    assert path.suffix == ".yaml"
    assert yaml.safe_load(path.read_text()) == pods.pod_object(pod)
    pods.withdraw(tmp_path, pod)
    assert not list(tmp_path.iterdir())


def test_an_interface_name_fits_the_kernel() -> None:
    assert len(pods.link_name("tf", "a" * 300)) <= 15


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "kind: Deployment\nmetadata: {name: a}\nspec: {}",
            "bad.yaml: document 0: Deployment: field template is missing",
        ),
        (
            "kind: Service\nmetadata: {name: a}\nspec: {clusterIP: 10.96.0.1}",
            "document 0: Service: field ports is missing",
        ),
        (
            "kind: Service\nmetadata: {name: a}\nspec: {ports: [{port: 80, targetPort: http}]}",
            "field spec.ports: .*; the lab knows numbers, not port names",
        ),
        ("a: [", "bad.yaml: not YAML"),
        ("- a", "bad.yaml: document 0: expected an object"),
    ],
)
def test_a_malformed_manifest_is_one_line_that_names_file_document_and_field(
    tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / "bad.yaml").write_text(text)

    def read() -> None:
        documents = manifests.read_folder(tmp_path)
        manifests.deployments(documents)
        manifests.services(documents)

    with pytest.raises(ConfigurationError, match=message) as caught:
        read()
    assert "\n" not in str(caught.value)


def test_an_image_that_the_lab_has_no_program_for_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(
        "kind: Deployment\nmetadata: {name: a}\nspec: {template: {metadata: {labels: {}}, "
        "spec: {containers: [{name: a, image: nginx}]}}}"
    )
    (deployment,) = manifests.deployments(manifests.read_folder(tmp_path))
    with pytest.raises(ConfigurationError, match="nginx can't run in the lab; accepted: tierflow/storefront"):
        pods.new_pod(deployment, "10.244.0.9", "tierflow-x-", ManualClock())
