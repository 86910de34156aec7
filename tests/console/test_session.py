"""Sessions by a shared token: any server that has it admits them, for a week, and nobody makes one without it."""

from __future__ import annotations

import pytest

from tierflow.console.server.session import SESSION_S, SharedTokenSessions
from tierflow.schemas.clock import NS_PER_S, ManualClock

TOKEN = "a-token-that-is-shared"
START_S = 1_700_000_000


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(START_S * NS_PER_S)


def opened(clock: ManualClock, token: str = TOKEN) -> str:
    cookie = SharedTokenSessions(token, clock).open(token)
    assert cookie is not None
    return cookie


def test_a_session_is_open_at_every_server_with_its_token_and_at_no_other(clock: ManualClock) -> None:
    cookie = opened(clock)
    assert SharedTokenSessions(TOKEN, clock).admits(cookie)
    assert not SharedTokenSessions("another-token-is-here", clock).admits(cookie)


def test_a_wrong_token_opens_nothing(clock: ManualClock) -> None:
    assert SharedTokenSessions(TOKEN, clock).open("a-token-that-is-wrong") is None
    assert SharedTokenSessions(TOKEN, clock).open("") is None


def test_a_session_ends_after_a_week(clock: ManualClock) -> None:
    cookie, server = opened(clock), SharedTokenSessions(TOKEN, clock)
    clock.advance_ns((SESSION_S - 1) * NS_PER_S)
    assert server.admits(cookie)
    clock.advance_ns((1) * NS_PER_S)
    assert not server.admits(cookie)


def test_no_part_of_a_cookie_can_be_changed(clock: ManualClock) -> None:
    until, nonce, signature = opened(clock).split(".")
    server = SharedTokenSessions(TOKEN, clock)
    assert server.admits(f"{until}.{nonce}.{signature}")
    changed = [
        f"{int(until) + 1}.{nonce}.{signature}",
        f"{until}.{nonce}x.{signature}",
        f"{until}.{nonce}.{signature[:-1]}",
    ]
    for cookie in (*changed, f"{until}.{signature}", signature, "", ".", "..", "ä.b.c", None):
        assert not server.admits(cookie), cookie


def test_two_sessions_differ_and_closing_one_leaves_the_other(clock: ManualClock) -> None:
    server = SharedTokenSessions(TOKEN, clock)
    one, two = server.open(TOKEN), server.open(TOKEN)
    assert one is not None
    assert two is not None
    assert one != two
    server.close(one)
    assert (server.admits(one), server.admits(two)) == (False, True)
    server.close("never.opened.here")
    assert server.admits(two)
