"""A kubeconfig that can't be used is said once, by its name, at the start."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tierflow.inventory.kubernetes.api import connect
from tierflow.schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("content", [None, b"", b"\xff", b"[", b"a: 1", b"current-context: nowhere\n"])
def test_a_kubeconfig_that_is_none_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "config"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=rf"--kubeconfig {path}: "):
        connect(path)
