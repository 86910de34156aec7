"""Times and durations as people write them."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Final

from tierflow.schemas.clock import NS_PER_S
from tierflow.schemas.errors import ConfigurationError

YEAR_2200_S: Final = 7_258_118_400
_NUMBER: Final = re.compile(r"[0-9]+(\.[0-9]*)?")
_UNITS_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def parse_duration_s(flag: str, text: str) -> int:
    """Seconds of a duration such as ``90s``, ``15m``, ``3h`` or ``2d``.

    Raises:
        ConfigurationError: it has another form.
    """
    found = re.fullmatch(r"(\d{1,9})([smhd])", text)
    if found is None:
        raise ConfigurationError(f"{flag} {text!r}: accepted is a number and s, m, h or d, for instance 15m")
    return int(found[1]) * _UNITS_S[found[2]]


def parse_time_ns(flag: str, text: str) -> int:
    """Unix nanoseconds of a time in ISO 8601 (local unless it names its zone) or in Unix seconds, to the millisecond.

    Raises:
        ConfigurationError: it has another form, or lies where no clock of a cluster does.
    """
    try:
        seconds = float(text) if _NUMBER.fullmatch(text) else datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        seconds = -1
    if not 0 <= seconds < YEAR_2200_S:
        raise ConfigurationError(
            f"{flag} {text}: accepted is a time from 1970 to 2200 such as 2026-01-31T12:00:00 (local; with Z: UTC), "
            "or Unix seconds"
        )
    return round(seconds * 1000) * (NS_PER_S // 1000)


def parse_time_s(flag: str, text: str) -> int:
    """As :func:`parse_time_ns`, in whole seconds."""
    return parse_time_ns(flag, text) // NS_PER_S
