"""What a look at the conversations yields: who ended without a word, is silent, is forgotten; and translations."""

from __future__ import annotations

import numpy as np
import pytest

from tierflow.collector import conntrack
from tierflow.collector.drain import ESTABLISHED_S, IDLE_S, LINGER_S, UNANSWERED_S, Sweep, sweep
from tierflow.collector.map_layout import CONVERSATION, ENDED, KEY
from tierflow.schemas.clock import NS_PER_S
from tierflow.schemas.record import RECORD, Mark, Reporter

NOW_S, UNIX_S, INTERFACE = 10_000, 1_780_000_000, 7
TCP, UDP = 6, 17


def look(
    silent_s: float, *, proto: int = TCP, answered: bool = True, closed: bool = False, interface: int = INTERFACE,
    marks: int = 0, silent_since_s: float | None = NOW_S - 5,
) -> Sweep:  # fmt: skip
    """Sweep one conversation whose last packet was ``silent_s`` ago, at the end of a span of five seconds."""
    key, state = np.zeros(1, KEY), np.zeros(1, CONVERSATION)
    key["proto"], key["ifindex"], key["local_port"], key["remote_port"] = proto, interface, 40_000, 80
    state["last_seen_ns"] = int((NOW_S - silent_s) * NS_PER_S)
    state["answered"], state["ended"], state["marks"] = answered, ENDED if closed else 0, marks
    state["reporter"], state["dst_port"] = Reporter.SRC, 80
    since = None if silent_since_s is None else int(silent_since_s * NS_PER_S)
    return sweep(key, state, np.array([INTERFACE], np.uint32), NOW_S * NS_PER_S, since, UNIX_S * NS_PER_S)


def told(found: Sweep) -> tuple[list[int], bool]:
    """Marks of the records, and whether the conversation is forgotten."""
    return found.records["marks"].tolist(), bool(len(found.forget))


@pytest.mark.parametrize(
    ("allowed_s", "kind"),
    [
        (ESTABLISHED_S, {}),
        (UNANSWERED_S, {"answered": False}),
        (IDLE_S, {"proto": UDP}),
    ],
)
def test_a_silence_beyond_what_its_kind_allows_is_an_end(allowed_s: int, kind: dict[str, int]) -> None:
    assert told(look(allowed_s, **kind)) == ([Mark.ALIVE], False)
    assert told(look(allowed_s + 0.001, **kind)) == ([Mark.COMPLETED], True)


def test_an_interface_that_went_ends_its_conversations() -> None:
    assert told(look(0, interface=8)) == ([Mark.COMPLETED], True)


def test_an_end_that_packets_told_is_not_told_again() -> None:
    assert told(look(LINGER_S, closed=True)) == ([], False)
    assert told(look(LINGER_S + 1, closed=True)) == ([], True)
    assert told(look(0, closed=True, interface=8)) == ([], True)


def test_only_who_was_silent_through_the_span_is_said_to_be_alive() -> None:
    assert told(look(5.001)) == ([Mark.ALIVE], False)
    assert told(look(4.999)) == ([], False)
    assert told(look(5.001, silent_since_s=None)) == ([], False)


def test_a_guess_stays_one_and_a_beginning_is_told_once() -> None:
    assert told(look(6, marks=Mark.GUESSED | Mark.STARTED)) == ([Mark.GUESSED | Mark.ALIVE], False)


@pytest.mark.parametrize(("reporter", "written"), [(Reporter.SRC, 8080), (Reporter.DST, 0), (Reporter.FWD, 0)])
def test_a_translation_is_its_initiators_side_only(reporter: Reporter, written: int) -> None:
    table, records = np.zeros(1, conntrack.TRANSLATION), np.zeros(1, RECORD)
    for field, value in {"src_lo": 1, "dst_lo": 2, "src_port": 40_000, "dst_port": 80, "proto": TCP}.items():
        table[field] = records[field] = value
    table["nat_dst_lo"], table["nat_dst_port"] = 3, 8080
    records["reporter"] = reporter
    conntrack.resolve(records, table)
    assert records["nat_dst_port"].tolist() == [written]


def test_another_connection_is_not_translated() -> None:
    table, records = np.zeros(1, conntrack.TRANSLATION), np.zeros(7, RECORD)
    fields = {"src_hi": 0, "src_lo": 1, "dst_hi": 0, "dst_lo": 2, "src_port": 40_000, "dst_port": 80, "proto": TCP}
    for number, (field, value) in enumerate(fields.items()):
        table[field], records[field] = value, value
        records[field][number] = value + 1
    table["nat_dst_port"], records["reporter"] = 8080, Reporter.SRC
    conntrack.resolve(records, table)
    assert not records["nat_dst_port"].any()
