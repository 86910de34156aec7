"""``tierflow flows`` as a person reads it."""

from __future__ import annotations

import http.server
import itertools
import threading
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from tests.sinks.documents import whole_log
from tierflow.cli import flows
from tierflow.schemas.errors import UnavailableError
from tierflow.sinks.read.interface import Filter
from tierflow.sinks.read.memory import MemoryStore
from tierflow.sinks.read.remote import RemoteStore

if TYPE_CHECKING:
    from typing import Any

NOW_S = 1_790_000_000
POLICY = "1|platform|platform.twilio-integration-for-all|deny|1"


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> MemoryStore:
    monkeypatch.delenv("COLUMNS", raising=False)
    made = MemoryStore()
    monkeypatch.setattr(made, "close", lambda: None, raising=False)
    monkeypatch.setattr(flows, "open_store", lambda *_: made)
    return made


def log(**changes: Any) -> dict[str, Any]:
    return whole_log(
        start_time=NOW_S - 15, source_name_aggr="microservice1-7599d8d8f9-*",
        dest_name_aggr="microservice2-fddf7cff85-*", action="deny",
        policies__enforced_policies=[POLICY], **changes,
    )  # fmt: skip


def output(*arguments: str) -> tuple[str, str]:
    done = CliRunner().invoke(flows.command, ["--from", str(NOW_S - 100), "--to", str(NOW_S + 100), *arguments])
    assert done.exit_code == 0, done.output
    return done.stdout, done.stderr


def test_a_table_that_no_terminal_bounds_has_names_and_policies_whole(store: MemoryStore) -> None:
    store.add([log()])
    table, _ = output()
    assert "storefront/microservice1-*" in table
    assert "storefront/microservice2-*" in table
    assert "#1 platform.twilio-integr" in table
    assert max(map(len, table.splitlines())) <= flows.PIPED_COLUMNS


def test_a_table_fits_a_terminal_of_120_columns(store: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    store.add([log()])
    table, _ = output()
    assert max(map(len, table.splitlines())) <= 120
    assert "storefront/microservice1-*" in table


@pytest.mark.parametrize(
    ("columns", "shown"),
    [
        (100, ["end", "by", "verdict", "source", "destination", "port", "packets", "bytes", "decided by"]),
        (80, ["end", "by", "verdict", "source", "destination", "port", "decided by"]),
        (60, ["verdict", "source", "destination", "decided by"]),
        (40, ["verdict", "source", "destinati…", "decid…"]),
    ],
)
def test_a_narrow_terminal_shows_less_not_pieces(
    store: MemoryStore, monkeypatch: pytest.MonkeyPatch, columns: int, shown: list[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    store.add([log()])
    head, row = output()[0].splitlines()
    assert head.replace("decided by", "decided_by").split() == [each.replace(" ", "_") for each in shown]
    assert len(row) <= columns
    assert "deny" in row
    assert "storefr" in row


class _NoStore(http.server.BaseHTTPRequestHandler):
    answers = itertools.cycle(
        [(200, b"<html>"), (401, b'{"error": "who are you?"}'), (200, b"[1]"), (200, b'{"logs": 1}')]
    )

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        status, body = next(self.answers)
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing."""


def test_another_server_at_the_stores_address_is_told_from_a_store() -> None:
    with http.server.HTTPServer(("127.0.0.1", 0), _NoStore) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        remote = RemoteStore(f"http://127.0.0.1:{server.server_port}")
        for status in (200, 401, 200, 200):
            with pytest.raises(UnavailableError, match=rf"what answers there is no store \(status {status}\)"):
                remote.flow_logs(Filter())
        remote.close()
        server.shutdown()


def test_what_was_lost_in_the_range_is_said_beside_the_table_only(store: MemoryStore) -> None:
    loss = {
        "id": "1", "start_time": NOW_S - 10, "end_time": NOW_S, "cluster": "", "host": "node-7",
        "reason": "collector_loss", "batches": 0, "records": 12, "packets": 40, "bytes": 4000,
    }  # fmt: skip
    store.add([log()], losses=[loss])
    table, words = output()
    assert "node-7" not in table
    assert words == "tierflow: missing here: node-7: collector_loss, 1 times, 12 records\n"
    assert output("--output", "json")[1] == ""
