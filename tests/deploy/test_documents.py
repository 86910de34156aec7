"""The generated tables are fresh and complete; the compose file speaks the real command line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click
import pytest
import yaml

from tests.conftest import absent
from tests.deploy.test_chart import resolve
from tierflow.schemas import topics

ROOT = Path(__file__).parents[2]
COMPOSE = yaml.safe_load((ROOT / "deploy" / "compose" / "compose.yaml").read_text())
OURS = ("topics", "collector", "inventory", "stream", "sink")


def test_the_tables_of_settings_metrics_and_values_are_fresh() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "docs" / "generate.py"), "--check"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_every_leaf_of_the_values_has_a_sentence() -> None:
    table = (ROOT / "deploy" / "helm" / "tierflow" / "README.md").read_text()

    def leaves(values: object, path: tuple[str, ...]) -> list[tuple[str, ...]]:
        if f"`{'.'.join(path)}`" in table or not isinstance(values, dict):
            return [path]
        return [leaf for key, value in values.items() for leaf in leaves(value, (*path, key))]

    values = yaml.safe_load((ROOT / "deploy" / "helm" / "tierflow" / "values.yaml").read_text())
    assert [path for path in leaves(values, ()) if f"`{'.'.join(path)}`" not in table] == []


def test_the_guide_names_every_topic() -> None:
    guide = (ROOT / "docs" / "operating.md").read_text()
    assert [topic.name for topic in topics.ALL if f"`{topic.name}`" not in guide] == []


@pytest.mark.parametrize("service", OURS)
def test_compose_gives_every_stage_arguments_that_its_command_accepts(service: str) -> None:
    found, rest = resolve(COMPOSE["services"][service]["command"])
    if found is None:
        absent(f"tierflow {service} isn't part of this checkout")
    assert found is not None
    found.make_parser(click.Context(found)).parse_args(list(rest))


@pytest.mark.parametrize("service", OURS)
def test_compose_drops_all_capabilities_and_adds_them_to_the_collector_only(service: str) -> None:
    stage = COMPOSE["services"][service]
    assert stage["cap_drop"] == ["ALL"]
    assert stage["read_only"] is True
    assert stage.get("cap_add", []) == (["BPF", "NET_ADMIN", "PERFMON"] if service == "collector" else [])


def test_compose_publishes_on_loopback_only() -> None:
    published = [port for service in COMPOSE["services"].values() for port in service.get("ports", [])]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)
