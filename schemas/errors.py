"""The errors of tierflow, by what must happen next.

TierflowError
├── ConfigurationError   fatal: at start, names the flag, key, file or field and what is accepted
├── UnavailableError     fatal for this process: a service or privilege is missing, in one line
├── TransientError       retry: transport; with back-off, jitter and a bound, in one place
└── RejectedRecord       one bad record or document: to the dead-letter topic with its reason, counted
"""

from __future__ import annotations

from typing import Final


class TierflowError(Exception):
    """Base of every error that tierflow raises on purpose; its text is one line for a person."""

    exit_code: int = 1


class ConfigurationError(TierflowError):
    """A setting, file or field given by the user is wrong; retrying can't help."""

    exit_code = 2


class UnavailableError(TierflowError):
    """Something that this process needs (service, privilege, disk) isn't there."""

    exit_code = 3


class TransientError(TierflowError):
    """A transport failed; the same call may work later."""


class RejectReason:
    """The bounded set of reasons that a dead-letter record or its metric carries."""

    BAD_MAGIC: Final = "bad_magic"
    UNKNOWN_VERSION: Final = "unknown_version"
    TRUNCATED: Final = "truncated"
    OVERSIZED: Final = "oversized"
    RECORD_SIZE: Final = "record_size"
    RECORD_COUNT: Final = "record_count"
    BAD_HEADER: Final = "bad_header"
    BAD_TIME: Final = "bad_time"
    BAD_VALUE: Final = "bad_value"
    BAD_JSON: Final = "bad_json"
    SCHEMA: Final = "schema"
    STORE: Final = "store"


class RejectedRecord(TierflowError):
    """One message can't be used.

    Attributes:
        reason: one of :class:`RejectReason`, fit for a metric label.
        detail: what was found and what is accepted, for a person.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail
