"""Every view by keyboard alone in a real browser, over the storefront's traffic and the rogue's."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest
from tests.console.browser import in_the_browser, need_a_browser
from tests.console.serving import TOKEN, Scene, serve

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.timeout(240)
def test_everything_can_be_done_by_keyboard_and_the_focus_is_always_in_sight(tmp_path: Path) -> None:
    need_a_browser()
    scene = Scene(tmp_path)
    scene.rogue = True
    scene.fill(int(time.time()))
    with serve(scene.app()) as address:
        done = in_the_browser("keyboard.mjs", f"{address}/?token={TOKEN}", timeout_s=220)
    assert done.returncode == 0, done.stderr[-2000:]
    controls = json.loads(done.stdout)
    assert set(controls) == {"flows", "board", "policy", "logs"}
    assert controls["logs"] > 50
