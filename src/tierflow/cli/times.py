"""Times and durations as people write them."""

from __future__ import annotations

import re
from datetime import datetime

from tierflow.schemas.errors import ConfigurationError

_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def parse_duration_s(flag: str, text: str) -> int:
    """Seconds of a duration such as ``90s``, ``15m``, ``3h`` or ``2d``.

    Raises:
        ConfigurationError: it has another form.
    """
    found = re.fullmatch(r"(\d{1,9})([smhd])", text)
    if found is None:
        raise ConfigurationError(f"{flag} {text!r}: accepted is a number and s, m, h or d, for instance 15m")
    return int(found[1]) * _UNITS_S[found[2]]


def parse_time_s(flag: str, text: str) -> int:
    """Unix seconds of a time in ISO 8601 (local unless it names its zone) or in Unix seconds.

    Raises:
        ConfigurationError: it has another form.
    """
    if re.fullmatch(r"\d{1,11}", text):
        return int(text)
    try:
        return int(datetime.fromisoformat(text).timestamp())
    except (ValueError, OverflowError) as error:
        raise ConfigurationError(
            f"{flag} {text!r}: accepted is ISO 8601, for instance 2026-01-31T09:00:00, or Unix seconds"
        ) from error
