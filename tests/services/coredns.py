"""CoreDNS, the DNS server of nearly every Kubernetes, built from its Go module with what a cluster needs of it."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

from tests.services.helm import cache_folder

if TYPE_CHECKING:
    from pathlib import Path

VERSION = "1.14.3"
PLUGINS = ("cache", "errors", "hosts", "kubernetes", "ready")
"""Upstream's own build has clients of three clouds as well, and takes minutes longer."""


def binary() -> Path:
    """The built server; it is static, so that any image can run it."""
    return cache_folder() / f"coredns-{VERSION}" / "coredns"


def install() -> str:
    """Build the server into the cache, unless it is there."""
    if not binary().exists():
        if shutil.which("go") is None:
            raise FileNotFoundError("no Go toolchain to build CoreDNS with: install Go 1.25 or newer")
        scratch = binary().parent / "scratch"
        scratch.mkdir(parents=True, exist_ok=True)
        (scratch / "main.go").write_text(_program())
        (scratch / "go.mod").write_text(f"module scratch\n\ngo 1.25\n\nrequire github.com/coredns/coredns v{VERSION}\n")
        unfinished = scratch / "coredns"
        subprocess.run(
            ["nice", "-n", "15", "go", "build", "-o", str(unfinished), "-ldflags", "-s -w", "."],
            check=True, cwd=scratch, env=os.environ | {"CGO_ENABLED": "0", "GOFLAGS": "-mod=mod"},
        )  # fmt: skip
        unfinished.rename(binary())
    return f"CoreDNS {VERSION}"


def _program() -> str:
    imports = ("core/dnsserver", *(f"plugin/{name}" for name in PLUGINS))
    lines = "".join(f'\t_ "github.com/coredns/coredns/{each}"\n' for each in imports)
    lines += '\t"github.com/coredns/coredns/coremain"\n'
    return f"package main\n\nimport (\n{lines})\n\nfunc main() {{ coremain.Run() }}\n"
