"""The process that compiles and loads, ended before it is done."""

from __future__ import annotations

import tempfile
import threading
import time
from typing import TYPE_CHECKING

import pytest

from tests.collector.network import need_bcc
from tierflow.collector.ebpf import BPF_FILE_SYSTEM, EbpfSettings, EbpfSource
from tierflow.schemas.errors import UnavailableError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.root
def test_abandoned_while_it_compiles_it_leaves_neither_scratch_nor_pins(
    tmp_path: Path, node: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    need_bcc()
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)  # read from TMPDIR anew
    source = EbpfSource(EbpfSettings(node, ("tierflow-none*",), 1.0, 3600.0, 1024))
    said = list[str]()

    def start() -> None:
        try:
            source.start()
        except UnavailableError as error:
            said.append(str(error))

    starting = threading.Thread(target=start)
    starting.start()
    try:
        give_up = time.monotonic() + 20
        while not any(tmp_path.iterdir()):
            assert time.monotonic() < give_up, "it never began to work"
            time.sleep(0.01)  # another process works there
    finally:
        source.abandon()
        starting.join(20)
        source.stop()
    assert said == ["the loader ended without a word"]
    assert list(tmp_path.iterdir()) == []
    assert not (BPF_FILE_SYSTEM / "tierflow" / node).exists()
