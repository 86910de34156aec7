"""What a watch says of itself without a server: whether it is current, and whether its thread has crashed."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from tierflow.inventory.kinds import KINDS
from tierflow.inventory.kubernetes.source import KubernetesSource
from tierflow.inventory.kubernetes.watch import BREAKS, KindWatch
from tierflow.inventory.names import calico_name
from tierflow.inventory.versions import Versions
from tierflow.schemas.clock import ManualClock
from tierflow.schemas.errors import TransientError
from tierflow.schemas.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import Iterator

POD = next(each for each in KINDS if each.name == "Pod")


class Answer:
    """A watch's body: nothing comes until it is ended, with or without an error."""

    def __init__(self) -> None:
        self.opened, self._end, self._error = threading.Event(), threading.Event(), False

    def stream(self, *_: Any, **__: Any) -> Iterator[bytes]:
        self.opened.set()
        assert self._end.wait(30)
        if self._error:
            raise OSError("cut")
        yield from ()

    def end(self, *, error: bool = False) -> None:
        self._error = error
        self._end.set()

    def close(self) -> None:
        self.end()

    def shutdown(self) -> None:
        self.end()


class Server:
    """Lists nothing; watches are what the test gives, one after the other."""

    def __init__(self, *watches: Answer) -> None:
        self._watches = list(watches)

    def get(self, *_: Any) -> dict[str, Any]:
        return {"metadata": {"resourceVersion": "7"}}

    def open(self, *_: Any) -> Answer:
        if not self._watches:
            raise TransientError("no more")
        return self._watches.pop(0)


def watch(server: Any, clock: ManualClock, live: Metrics) -> KindWatch:
    return KindWatch(POD, "v1", server, clock, lambda _: None, live, calico_name)


def test_a_watch_that_resumes_after_a_break_is_current_a_moment_later_and_one_that_ended_at_its_time_at_once() -> None:
    clock, answers = ManualClock(0), [Answer() for _ in range(3)]
    live = Metrics()
    watching = watch(Server(*answers), clock, live)
    watching.start()
    try:
        assert answers[0].opened.wait(30)
        assert watching.open
        answers[0].end()
        assert answers[1].opened.wait(30)
        assert watching.open
        answers[1].end(error=True)
        while not live.value(BREAKS, reason="connection"):
            assert not watching._stop.wait(0.001)
        assert not watching.open, "it is broken from the moment on at which that is noticed"
        assert answers[2].opened.wait(30)
        assert not watching.open
        clock.advance_ns(1_000_000_000)
        assert watching.open
    finally:
        watching.stop()
    assert not watching.open
    assert not watching.crashed


def test_a_stop_that_comes_while_a_watch_is_being_opened_ends_it() -> None:
    asked, answer = threading.Event(), Answer()

    class Slow(Server):
        def open(self, *_: Any) -> Answer:
            asked.set()
            assert watching._stop.wait(30)
            return answer

    watching = watch(Slow(), ManualClock(0), Metrics())
    watching.start()
    try:
        assert asked.wait(30)
        watching.stop()
        assert not watching._thread.is_alive()
    finally:
        answer.end()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_crashed_thread_ends_the_source_rather_than_leave_the_watermark_standing() -> None:
    class Broken:
        def get(self, *_: Any) -> dict[str, Any]:
            raise ZeroDivisionError

    watching = watch(Broken(), ManualClock(0), Metrics())
    assert not watching.crashed
    watching.start()
    watching._thread.join(30)
    assert watching.crashed
    source = KubernetesSource(Broken(), Versions(), ManualClock(0), Metrics())  # type: ignore[arg-type]  # no server at all
    source.start()
    source._prober.join(30)
    with pytest.raises(RuntimeError, match="crashed"):
        source.drain(0)
