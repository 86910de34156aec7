"""When the collector drains."""

from __future__ import annotations

import pytest

from tierflow.collector.run import PAST_S, until_drain_s


@pytest.mark.parametrize("interval_s", [0.5, 1.0, 10.0])
@pytest.mark.parametrize("now_s", [1_780_000_000.0, 1_780_000_000.2, 1_780_000_007.999, 1_780_000_000.006])
def test_a_drain_comes_just_past_the_next_multiple_of_the_interval(now_s: float, interval_s: float) -> None:
    wait_s = until_drain_s(now_s, interval_s)
    assert 0 < wait_s <= interval_s + PAST_S
    past_s = (now_s + wait_s) % interval_s
    assert past_s == pytest.approx(PAST_S, abs=1e-5)
