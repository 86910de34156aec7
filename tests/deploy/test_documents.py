"""The documents: generated tables are fresh and complete, and what a page names is there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
import yaml

from tierflow.cli.main import command
from tierflow.schemas import topics

ROOT = Path(__file__).parents[2]


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


PAGES = sorted(
    [*(ROOT / "docs").glob("*.md"), *(ROOT / name for name in ("README.md", "deploy/helm/tierflow/README.md"))]
)
OF_OTHERS = {
    "--as",
    "--create-namespace",
    "--from-file",
    "--from-literal",
    "--prefix",
    "--previous",
    "--reuse-values",
    "--set",
    "--target",
    "--values",
}
"""Flags of kubectl, Helm, npm and Docker that the documents name."""
NO_METRICS = {"tierflow_flows", "tierflow_policy", "tierflow_services", "tierflow_truth"}
"""Indices of Elasticsearch and tables of nftables."""


def flags(found: click.Command) -> set[str]:
    """Of a command and of all below it."""
    own = {name for parameter in found.params for name in (*parameter.opts, *parameter.secondary_opts)}
    if not isinstance(found, click.Group):
        return own
    context = click.Context(found)
    below = [found.get_command(context, name) for name in found.list_commands(context)]
    return own.union(*(flags(each) for each in below if each is not None))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_flag_metric_and_value_that_a_page_names_is_there(page: Path) -> None:
    text = page.read_text()
    chart = ROOT / "deploy" / "helm" / "tierflow"
    metrics = set(re.findall(r"^\| `(tierflow_\w+)`", (ROOT / "docs" / "operating.md").read_text(), re.MULTILINE))
    named = set(re.findall(r"`(tierflow_[a-z_]*[a-z])`", text))
    assert named - metrics - NO_METRICS == set()
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text)) - flags(command) - OF_OTHERS == set()
    values = yaml.safe_load((chart / "values.yaml").read_text())
    for path in re.findall(rf"`((?:{'|'.join(values)})\.[A-Za-z.]+)`", text.replace("`console.url`", "a file")):
        place = values
        for word in path.split("."):
            assert word in place, path
            place = place[word]


def test_troubleshooting_has_every_alert_and_no_other() -> None:
    guide = (ROOT / "docs" / "operating.md").read_text()
    section = guide.partition("## Troubleshooting")[2].partition("## Every setting")[0]
    alerts = yaml.safe_load((ROOT / "deploy" / "helm" / "tierflow" / "alerts.yaml").read_text())
    assert set(re.findall(r"\bTierflow[A-Z]\w+", section)) == {each["alert"] for each in alerts}
