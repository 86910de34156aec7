"""A console over a real store, with the storefront's traffic; also run by the browser's tests.

``python -m tests.console.serving`` serves until its input closes; a line ``rogue`` there lets the rogue in.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import uvicorn
from tests.console.storefront import WINDOW_S, Traffic, in_force

from tierflow.cli.web import listening
from tierflow.console.server.app import console_app
from tierflow.console.server.session import SharedTokenSessions
from tierflow.console.server.settings import ConsoleSettings
from tierflow.schemas.clock import SystemClock
from tierflow.sinks.documents import FLOW_LOG_TYPES, POLICY_COUNTER_TYPES, flatten
from tierflow.sinks.duckdb.database import Database
from tierflow.sinks.duckdb.store import DuckDBStore
from tierflow.sinks.duckdb.tables import LOSSES
from tierflow.sinks.duckdb.writer import Load, Writer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.applications import Starlette

    from tierflow.console.server.board import InForce

TOKEN = "token-of-the-tests"  # opens nothing but the tests' own server


class Scene:
    """The storefront's traffic in a store of its own, up to now; the rogue comes when it is let in."""

    def __init__(self, folder: Path) -> None:
        self._database = Database(folder / "flows.duckdb")
        self._writer = Writer(self._database)
        self._traffic = Traffic()
        self.store = DuckDBStore(self._database)
        self.rogue = False
        self.settings = ConsoleSettings(token=TOKEN, static_folder=_static(folder))

    def in_force(self) -> InForce:
        """What the inventory would say."""
        return in_force(rogue=self.rogue)

    def documents(self, end_s: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Flow logs and policy counters of the window that ends then."""
        return self._traffic.window(end_s, rogue=self.rogue)

    def window(self, end_s: int) -> None:
        """Store the window that ends then."""
        logs, counters = self.documents(end_s)
        self._writer.write(
            Load(
                {
                    "flow_logs": [flatten(log, FLOW_LOG_TYPES) for log in logs],
                    "policy_counters": [flatten(each, POLICY_COUNTER_TYPES) for each in counters],
                }
            )
        )

    def lose(self, end_s: int, records: int) -> None:
        """Store that records went missing in the ten seconds up to then."""
        lost = {
            "id": f"lost-{end_s}",
            "start_time": end_s - 10,
            "end_time": end_s,
            "cluster": "",
            "host": "lab-node",
            "reason": "collector_loss",
            "batches": None,
            "records": records,
            "packets": records,
            "bytes": records * 60,
        }
        self._writer.write(Load({LOSSES: [lost]}))

    def fill(self, now_s: int, windows: int = 40) -> None:
        """Store the last windows up to now."""
        newest = now_s // WINDOW_S * WINDOW_S
        for back in range(windows, 0, -1):
            self.window(newest - (back - 1) * WINDOW_S)

    def app(self) -> Starlette:
        """The console over it."""
        return console_app(self.store, self, SharedTokenSessions(TOKEN, SystemClock()), SystemClock(), self.settings)


def _static(folder: Path) -> Path:
    """The built page; where it isn't built, one line in its place, which is enough for the API's tests."""
    built = Path(__file__).parents[2] / "console" / "server" / "static"
    if (built / "index.html").is_file():
        return built
    (folder / "static" / "assets").mkdir(parents=True)
    (folder / "static" / "index.html").write_text("<!doctype html><title>not built</title>")
    (folder / "static" / "icon.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    return folder / "static"


@contextlib.contextmanager
def serve(app: Starlette) -> Iterator[str]:
    """Serve on a free loopback port; the address."""
    bound = listening("127.0.0.1", 0)
    server = uvicorn.Server(
        uvicorn.Config(app, log_level="warning", access_log=False, lifespan="off", timeout_graceful_shutdown=1)
    )
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)


def main() -> None:
    """Serve until the input closes."""
    with TemporaryDirectory() as folder:
        scene = Scene(Path(folder))
        scene.fill(int(time.time()))
        with serve(scene.app()) as address:
            sys.stdout.write(f"{address}/?token={TOKEN}\n")
            sys.stdout.flush()
            for line in sys.stdin:
                if line.strip() == "rogue":
                    scene.rogue = True
                    scene.fill(int(time.time()) + WINDOW_S, windows=8)
                    sys.stdout.write("rogue\n")
                    sys.stdout.flush()


if __name__ == "__main__":
    main()
