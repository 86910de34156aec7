"""What a flow log says of the answer where a border falls between question and answer."""

from __future__ import annotations

import numpy as np
import pytest

from tests.streams.scene import START_S, WINDOW, Run, message, record
from tierflow.schemas.record import Mark, Reporter, TcpFlag
from tierflow.streams.core.flows import SPARE_ROWS
from tierflow.streams.core.windows import WindowSettings

SYN, DATA, BARE_ACK, RESET = TcpFlag.SYN, TcpFlag.ACK | TcpFlag.PSH, TcpFlag.ACK, TcpFlag.RST | TcpFlag.ACK
FIN = TcpFlag.FIN | TcpFlag.ACK
UDP = 17


def asked(at_s: float, src: str = "frontend-1", dst: str = "backend-1", *, flags: int = SYN, size: int = 60, **more):
    """A record of one packet that nothing has answered."""
    return record(src, dst, at_s=at_s, packets=(1, 0), size=(size, 0), flags=flags, **more)


def answered(at_s: float, src: str = "frontend-1", dst: str = "backend-1", **more):
    """A record of what came back, and of the acknowledgement of that."""
    return record(src, dst, at_s=at_s, packets=(1, 1), size=(52, 60), flags=BARE_ACK, **more)


def evidence(run: Run, window: int = 0) -> list[tuple[str, str, str]]:
    """Reporter, action and evidence of a window's logs."""
    start = START_S + 15 * window
    return sorted(
        (log["reporter"], log["action"], log["evidence"]) for log in run.all_logs() if log["start_time"] == start
    )


def over_the_border(before, after=(), *, window: WindowSettings = WINDOW) -> Run:
    """Records drained at the border of two windows, and those of the drain after it."""
    run = Run(window=window)
    run.feed(message(0, list(before), end_s=15))
    run.feed(message(1, list(after), end_s=16))
    return run.feed(message(2, [], end_s=40))


@pytest.mark.parametrize("proto", [6, UDP])
@pytest.mark.parametrize("reporter", [Reporter.SRC, Reporter.DST])
def test_a_question_just_before_the_border_is_answered_just_after_it(proto: int, reporter: Reporter) -> None:
    ends = {"proto": proto, "reporter": reporter}
    run = over_the_border([asked(14.9999, **ends)], [answered(15.0001, **ends)])
    assert evidence(run) == evidence(run, 1) == [(reporter.label, "allow", "answered")]


@pytest.mark.parametrize("after", [[], [record("frontend-2", "backend-1", at_s=15.1)], [asked(15.9)]])
def test_a_question_just_before_the_border_that_nobody_answers_is_unanswered(after: list) -> None:
    run = over_the_border([asked(14.9999)], after)
    assert ("src", "allow", "unanswered") in evidence(run)


def test_a_question_that_stood_unanswered_is_not_answered_by_the_next_window() -> None:
    run = over_the_border([asked(12.0), asked(14.9)], [answered(15.1)])
    assert evidence(run) == [("src", "allow", "unanswered")]
    assert evidence(run, 1) == [("src", "allow", "answered")]


def test_an_answer_after_the_lateness_comes_too_late_for_the_window_before() -> None:
    run = Run()
    run.feed(message(0, [asked(14.9)], end_s=15), message(1, [], end_s=17.5))
    run.feed(message(2, [answered(18.0)], end_s=19), message(3, [], end_s=40))
    assert evidence(run) == [("src", "allow", "unanswered")]


@pytest.mark.parametrize("flags", [BARE_ACK, RESET, TcpFlag.RST])
def test_a_bare_acknowledgement_or_reset_asks_for_nothing(flags: int) -> None:
    last = asked(15.04, flags=flags, size=52)
    run = over_the_border([answered(14.9)], [last])
    assert evidence(run) == [("src", "allow", "answered")]
    assert evidence(run, 1) == [("src", "allow", "unknown")]
    assert evidence(over_the_border([asked(14.9, flags=flags)], [answered(15.1)])) == [("src", "allow", "unknown")]


@pytest.mark.parametrize(
    "question",
    [
        asked(20.0, flags=DATA),
        asked(20.0, flags=FIN),
        asked(20.0, flags=BARE_ACK, size=1500),
        asked(20.0, flags=0),
        asked(20.0, flags=BARE_ACK, proto=UDP),
    ],
)
def test_an_established_connection_whose_other_end_has_gone_is_unanswered(question) -> None:
    run = Run().feed(message(0, [answered(14.9)], end_s=15), message(1, [question], end_s=21), message(2, [], end_s=40))
    assert evidence(run, 1) == [("src", "allow", "unanswered")]


def test_without_lateness_what_the_next_window_would_tell_is_unknown() -> None:
    prompt = WindowSettings(width_s=15, lateness_s=0)
    run = over_the_border([asked(14.9), asked(13.0, "frontend-1", "8.8.8.8")], [answered(15.1)], window=prompt)
    assert evidence(run) == [("src", "allow", "unanswered"), ("src", "allow", "unknown")]


def test_a_node_that_falls_silent_has_had_its_answers() -> None:
    run = Run().feed(message(0, [asked(14.9)], end_s=15))
    run.keep(run.stage.close_idle((START_S + 15 + WINDOW.idle_s) * 1000))
    assert evidence(run) == [("src", "allow", "unanswered")]


def test_no_denial_of_the_destination_is_derived_from_a_question_that_was_answered_over_the_border() -> None:
    run = over_the_border([asked(14.9999, "rogue")], [answered(15.0001, "rogue")])
    assert evidence(run) == evidence(run, 1) == [("src", "allow", "answered")]


def test_a_late_batchs_last_questions_are_not_judged() -> None:
    run = Run().feed(message(0, [answered(1.0)], end_s=15), message(1, [], end_s=40))
    run.feed(message(2, [asked(3.9), asked(2.0, "frontend-2", "8.8.8.8")], end_s=4, watermark_s=4))
    late = sorted(log["evidence"] for log in run.all_logs() if log["late"])
    assert late == ["unanswered", "unknown"]


def test_a_restarted_worker_judges_the_border_as_the_first_one_did() -> None:
    batches = [
        message(0, [asked(14.9999), asked(14.5, "frontend-2", "8.8.8.8")], end_s=15),
        message(1, [answered(15.0001)], end_s=16),
        message(2, [], end_s=18),
    ]
    run = Run().feed(*batches)
    first = dict(run.logs)
    run.restart()
    run.logs.clear()
    for each in batches:
        run.feed(each)
    assert run.logs == first
    assert evidence(run) == [("src", "allow", "answered"), ("src", "allow", "unanswered")]


def test_silence_is_no_question() -> None:
    alive = record("frontend-1", "backend-1", at_s=14.9, packets=(0, 0), size=(0, 0), marks=Mark.ALIVE)
    assert evidence(over_the_border([alive], [answered(15.1)])) == [("src", "allow", "unknown")]
    assert evidence(over_the_border([alive, asked(14.9, flags=BARE_ACK)])) == [("src", "allow", "unknown")]


def test_questions_are_kept_when_rows_are_numbered_anew() -> None:
    many = np.repeat(answered(1.0), 4 * SPARE_ROWS)
    many["src_port"] = np.arange(len(many)) + 1
    many["dst_port"] = np.arange(len(many)) + 1
    run = Run().feed(message(0, [many], end_s=15), message(1, [answered(16.0)], end_s=30))
    run.feed(message(2, [asked(31.0, "frontend-2", "8.8.8.8"), asked(44.9)], end_s=44.9, watermark_s=31.5))
    rows = run.stage.partitions[0].nodes["node-a"].flows.connections.count
    run.feed(message(3, [], end_s=45), message(4, [answered(45.1)], end_s=46))
    assert run.stage.partitions[0].nodes["node-a"].flows.connections.count < rows
    run.feed(message(5, [], end_s=80))
    assert evidence(run, 2) == [("src", "allow", "answered"), ("src", "allow", "unanswered")]
