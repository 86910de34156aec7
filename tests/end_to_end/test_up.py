"""The whole of it, as a user runs it: ``tierflow up --lab`` with real packets, and what it shows and leaves behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from tests.belongings import Belongings
from tests.console.browser import go_through_the_lab
from tests.end_to_end import written
from tests.storefront_logs import EDGES, app, edges, since, summed

from tierflow.cli.broker import free_port
from tierflow.lab import truth

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = [pytest.mark.root, pytest.mark.timeout(600)]

WINDOW_S = 5
TRUTH_S = float(os.environ.get("TRUTH_S", "20"))
"""How long traffic is counted; TRUTH_S=60 counts for a minute."""
TWO_WINDOWS_S = 2 * WINDOW_S + 10
"""Two windows, the allowed lateness, and the time to answer a query on a busy machine."""


@dataclass
class Up:
    """A running ``tierflow up``."""

    process: subprocess.Popen[str]
    state: Path
    belongings: Belongings
    screen: list[str] = field(default_factory=list)

    def tierflow(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        done = tierflow(self.state, *arguments)
        self.belongings.note()
        return done

    def flows(self, *arguments: str) -> list[dict[str, Any]]:
        done = self.tierflow("flows", "--output", "json", "--limit", "10000", *arguments)
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    def child(self, name: str) -> int:
        """Process id of a stage, found by its command among the supervisor's children."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        for pid in children:
            command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if name.encode() in command:
                return int(pid)
        raise AssertionError(f"no child {name} among {children}: {self.screen}")


def tierflow(state: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tierflow.cli.main", *arguments],
        env=os.environ | {"TIERFLOW_STATE": str(state), "COLUMNS": "120"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def until(condition: Callable[[], bool], timeout_s: float, what: Callable[[], object]) -> None:
    give_up = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < give_up, what()
        time.sleep(0.5)  # another process is waited for; it has no event to wait on


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    state = tmp_path_factory.mktemp("state")
    belongings = Belongings(state)
    process = subprocess.Popen(
        [
            sys.executable, "-m", "tierflow.cli.main", "up", "--lab",
            "--window-s", str(WINDOW_S), "--lateness-s", "1",
            "--broker-port", str(free_port()), "--console-port", "0",
        ],
        env=os.environ | {"TIERFLOW_STATE": str(state), "COLUMNS": "200"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )  # fmt: skip
    running = Up(process, state, belongings)
    reader = threading.Thread(target=_read, args=(running,), daemon=True)
    reader.start()
    try:
        until(
            lambda: any("running; a window closes" in line for line in running.screen) or process.poll() is not None,
            180,
            lambda: running.screen,
        )
        assert process.poll() is None, running.screen
        yield running
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        try:
            process.wait(timeout=90)
        finally:
            process.kill()  # and its stages with it
            process.wait()
            tierflow(state, "lab", "down")  # nothing to do, unless it was killed or ended by a fault
        reader.join(timeout=10)
        assert process.stdout is not None
        process.stdout.close()


def _read(running: Up) -> None:
    assert running.process.stdout is not None
    running.screen.extend(line.rstrip() for line in iter(running.process.stdout.readline, ""))


def test_within_two_windows_every_edge_of_the_call_graph_is_there_from_both_reporters(up: Up) -> None:
    def logs() -> list[dict[str, Any]]:
        return up.flows("--namespace", "storefront")

    until(
        lambda: all(edges(logs(), reporter) >= EDGES for reporter in ("src", "dst")),
        TWO_WINDOWS_S,
        lambda: {reporter: EDGES - edges(logs(), reporter) for reporter in ("src", "dst")},
    )


def test_an_allowed_flow_is_answered_and_has_more_than_thirty_fields(up: Up) -> None:
    log = next(
        log
        for log in up.flows("--namespace", "storefront", "--reporter", "dst", "--action", "allow")
        if (app(log["source_name_aggr"]), app(log["dest_name_aggr"])) == ("frontend", "microservice1")
    )
    assert log["evidence"] == "answered"
    assert (log["proto"], log["dest_port"]) == ("tcp", 8080)
    assert "fw-zone=dmz" in log["source_labels"]["labels"]
    assert log["policies"]["enforced_policies"][-1].endswith("|default|storefront/default.trusted|allow|0")
    assert sum(1 for value in log.values() if value is not None) > 30


def test_the_rogue_is_denied_at_five_targets_by_the_right_rules_and_nothing_passed(up: Up) -> None:
    assert up.tierflow("lab", "deploy-rogue").returncode == 0

    def denials() -> dict[str, dict[str, Any]]:
        return {
            app(log["dest_name_aggr"]): log
            for log in up.flows("--namespace", "storefront", "--action", "deny", "--reporter", "dst")
            if app(log["source_name_aggr"]) == "rogue"
        }

    until(lambda: denials().keys() >= written.DENIED_BY.keys(), TWO_WINDOWS_S, lambda: denials().keys())
    for target, log in denials().items():
        assert log["evidence"] == "enforced", log
        assert log["policies"]["enforced_policies"][-1].endswith(written.DENIED_BY[target])
        assert (log["packets_out"], log["bytes_out"]) == (0, 0)
        assert log["packets_in"] > 0
    assert up.tierflow("lab", "remove-rogue").returncode == 0


def test_every_field_of_chosen_edges_is_as_written(up: Up) -> None:
    logs = [log for log in up.flows() if not log["late"]]
    first = min(log["start_time"] for log in logs)  # sees programs start
    pods = written.pods(json.loads(up.tierflow("lab", "status", "--json").stdout), logs)
    chosen = [
        *written.through_service(pods), *written.outside(pods), *written.names(pods),
        *(each for target in written.DENIED_BY for each in written.rogue_to(pods, target)),
    ]  # fmt: skip
    assert len(chosen) == 16
    for expected in (written.always(WINDOW_S) | each for each in chosen):
        found = [log for log in logs if written.key(log) == written.key(expected)]
        told = [log for log in found if log["start_time"] > first and written.told(log, expected)]
        assert told, written.key(expected)
        for log in told:
            assert not written.differences(log, expected), (written.key(expected), log["start_time"])


def test_the_lab_can_be_done_by_looking_from_start_to_end_over_real_packets(up: Up) -> None:
    def let_the_rogue_in() -> None:
        assert up.tierflow("lab", "deploy-rogue").returncode == 0

    address = up.state / "console.url"
    used = address.read_text().strip()
    try:
        go_through_the_lab(used, "lab", let_the_rogue_in)
    finally:  # a rogue that stays makes the tests behind this one fail for its own failure
        assert up.tierflow("lab", "remove-rogue").returncode == 0
    # The token is used up; the file, its owner's alone, holds the next. All of it is on loopback.
    assert address.read_text().strip() != used
    assert address.stat().st_mode & 0o777 == 0o600
    port = urlsplit(used).port
    listening = subprocess.run(["ss", "-Hltn", f"sport = :{port}"], capture_output=True, text=True, check=True).stdout
    assert [line.split()[3] for line in listening.splitlines()] == [f"127.0.0.1:{port}"]


def quiet(up: Up) -> int:
    """Stop the traffic; returns the start of a window that begins after its last packet."""
    assert up.tierflow("lab", "pause").returncode == 0
    until(
        # Counts from before the pause may know nothing of a call under way.
        lambda: all(
            pod["paused"] and not pod["in_flight"] for pod in json.loads(up.tierflow("lab", "status", "--json").stdout)
        ),
        30,
        lambda: up.tierflow("lab", "status").stdout,
    )
    boundary = (int(time.time()) // WINDOW_S + 2) * WINDOW_S
    until(lambda: time.time() >= boundary, 3 * WINDOW_S, time.time)
    return boundary


def test_packets_and_bytes_of_every_pair_equal_what_nftables_counted(up: Up) -> None:
    began = quiet(up)
    before_traffic = truth.read()
    assert up.tierflow("lab", "resume").returncode == 0
    end = time.monotonic() + TRUTH_S
    until(lambda: time.monotonic() >= end, TRUTH_S + 5, time.monotonic)
    quiet(up)
    after_traffic = truth.read()
    assert up.tierflow("lab", "resume").returncode == 0

    delivered = since(before_traffic.delivered, after_traffic.delivered)
    assert len(delivered) >= 2 * len(EDGES)
    pods = {pair[0] for pair in since(before_traffic.sent, after_traffic.sent)}
    between_pods = {pair: counted for pair, counted in delivered.items() if set(pair) <= pods}
    ended = int(time.time()) // WINDOW_S * WINDOW_S - WINDOW_S

    def found() -> dict[str, dict[tuple[str, str], tuple[int, int]]]:
        logs = up.flows("--from", str(began), "--to", str(ended))
        return {reporter: summed(logs, reporter) for reporter in ("src", "dst")}

    # Both are waited for: the store may take the two sides of a window one after the other.
    until(lambda: found() == {"src": delivered, "dst": between_pods}, TWO_WINDOWS_S, lambda: (found(), delivered))


@pytest.mark.parametrize(
    ("stage", "name"), [("collect", "collector"), ("stream", "stream"), ("sink", "sink"), ("broker", "broker")]
)
def test_a_killed_stage_is_started_again_and_flow_logs_go_on(up: Up, stage: str, name: str) -> None:
    said = len(up.screen)
    os.kill(up.child(stage), signal.SIGKILL)
    until(lambda: any(f"{name} is running again" in line for line in up.screen[said:]), 60, lambda: up.screen[said:])
    resumed = int(time.time())

    def seen() -> set[tuple[str, str]]:
        logs = up.flows("--namespace", "storefront", "--from", str(resumed))
        return edges([log for log in logs if log["start_time"] >= resumed], "dst")

    until(lambda: seen() >= EDGES, 90, lambda: (EDGES - seen(), up.screen[-8:]))


def test_a_second_up_beside_it_is_refused_in_one_line(up: Up) -> None:
    done = up.tierflow("up", "--lab")
    assert done.returncode == 2
    assert "tierflow up is running already" in done.stderr
    assert done.stderr.count("\n") == 1


def test_ctrl_c_stops_all_and_leaves_nothing_behind(up: Up) -> None:
    up.belongings.note()
    there = up.belongings.left()
    assert all(there.values()), there
    up.process.send_signal(signal.SIGINT)
    assert up.process.wait(timeout=90) == 0, up.screen[-10:]
    assert up.belongings.left() == {kind: [] for kind in there}
    assert not list(up.state.glob("**/*.sock"))
