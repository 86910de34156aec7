"""The lab in a real browser over made-up amounts of traffic; ``tests/end_to_end`` does it over real packets."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from tests.console.browser import go_through_the_lab, need_a_browser
from tests.console.serving import TOKEN, Scene, serve
from tests.console.storefront import WINDOW_S

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    """The storefront's traffic up to now."""
    need_a_browser()
    made = Scene(tmp_path)
    made.fill(int(time.time()))
    return made


@pytest.mark.timeout(300)
def test_the_lab_can_be_done_by_looking_from_start_to_end(scene: Scene) -> None:
    def let_the_rogue_in() -> None:
        scene.rogue = True
        # The windows of the last two minutes are stored already; those with the rogue end a second later.
        newest = int(time.time()) // WINDOW_S * WINDOW_S
        for back in range(8):
            scene.window(newest + 1 - back * WINDOW_S)

    with serve(scene.app()) as address:
        go_through_the_lab(f"{address}/?token={TOKEN}", "console", let_the_rogue_in)
