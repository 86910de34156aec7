"""Where tierflow keeps what outlives a command: its state folder."""

from __future__ import annotations

import os
from pathlib import Path

from tierflow.schemas.errors import ConfigurationError


def state_folder() -> Path:
    """``$TIERFLOW_STATE``, ``$XDG_STATE_HOME/tierflow`` or ``~/.local/state/tierflow``; created with mode 0700.

    Raises:
        ConfigurationError: it isn't a folder and can't be made one.
    """
    chosen = os.environ.get("TIERFLOW_STATE")
    root = (
        Path(chosen) if chosen else Path(os.environ.get("XDG_STATE_HOME") or "~/.local/state").expanduser() / "tierflow"
    )
    try:
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise ConfigurationError(
            f"state folder {root}: {error.strerror}; TIERFLOW_STATE=<folder> names another"
        ) from error
    return root
