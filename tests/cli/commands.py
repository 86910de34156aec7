"""The command line from outside: run as a process, and walked as a tree."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Iterator


def tierflow(*arguments: str) -> subprocess.CompletedProcess[str]:
    """What a command said, and its exit code."""
    return subprocess.run(
        [sys.executable, "-m", "tierflow.cli.main", *arguments], capture_output=True, text=True, check=False, timeout=60
    )


def commands(found: click.Command) -> Iterator[click.Command]:
    """A command and all below it."""
    yield found
    if isinstance(found, click.Group):
        context = click.Context(found)
        for name in found.list_commands(context):
            under = found.get_command(context, name)
            assert under is not None, name
            yield from commands(under)
