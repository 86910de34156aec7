"""Names full of markup stay text in every view, and nothing that the page does leaves its origin."""

from __future__ import annotations

import json
import re
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from tests.console.browser import in_the_browser, need_a_browser
from tests.console.serving import TOKEN, Scene, serve

if TYPE_CHECKING:
    from pathlib import Path

    from tierflow.console.server.board import InForce

MARKUP = "<img src=x onerror='pwned=true'><script>pwned=true</script>\"&"
RENAMED = ("storefront", "frontend", "fw-zone", "default.dmz", "default.trusted")


def hostile(value: Any) -> Any:
    """The same with markup behind every name of :data:`RENAMED`."""
    if isinstance(value, str):
        # A trace separates its parts by bars, and an address in a namespace's name by colons: both stay as they are.
        return re.sub("|".join(map(re.escape, RENAMED)), lambda found: found[0] + MARKUP, value)
    if isinstance(value, dict):
        return {key: hostile(inner) for key, inner in value.items()}
    return [hostile(inner) for inner in value] if isinstance(value, list) else value


class HostileScene(Scene):
    """The storefront under names that nobody should have let in."""

    def documents(self, end_s: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        logs, counters = super().documents(end_s)
        return [hostile(log) for log in logs], [hostile(each) for each in counters]

    def in_force(self) -> InForce:
        now = super().in_force()
        policies = tuple(
            replace(policy, name=hostile(policy.name), namespace=hostile(policy.namespace))
            for policy in now.resources.policies
        )
        return replace(
            now,
            resources=replace(now.resources, policies=policies),
            endpoints=tuple(
                replace(each, namespace=hostile(each.namespace), name=hostile(each.name)) for each in now.endpoints
            ),
            manifests={hostile(name): hostile(text) for name, text in now.manifests.items()},
            names=tuple(hostile(name) for name in now.names),
        )


@pytest.mark.timeout(120)
def test_names_full_of_markup_stay_text_in_every_view(tmp_path: Path) -> None:
    need_a_browser()
    scene = HostileScene(tmp_path)
    scene.rogue = True
    scene.fill(int(time.time()), windows=4)
    policy = next(each.trace_name for each in scene.in_force().resources.policies if "default.trusted" in each.name)
    with serve(scene.app()) as address:
        done = in_the_browser("hostile.mjs", f"{address}/?token={TOKEN}", policy, MARKUP, timeout_s=100)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(json.loads(done.stdout)) >= 11
