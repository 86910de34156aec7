"""What one run of tierflow has on the machine, told from what others have: they may start and end beside it."""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from tierflow.lab import namespaces, record
from tierflow.lab.pods import NODE
from tierflow.lab.scene import TABLES

PINNED = Path("/sys/fs/bpf/tierflow")


@dataclass
class Belongings:
    """Of the run with a state folder; what can't be told by its name is the run's if it was there at a :meth:`note`."""

    state: Path
    prefixes: set[str] = field(default_factory=set)
    _links: set[str] = field(default_factory=set)
    _tables: set[tuple[str, int]] = field(default_factory=set)
    _pinned: set[Path] = field(default_factory=set)
    _foreign_tables: set[tuple[str, int]] = field(default_factory=lambda: _tables())
    _foreign_pinned: set[Path] = field(default_factory=lambda: _pinned())

    def note(self) -> None:
        """Learn what the run has made by now; to be called while it is up, whenever it has made more."""
        lab = record.load(self.state / "lab")
        if lab is None:
            return
        self.prefixes.add(lab.netns_prefix)
        self._links |= {pod.link for pod in lab.pods}
        # Another lab's tables have the same names, but never the same handles.
        self._tables |= _tables() - self._foreign_tables
        self._pinned |= _pinned() - self._foreign_pinned

    def namespaces(self) -> list[str]:
        """Network namespaces and resolver folders of the labs noted, whether they recorded them or not."""
        return sorted(name for prefix in self.prefixes for name in namespaces.namespaces(prefix))

    def processes(self) -> list[str]:
        """Command lines of all processes that were given the state folder, or a path in it, by variable or argument."""
        found, told = [], re.compile(re.escape(str(self.state).encode()) + rb"[\0/]")
        for process in Path("/proc").glob("[0-9]*"):
            try:
                line = (process / "cmdline").read_bytes()
                if told.search(line) or told.search((process / "environ").read_bytes()):
                    found.append(line.replace(b"\0", b" ").decode(errors="replace"))
            except OSError:
                continue
        return sorted(found)

    def left(self) -> dict[str, list[str]]:
        """All that is there of the run, by kind."""
        links = {link["ifname"] for link in _listed("ip", "-j", "link")}
        routes = _listed("ip", "-j", "route", "show", "table", "all")
        return {
            "namespaces": self.namespaces(),
            "processes": self.processes(),
            "links": sorted(links & self._links),
            "routes": sorted(str(route) for route in routes if route.get("dev") in self._links),
            "tables": sorted(name for name, _ in _tables() & self._tables),
            "pinned": sorted(map(str, _pinned() & self._pinned)),
        }


def _listed(*command: str) -> list[dict[str, str]]:
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    listed: list[dict[str, str]] = json.loads(done.stdout or "[]")
    return listed


def _tables() -> set[tuple[str, int]]:
    """Name and handle of each table that a lab makes."""
    done = subprocess.run(["nft", "-j", "list", "tables"], capture_output=True, text=True, check=True)
    tables = (each["table"] for each in json.loads(done.stdout)["nftables"] if "table" in each)
    return {(table["name"], table["handle"]) for table in tables if table["name"] in TABLES}


def _pinned() -> set[Path]:
    """Folders of maps that collectors of the lab's node have pinned."""
    return set((PINNED / NODE).glob("*"))
