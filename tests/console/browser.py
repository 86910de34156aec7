"""The lab in a real browser, for whatever console runs."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from tests.conftest import absent
from tests.guard import temporary_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

WEB = Path(__file__).parents[2] / "console" / "web"
OUTPUT = Path(__file__).parents[1] / "output"


def need_a_browser() -> None:
    """Skip, or fail where services are required, without Chromium or the built page."""
    if shutil.which("chromium") is None:
        absent("no chromium: deploy/setup/debian.sh test")
    if not (WEB / "node_modules" / "playwright-core").is_dir() or not (WEB.parent / "server" / "static").is_dir():
        absent("the page isn't built: deploy/setup/page.sh")


@contextlib.contextmanager
def browser_environment() -> Iterator[dict[str, str]]:
    """Variables of a script that starts the browser: what that leaves in its temporary folder goes with it."""
    # Not below pytest's own: the path of a socket in it may have 107 bytes.
    with temporary_folder("tierflow-browser-") as folder:
        yield os.environ | {"TMPDIR": str(folder)}


def in_the_browser(script: str, *arguments: str, timeout_s: float) -> subprocess.CompletedProcess[str]:
    """Run one of ``lab/*.mjs`` to its end; node from the PATH, as npm does."""
    need_a_browser()
    with browser_environment() as environment:
        return subprocess.run(
            ["node", f"lab/{script}", *arguments],
            cwd=WEB, env=environment, capture_output=True, text=True, check=False, timeout=timeout_s,
        )  # fmt: skip


def go_through_the_lab(address: str, folder: str, let_the_rogue_in: Callable[[], None]) -> None:
    """All steps of ``lab/run.mjs`` with a picture each in ``tests/output/<folder>``."""
    need_a_browser()
    with browser_environment() as environment, subprocess.Popen(
        ["node", "lab/run.mjs", address, str(OUTPUT / folder), "--rogue-by-input"],
        cwd=WEB, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    ) as browser:  # fmt: skip
        assert browser.stdout is not None
        assert browser.stdin is not None
        told = []
        for line in browser.stdout:
            told.append(line)
            if line.startswith("{") and json.loads(line).get("want") == "rogue":
                let_the_rogue_in()
                browser.stdin.write("go\n")
                browser.stdin.flush()
        assert browser.wait() == 0, "".join(told)
