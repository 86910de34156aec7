"""A certificate authority of the tests' own, by openssl."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Certificate:
    """PEM of a certificate and of its key."""

    chain: bytes
    key: bytes


class Authority:
    """Signs certificates for 127.0.0.1.

    Args:
        folder: where its files are.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.file = folder / "ca.pem"
        _openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", folder / "ca.key", "-out", self.file,
                 "-subj", "/CN=tests", "-days", "2")  # fmt: skip

    def issue(self, days: int = 1) -> Certificate:
        """A certificate that is valid for so many days; -1: it expired yesterday."""
        key, request, signed = (self._folder / f"server.{end}" for end in ("key", "csr", "pem"))
        names = self._folder / "names"
        names.write_text("subjectAltName=IP:127.0.0.1\n")
        _openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", request, "-subj", "/CN=127.0.0.1")
        _openssl("x509", "-req", "-in", request, "-CA", self.file, "-CAkey", self._folder / "ca.key", "-CAcreateserial",
                 "-days", str(days), "-extfile", names, "-out", signed)  # fmt: skip
        return Certificate(signed.read_bytes(), key.read_bytes())


def _openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)
