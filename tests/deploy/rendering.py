"""The chart as Helm renders it, and the real commands behind its command lines."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import click
import yaml

from tierflow.cli.main import command

CHART = Path(__file__).parents[2] / "deploy" / "helm" / "tierflow"
PROFILES = sorted(path.stem for path in (CHART / "profiles").glob("*.yaml"))
EVERYTHING = (
    "metrics.serviceMonitor=true",
    "metrics.prometheusRule=true",
    "console.ingress.enabled=true",
    "console.ingress.host=flows.example",
    "console.ingress.tlsSecret=flows-tls",
    "stream.autoscaling.enabled=true",
)
Object = dict[str, Any]


def template(helm: str, profile: str | None, *settings: str) -> subprocess.CompletedProcess[str]:
    chosen = ["--values", str(CHART / "profiles" / f"{profile}.yaml")] if profile else []
    pairs = [part for setting in settings for part in ("--set", setting)]
    return subprocess.run(
        [helm, "template", "flows", str(CHART), "--namespace", "tierflow", *chosen, *pairs],
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def rendered(helm: str, profile: str, *settings: str) -> list[Object]:
    done = template(helm, profile, *settings)
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def pods(documents: list[Object]) -> list[tuple[str, Object]]:
    """Component and pod specification of every workload."""
    found = [
        (document["metadata"]["labels"]["app.kubernetes.io/component"], document["spec"]["template"]["spec"])
        for document in documents
        if document["kind"] in ("DaemonSet", "Deployment", "StatefulSet", "Job")
    ]
    found += [("test", document["spec"]) for document in documents if document["kind"] == "Pod"]
    return found


def resolve(arguments: list[str]) -> tuple[click.Command | None, list[str]]:
    """The click command that the arguments name, and what is left of them; None: it isn't installed."""
    found: click.Command | None = command
    while isinstance(found, click.Group) and arguments and not arguments[0].startswith("-"):
        name, *arguments = arguments
        found = found.get_command(click.Context(found), name)
    return found, arguments
