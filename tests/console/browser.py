"""The lab in a real browser, for whatever console runs."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from tests.conftest import absent

if TYPE_CHECKING:
    from collections.abc import Callable

WEB = Path(__file__).parents[2] / "console" / "web"
OUTPUT = Path(__file__).parents[1] / "output"


def need_a_browser() -> None:
    """Skip, or fail where services are required, without Chromium or the built page."""
    if shutil.which("chromium") is None:
        absent("no chromium: deploy/setup/debian.sh test")
    if not (WEB / "node_modules" / "playwright-core").is_dir() or not (WEB.parent / "server" / "static").is_dir():
        absent("the page isn't built: deploy/setup/page.sh")


def go_through_the_lab(address: str, folder: str, let_the_rogue_in: Callable[[], None]) -> None:
    """All steps of ``lab/run.mjs`` with a picture each in ``tests/output/<folder>``."""
    need_a_browser()
    with subprocess.Popen(
        ["node", "lab/run.mjs", address, str(OUTPUT / folder), "--rogue-by-input"],
        cwd=WEB, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
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
