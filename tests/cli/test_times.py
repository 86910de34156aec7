"""Times and durations as people write them mean the same to every command."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tierflow.cli.times import parse_duration_s, parse_time_ns, parse_time_s
from tierflow.schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator

NOON_S = 1_769_860_800
"""2026-01-31T12:00:00Z"""


@pytest.fixture
def kolkata(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Five hours and a half ahead of UTC."""
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("kolkata")
@pytest.mark.parametrize(
    "text",
    ["2026-01-31T12:00:00Z", "2026-01-31T17:30:00", "2026-01-31 17:30", "2026-01-31T13:00:00+01:00", str(NOON_S)],
)
def test_a_time_is_local_unless_it_names_its_zone(text: str) -> None:
    assert parse_time_s("--from", text) == NOON_S


def test_a_time_is_exact_to_the_millisecond() -> None:
    assert parse_time_ns("--at", f"{NOON_S}.123456") == NOON_S * 10**9 + 123_000_000
    assert parse_time_ns("--at", "2026-01-31T12:00:00.999Z") == NOON_S * 10**9 + 999_000_000


@pytest.mark.parametrize(
    "text", ["", "noon", "-5", "nan", "inf", "1e9", "2201-01-01", "0001-01-01", "9999-12-31T23:59:59", "99999999999"]
)
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^--from {text}: accepted is a time from 1970 to 2200 such as"):
        parse_time_s("--from", text)


def test_a_duration_is_a_number_and_a_unit() -> None:
    assert [parse_duration_s("--since", each) for each in ("90s", "15m", "3h", "2d")] == [90, 900, 10_800, 172_800]
    for wrong in ("", "5", "-5m", "5 m", "1.5h", "m", "5w"):
        with pytest.raises(ConfigurationError, match=r"--since .*: accepted is a number and s, m, h or d"):
            parse_duration_s("--since", wrong)
