"""The log of every stage, on standard error: JSON lines with fields, or text for a person's eyes.

A line has ``time`` (UTC), ``level``, ``logger`` and ``message``, the fields that the code gave as ``extra``, and
``error`` with the traceback of an exception. Code logs names, numbers and addresses of services as fields; never
settings as a whole, headers or messages' content, so that no secret can come along.
"""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import click
import orjson

from tierflow.cli.settings import setting

if TYPE_CHECKING:
    from types import TracebackType

_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
"""What every record has; the rest are fields."""


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    return {name: value for name, value in vars(record).items() if name not in _STANDARD}


class JsonLines(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as a line; a value that JSON doesn't know is written as its text."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


class Text(logging.Formatter):
    """Time, level, logger, message, then the fields as ``name=value``."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s", "%H:%M:%S")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's own name
        """The line without a traceback."""
        return " ".join(
            [super().formatMessage(record), *(f"{name}={value}" for name, value in _fields(record).items())]
        )


def start_logging(form: str) -> None:
    """Send this process's log to standard error: ours from INFO on, libraries' warnings and errors."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines() if form == "json" else Text())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("tierflow").setLevel(logging.INFO)
    logging.captureWarnings(capture=True)
    sys.excepthook = _uncaught


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    logging.getLogger("tierflow").critical("ends on %s", kind.__name__, exc_info=(kind, error, trace))


def _start(context: click.Context, parameter: click.Parameter, value: str) -> None:
    del parameter
    if not context.resilient_parsing:
        start_logging(value)


def log_setting(function: Any) -> Any:
    """The ``--log-format`` flag that every stage shares; the log starts when the flag is read."""
    return setting(
        "--log-format", type=click.Choice(["json", "text"]), default="json", expose_value=False, callback=_start,
        help="JSON lines with fields, or text for people.",
    )(function)  # fmt: skip
