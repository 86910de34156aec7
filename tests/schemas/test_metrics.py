"""Live metrics: the page is the library's own, and what has not moved costs nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import generate_latest

from tierflow.schemas import metrics
from tierflow.schemas.metrics import Metrics, MetricSpec

if TYPE_CHECKING:
    import pytest
    from prometheus_client.registry import Collector

# Not declared: they belong to no stage, and documentation lists what is declared.
THINGS = MetricSpec("tierflow_test_things_total", "counter", "things", "Things.", ("kind",))
LEVEL = MetricSpec("tierflow_test_level", "gauge", "things", "Level.", ("kind",))
WAIT = MetricSpec("tierflow_test_wait_seconds", "histogram", "seconds", "Wait.", buckets=(1, 5))


EVENTS = st.sampled_from(["add", "set", "observe", "forget", "page"])


@given(st.lists(st.tuples(EVENTS, st.sampled_from(["a", 'b"\n']))))
def test_a_page_is_what_the_library_writes_after_whatever_has_happened(events: list[tuple[str, str]]) -> None:
    live = Metrics()
    for number, (event, kind) in enumerate(events):
        if event == "add":
            live.add(THINGS, number, kind=kind)
        elif event == "set":
            live.set(LEVEL, number, kind=kind)
        elif event == "observe":
            live.observe(WAIT, number)
        elif event == "forget":
            live.forget(THINGS, kind=kind)
        else:
            live.page()
    assert sorted(live.page().splitlines()) == sorted(generate_latest(live.registry).splitlines())
    assert b"_created" not in live.page()


def test_a_page_of_some_names_holds_those_and_leaves_the_others_to_the_next() -> None:
    live = Metrics()
    live.add(THINGS, kind="a")
    live.set(LEVEL, 1, kind="a")
    assert live.page([LEVEL.name]) == generate_latest(live.registry.restricted_registry([LEVEL.name]))
    assert live.page(["unknown"]) == b""
    assert sorted(live.page().splitlines()) == sorted(generate_latest(live.registry).splitlines())


def test_a_metric_that_has_not_moved_is_not_written_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[Collector] = []

    def write(metric: Collector) -> bytes:
        written.append(metric)
        return generate_latest(metric)

    monkeypatch.setattr(metrics, "generate_latest", write)
    live = Metrics()
    live.add(THINGS, kind="a")
    live.set(LEVEL, 1, kind="a")
    first = live.page()
    assert len(written) == 2
    assert live.page() == first
    assert len(written) == 2
    live.set(LEVEL, 2, kind="a")
    live.page()
    assert len(written) == 3
