"""``tierflow bench``: runs the benchmarks of a source tree; every one checks its answer before it reports a time."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import Final

import click

import tierflow
from tierflow.schemas.errors import ConfigurationError, UnavailableError

NO_BENCHMARKS: Final = frozenset({"__init__", "harness", "poison", "workload"})
"""What else is in the folder."""


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
        try:
            click.echo(harness.compare(*compare_paths))
        except (ValueError, TypeError, KeyError) as error:
            raise ConfigurationError("--compare: accepted are two files that --json has written") from error
        return
    there = [path.stem for path in sorted(folder.glob("*.py")) if path.stem not in NO_BENCHMARKS]
    if unknown := [name for name in names if name not in there]:
        raise click.BadParameter(f"no benchmark {', '.join(unknown)}; accepted: {', '.join(there)}", param_hint="NAMES")
    if json_path is not None:
        _check_writable(json_path)
    reports = []
    for name in [each for each in there if each in names or not names]:
        module = importlib.import_module(f"benchmarks.{name}")
        if getattr(module, "NEEDS_ROOT", False) and os.geteuid() != 0:
            if names:
                raise UnavailableError(f"bench {name}: needs root for network namespaces and eBPF")
            click.echo(f"{name}: left out, it needs root", err=True)
            continue
        for report in module.run(quick):
            click.echo(report.text())
            reports.append(report)
    if json_path is not None:
        harness.save(reports, json_path)


def _check_writable(path: Path) -> None:
    """Refuse a file that couldn't be written when all has been measured."""
    try:
        path.open("a").close()
    except OSError as error:
        raise ConfigurationError(f"--json {path}: {error.strerror}") from error
