"""A secret is in a file or in an environment variable, never in an argument: arguments are everybody's to read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tierflow.schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path


def secret_file(flag: str, path: Path) -> str:
    """The secret that the file holds, without white space around it.

    Args:
        flag: that named the file, for the error.
        path: of the file.

    Raises:
        ConfigurationError: the file is missing, unreadable or empty.
    """
    try:
        content = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{flag} {path}: {getattr(error, 'strerror', None) or 'not text'}") from error
    if not content:
        raise ConfigurationError(f"{flag} {path}: the file is empty")
    return content


def secret(flag: str, variable: str, given: str | None, path: Path | None) -> str | None:
    """The secret from the variable or the file; None where neither has one.

    Args:
        flag: that names the file.
        variable: that holds the secret itself.
        given: the variable's value; empty is how a chart says that there is none.
        path: of the file.

    Raises:
        ConfigurationError: both are given, or the file can't be used.
    """
    if path is None:
        return given or None
    if given:
        raise ConfigurationError(f"{variable} and {flag} exclude each other")
    return secret_file(flag, path)
