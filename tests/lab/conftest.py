"""A node of its own for each lab under test: a network namespace that the command line is run in."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from tests.belongings import Belongings
from tests.conftest import absent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@dataclass
class Node:
    """A network namespace that stands for a node, and the state folder of the lab in it."""

    name: str
    state: Path
    belongings: Belongings = field(init=False)

    def __post_init__(self) -> None:
        self.belongings = Belongings(self.state)

    def run(self, *argv: str) -> subprocess.CompletedProcess[str]:
        """Run a command on the node, whatever becomes of it."""
        environment = {**os.environ, "TIERFLOW_STATE": str(self.state)}
        return subprocess.run(
            ["nsenter", f"--net=/run/netns/{self.name}", *argv],
            capture_output=True, text=True, check=False, env=environment, timeout=90,
        )  # fmt: skip

    def lab(self, *arguments: str) -> str:
        """Standard output of ``tierflow lab ...``, which must end well."""
        done = self.run(sys.executable, "-m", "tierflow.cli.main", "lab", *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def status(self) -> dict[str, dict[str, Any]]:
        """``tierflow lab status --json`` by Deployment name."""
        pods = json.loads(self.lab("status", "--json"))
        return {pod["name"].rsplit("-", 2)[0]: pod for pod in pods}

    def pause(self) -> None:
        """Let no pod begin another call, and wait until those under way have ended and are counted."""
        self.lab("pause")
        # Counts are written once a second: those from before the pause may know nothing of a call under way.
        wait_until(
            lambda: all(pod["paused"] and not pod["in_flight"] for pod in self.status().values()), "calls to end"
        )

    def settings(self) -> dict[str, str]:
        """What is the node's alone, and a lab never touches."""
        return {
            "forwarding": self.run("cat", "/proc/sys/net/ipv4/ip_forward").stdout,
            "rules": self.run("ip", "rule").stdout,
        }

    def leftovers(self) -> dict[str, Any]:
        """What exists on the node, and of its labs around it; equal before set-up and after down."""
        self.belongings.note()
        return {
            "namespaces": self.belongings.namespaces(),
            "ruleset": self.run("nft", "list", "ruleset").stdout,
            "links": self.run("ip", "-o", "link").stdout,
            "routes": self.run("ip", "route", "show", "table", "all").stdout,
            "neighbours": self.run("ip", "neigh").stdout,
            **self.settings(),
            "processes": self.belongings.processes(),
        }


def wait_until(condition: Callable[[], bool], what: str, bound_s: float = 30) -> None:
    """Wait on a condition, with a bound."""
    deadline = time.monotonic() + bound_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {bound_s} s: {what}"
        time.sleep(0.1)


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    """A fresh node; its lab is taken down at the end whatever the test did."""
    missing = [tool for tool in ("ip", "nft", "nsenter") if shutil.which(tool) is None]
    if missing:
        absent(f"{', '.join(missing)} missing (Debian: apt install iproute2 nftables util-linux)")
    name = f"tftest-{secrets.token_hex(3)}"
    done = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    if done.returncode:
        absent(f"no network namespaces here: {done.stderr.strip()}")
    made = Node(name, tmp_path / "state")
    try:
        yield made
    finally:
        try:
            made.run(sys.executable, "-m", "tierflow.cli.main", "lab", "down")
        finally:
            subprocess.run(["ip", "netns", "delete", name], check=True)
