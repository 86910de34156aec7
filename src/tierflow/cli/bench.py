"""``tierflow bench``: runs the benchmarks of a source tree; every one checks its answer before it reports a time."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import click

import tierflow
from tierflow.schemas.errors import UnavailableError


@click.command("bench")
@click.argument("names", nargs=-1)
@click.option("--quick", is_flag=True, help="Small inputs: whether it works, not how fast.")
@click.option(
    "--json", "json_path", type=click.Path(dir_okay=False, path_type=Path), help="Write the figures here too."
)
@click.option(
    "--compare",
    "compare_paths",
    nargs=2,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    default=None,
    help="Compare two files written by --json; measures nothing.",
)
def command(
    names: tuple[str, ...], quick: bool, json_path: Path | None, compare_paths: tuple[Path, Path] | None
) -> None:
    """Run benchmarks NAMES (all, when none is named): modules of the folder benchmarks/ that have run(quick)."""
    folder = Path(tierflow.__file__).parents[2] / "benchmarks"
    if not folder.is_dir():
        raise UnavailableError(f"no folder {folder}: benchmarks are run from a source tree")
    sys.path.insert(0, str(folder.parent))
    harness = importlib.import_module("benchmarks.harness")
    if compare_paths is not None:
        click.echo(harness.compare(*compare_paths))
        return
    reports = []
    for path in sorted(folder.glob("*.py")):
        if path.stem in {"__init__", "harness", "poison", "workload"} or (names and path.stem not in names):
            continue
        run = getattr(importlib.import_module(f"benchmarks.{path.stem}"), "run", None)
        if run is None:
            continue
        for report in run(quick):
            click.echo(report.text())
            reports.append(report)
    if names and not reports:
        raise click.BadParameter(f"no benchmark named {' '.join(names)}; see {folder}", param_hint="NAMES")
    if json_path is not None:
        harness.save(reports, json_path)
