"""The generated tables are fresh and complete; the compose file speaks the real command line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import yaml

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
