"""The lab in a real browser, step by step."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from tests.conftest import absent
from tests.console.serving import TOKEN, Scene, serve
from tests.console.storefront import WINDOW_S

WEB = Path(__file__).parents[2] / "console" / "web"
OUTPUT = Path(__file__).parents[1] / "output" / "console"


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    """The storefront's traffic up to now."""
    made = Scene(tmp_path)
    made.fill(int(time.time()))
    return made


@pytest.mark.timeout(300)
def test_the_lab_can_be_done_by_looking_from_start_to_end(scene: Scene) -> None:
    if shutil.which("chromium") is None:
        absent("no chromium")
    if not (WEB / "node_modules" / "playwright-core").is_dir() or not (WEB.parent / "server" / "static").is_dir():
        absent("the page isn't built: deploy/setup/page.sh")
    with (
        serve(scene.app()) as address,
        subprocess.Popen(
            ["node", "lab/run.mjs", f"{address}/?token={TOKEN}", str(OUTPUT), "--rogue-by-input"],
            cwd=WEB, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        ) as browser,
    ):  # fmt: skip
        assert browser.stdout is not None
        assert browser.stdin is not None
        told = []
        for line in browser.stdout:
            told.append(line)
            if line.startswith("{") and json.loads(line).get("want") == "rogue":
                _let_the_rogue_in(scene)
                browser.stdin.write("go\n")
                browser.stdin.flush()
        assert browser.wait() == 0, "".join(told)


def _let_the_rogue_in(scene: Scene) -> None:
    scene.rogue = True
    # The windows of the last two minutes are stored already; those with the rogue end a second later.
    newest = int(time.time()) // WINDOW_S * WINDOW_S
    for back in range(8):
        scene.window(newest + 1 - back * WINDOW_S)
