"""Synthetic traffic has pods to belong to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import yaml

from tierflow.cli.up import lab_folder
from tierflow.lab.paper import publish_pods
from tierflow.schemas.clock import ManualClock

if TYPE_CHECKING:
    from pathlib import Path


def test_each_addressed_deployment_has_one_pod_and_a_second_run_replaces_it(tmp_path: Path) -> None:
    for _ in range(2):
        publish_pods(
            lab_folder(), tmp_path, {"frontend": "10.244.0.10", "kube-dns": "10.244.0.2"}, ManualClock(10**18), "node-7"
        )
    pods = [yaml.safe_load(path.read_text()) for path in tmp_path.glob("*.yaml")]
    assert {pod["spec"]["nodeName"] for pod in pods} == {"node-7"}
    assert {pod["status"]["podIP"]: pod["metadata"]["labels"].get("fw-zone") for pod in pods} == {
        "10.244.0.10": "dmz",
        "10.244.0.2": None,
    }
