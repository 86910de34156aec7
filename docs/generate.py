"""Writes what is generated: tables of settings and metrics in docs/operating.md, the chart's values, its dashboard.

    python docs/generate.py [--check]        --check writes nothing, and fails if a table is stale

A table stands between ``<!-- generated: NAME -->`` and ``<!-- end -->``.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
import runpy
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import yaml

import tierflow
from tierflow.cli.main import command
from tierflow.cli.settings import SecretOption
from tierflow.schemas.metrics import catalogue

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[1]
CHART = ROOT / "deploy" / "helm" / "tierflow"
BLOCK = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def settings_table() -> str:
    """Every flag of every command, with its variable, default and sentence."""
    lines = ["| command | flag | variable | default | what it does |", "| --- | --- | --- | --- | --- |"]
    for path, found in _commands(command, ()):
        for parameter in found.params:
            if not isinstance(parameter, click.Option) or parameter.hidden:
                continue
            variable = f"`{parameter.envvar}`" if parameter.envvar else "-"
            flag = "-" if isinstance(parameter, SecretOption) else f"`{parameter.opts[-1]}`"
            lines.append(
                f"| {' '.join(path)} | {flag} | {variable} | {_default(parameter)} | {_cell(parameter.help or '')} |"
            )
    return "\n".join(lines)


def metrics_table() -> str:
    """Every metric that any module of the project declares."""
    _import_everything()
    lines = ["| metric | kind | unit | labels | what it counts |", "| --- | --- | --- | --- | --- |"]
    for spec in catalogue():
        labels = ", ".join(f"`{label}`" for label in spec.labels) or "-"
        lines.append(f"| `{spec.name}` | {spec.kind} | {spec.unit} | {labels} | {_cell(spec.help)} |")
    return "\n".join(lines)


def values_table() -> str:
    """Every value of the chart, from values.yaml and the comments above its keys."""
    text = (CHART / "values.yaml").read_text()
    values = yaml.safe_load(text)
    lines = ["| value | as shipped | what it is |", "| --- | --- | --- |"]
    for path, about in _documented(text):
        found: Any = values
        for key in path:
            found = found[key]
        shown = yaml.safe_dump(found, default_flow_style=True, width=1000).removesuffix("\n...\n").strip()
        lines.append(f"| `{'.'.join(path)}` | `{shown}` | {_cell(about)} |")
    return "\n".join(lines)


def _documented(text: str) -> Iterator[tuple[tuple[str, ...], str]]:
    """(path, sentence) of every commented key of a YAML file."""
    path: list[str] = []
    about: list[str] = []
    for line in text.splitlines():
        key = re.match(r"( *)([A-Za-z]\w*):", line)
        if line.lstrip().startswith("# "):
            about.append(line.lstrip()[2:])
        elif key:
            path = [*path[: len(key[1]) // 2], key[2]]
            if about:
                yield tuple(path), " ".join(about)
            about = []
        else:
            about = []


def _commands(found: click.Command, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    if path:
        yield path, found
    if isinstance(found, click.Group):
        context = click.Context(found)
        for name in found.list_commands(context):
            child = found.get_command(context, name)
            if child is not None:
                yield from _commands(child, (*path, name))


def _default(option: click.Option) -> str:
    value = option.default
    if callable(value) or isinstance(option.show_default, str):
        return _cell(option.show_default) if isinstance(option.show_default, str) else "-"
    # Click marks an absent default by a sentinel of its own.
    if value is None or type(value).__name__ == "Sentinel":
        return "-"
    return f"`{value}`" if str(value) else '`""`'


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _import_everything() -> None:
    for package in sorted((ROOT / "src" / "tierflow").iterdir()):
        if not package.is_symlink():
            continue
        top = importlib.import_module(f"{tierflow.__name__}.{package.name}")
        for module in pkgutil.walk_packages(top.__path__, f"{top.__name__}."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)


TABLES = {"settings": settings_table, "metrics": metrics_table, "values": values_table}
PAGES = (ROOT / "docs" / "operating.md", CHART / "README.md")
DASHBOARD = CHART / "dashboard.json"
"""Made by deploy/grafana.py as a whole."""


def generated(text: str) -> str:
    """The page with its tables as they should be."""
    return BLOCK.sub(lambda found: f"{found[1]}{TABLES[found[2]]()}\n{found[3]}", text)


def main() -> int:
    """Write the tables and the dashboard, or check them; returns the exit code."""
    wanted = {page: generated(page.read_text()) for page in PAGES}
    wanted[DASHBOARD] = runpy.run_path(str(ROOT / "deploy" / "grafana.py"))["text"]()
    stale = [page for page, text in wanted.items() if not page.exists() or page.read_text() != text]
    if "--check" in sys.argv[1:]:
        for page in stale:
            print(f"{page.relative_to(ROOT)} is stale: run `make docs`", file=sys.stderr)
        return 1 if stale else 0
    for page in stale:
        page.write_text(wanted[page])
        print(f"wrote {page.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
