"""Where tierflow keeps what outlives a command: its state folder."""

from __future__ import annotations

import os
from pathlib import Path


def state_folder() -> Path:
    """``$TIERFLOW_STATE``, ``$XDG_STATE_HOME/tierflow`` or ``~/.local/state/tierflow``; created with mode 0700."""
    chosen = os.environ.get("TIERFLOW_STATE")
    root = (
        Path(chosen) if chosen else Path(os.environ.get("XDG_STATE_HOME") or "~/.local/state").expanduser() / "tierflow"
    )
    root.mkdir(parents=True, exist_ok=True, mode=0o700)
    return root
