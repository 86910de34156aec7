"""The storefront's manifests as the tests see them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from tierflow.policy import Endpoint, Resources, parse_documents

FOLDER = Path(__file__).parents[2] / "deploy" / "storefront"


def documents() -> list[tuple[str, int, Any]]:
    found = []
    for path in sorted([*FOLDER.glob("*.yaml"), *FOLDER.glob("rogue/*.yaml")]):
        found += [(path.name, index, each) for index, each in enumerate(yaml.safe_load_all(path.read_text()))]
    return found


def resources() -> Resources:
    found, problems = parse_documents(documents())
    assert problems == []
    return found


def endpoints() -> dict[str, Endpoint]:
    pods = {}
    for _, _, each in documents():
        if each["kind"] != "Deployment":
            continue
        template = each["spec"]["template"]
        name = each["metadata"]["name"]
        pods[name] = Endpoint(
            "wep",
            each["metadata"]["namespace"],
            name,
            template["metadata"]["labels"],
            template["spec"].get("serviceAccountName", "default"),
            (("http", 6, 8080),),
            (f"10.65.0.{len(pods) + 2}",),
        )
    return pods
