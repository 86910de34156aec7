"""The compose file: valid by the Specification's own loader, speaking the real command line, fenced.

No Docker engine is at hand: what runs in its containers is what the cluster's tests run by the same images' recipes.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import pytest
import yaml

from tests.conftest import absent
from tests.deploy.rendering import resolve
from tests.services import kafka
from tests.services.compose import compose_spec as compose_spec

if TYPE_CHECKING:
    from collections.abc import Mapping

FILE = Path(__file__).parents[2] / "deploy" / "compose" / "compose.yaml"
COMPOSE: dict[str, Any] = yaml.safe_load(FILE.read_text())
OURS = ("topics", "collector", "inventory", "stream", "sink", "console")


def load(compose_spec: str, file: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [compose_spec, "--format", "json", str(file)], cwd=FILE.parent, capture_output=True, text=True, check=False
    )


def test_the_specifications_own_loader_takes_it_whole(compose_spec: str) -> None:
    done = load(compose_spec, FILE)
    assert done.returncode == 0, done.stderr
    project = json.loads(done.stdout)
    assert set(project["services"]) == {"kafka", "elasticsearch", "kibana", *OURS}
    assert project["services"]["collector"]["build"]["context"] == str(FILE.parents[2])
    for name in ("collector", "inventory", "stream", "sink", "console", "kafka", "elasticsearch"):
        assert project["services"][name]["healthcheck"]["test"][0] == "CMD"


def test_that_loader_refuses_what_is_wrong(compose_spec: str, tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text(FILE.read_text().replace("service_healthy", "service_wealthy"))
    done = load(compose_spec, tmp_path / "compose.yaml")
    assert done.returncode != 0
    assert "service_wealthy" in done.stderr or "value must be one of" in done.stderr


def test_kafka_itself_takes_the_settings_that_its_image_makes_of_the_variables(tmp_path: Path) -> None:
    """The official image's rule: KAFKA_SOME_KEY is some.key of server.properties."""
    if not (kafka.folder() / "complete").exists():
        absent("Kafka is absent: `make services` fetches it")
    environment = COMPOSE["services"]["kafka"]["environment"]
    properties = {key.removeprefix("KAFKA_").lower().replace("_", "."): value for key, value in environment.items()}
    done = format_storage(properties | {"log.dirs": tmp_path / "log"}, tmp_path)
    assert done.returncode == 0, done.stderr
    wrong = properties | {"log.dirs": tmp_path / "other", "inter.broker.listener.name": "NOWHERE"}
    assert format_storage(wrong, tmp_path).returncode != 0


def format_storage(properties: Mapping[str, object], folder: Path) -> subprocess.CompletedProcess[str]:
    file = folder / "server.properties"
    file.write_text("".join(f"{key}={value}\n" for key, value in properties.items()))
    argv = kafka.java("kafka.tools.StorageTool", "format", "-t", "dGllcmZsb3ctdGVzdHMtMQ", "-c", str(file))
    return subprocess.run(argv, capture_output=True, text=True, check=False)


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
