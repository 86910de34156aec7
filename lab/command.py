"""Runs ip and nft, and turns their failures into one line."""

from __future__ import annotations

import os
import shutil
import subprocess

from tierflow.schemas.errors import UnavailableError


def run(*argv: str, stdin: str | None = None) -> str:
    """Standard output of a command.

    Raises:
        UnavailableError: it isn't installed, or failed; its first line of error is quoted.
    """
    try:
        done = subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise UnavailableError(
            f"lab: the command {argv[0]} is missing (Debian: apt install iproute2 nftables)"
        ) from error
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise UnavailableError(f"lab: {' '.join(argv)}: {lines[0]}")
    return done.stdout


def succeeds(*argv: str) -> bool:
    """Whether a command ends well; for removing what may be gone already."""
    return subprocess.run(argv, capture_output=True, check=False).returncode == 0


def require_privilege() -> None:
    """Check that this process may make namespaces and rules.

    Raises:
        UnavailableError: not root, or ip or nft is missing.
    """
    if os.geteuid() != 0:
        raise UnavailableError(
            "lab: needs root for network namespaces and nftables; without root, `tierflow collect --source synthetic` "
            "makes up the same traffic"
        )
    missing = [name for name in ("ip", "nft") if shutil.which(name) is None]
    if missing:
        raise UnavailableError(f"lab: {', '.join(missing)} missing (Debian: apt install iproute2 nftables)")
