"""Every view fits the window, from a phone's to a desk's, and nothing on it moves or stands where it would mislead."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from tests.console.browser import in_the_browser, need_a_browser
from tests.console.serving import TOKEN, Scene, serve

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.timeout(120)
def test_views_fit_every_width_and_say_what_is_chosen_or_refused(tmp_path: Path) -> None:
    need_a_browser()
    scene = Scene(tmp_path)
    scene.rogue = True
    scene.fill(int(time.time()), windows=4)
    with serve(scene.app()) as address:
        done = in_the_browser("layout.mjs", f"{address}/?token={TOKEN}", timeout_s=100)
    assert done.returncode == 0, done.stdout + done.stderr
