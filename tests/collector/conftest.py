"""A node's name of its own for each test."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import pytest

from tests.collector.network import unpin

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def node() -> Iterator[str]:
    """A name; what killed collectors of that node left pinned goes at the end, however the test ends."""
    name = f"t{secrets.token_hex(4)}"
    yield name
    unpin(name)
