"""The Flow Visualizer in a real browser: 2,000 flows drawn, drawn again, pointed at; and ten million stored flow logs.

Needs chromium and the built page. That every flow is drawn and that pointing lights something is checked before a time
is said. Wall times want a quiet machine; processor times are those of the page's main thread alone.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from tests.console.serving import TOKEN, Scene, serve
from tests.sinks.documents import DAY_S

from benchmarks.harness import Report, check
from benchmarks.sinks import FLOWS, fill_day, write_day
from tierflow.console.server.app import console_app
from tierflow.console.server.session import SharedTokenSessions
from tierflow.schemas.clock import SystemClock
from tierflow.sinks.duckdb.database import Database
from tierflow.sinks.duckdb.store import DuckDBStore
from tierflow.sinks.duckdb.writer import Writer

WEB: Final = Path(__file__).parents[1] / "console" / "web"
WHOLE_DAY: Final = f"/flows?from={DAY_S}&to={DAY_S + 86_400}"
LONGEST_S: Final = 300


def _drawn(address: str, *path: str) -> dict[str, float]:
    done = subprocess.run(
        ["node", "lab/draw.mjs", f"{address}/?token={TOKEN}", *path],  # node from the PATH, as npm does
        cwd=WEB, capture_output=True, text=True, check=False, timeout=LONGEST_S,
    )  # fmt: skip
    check(done.returncode == 0, f"the browser: {done.stderr[-600:]}")
    figures: dict[str, float] = json.loads(done.stdout)
    check(figures.pop("flows") == 2_000, "flows drawn")
    return figures


def _report(name: str, workload: dict[str, Any], figures: dict[str, float]) -> Report:
    report = Report(name, workload, checked="every flow drawn; pointing lights something")
    for each, value in figures.items():
        report.add(each, value, "ms", "lower")
    return report


def run(quick: bool) -> list[Report]:
    """Made-up flows, and a stored day."""
    stored = FLOWS if quick else 10_000_000
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        scene = Scene(folder)
        scene.fill(int(time.time()), windows=4)
        with serve(scene.app()) as address:
            reports = [_report("console drawing", {"flows": 2_000, "moves": 120}, _drawn(address))]
        database = Database(folder / "day.duckdb")
        write_day(Writer(database), 2 * FLOWS)
        fill_day(database, stored)
        day = console_app(
            DuckDBStore(database), scene, SharedTokenSessions(TOKEN, SystemClock()), SystemClock(), scene.settings
        )
        with serve(day) as address:
            workload = {"stored": stored, "flows": FLOWS // 2, "drawn": 2_000}
            reports.append(_report("console stored", workload, _drawn(address, WHOLE_DAY)))
    return reports
