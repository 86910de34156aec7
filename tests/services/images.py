"""The project's own images, built without Docker; their stages are kept in the user's cache folder."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
BUILDER: Final = ROOT / "deploy" / "images" / "rootfs"
IMAGES: Final = {
    "tierflow": ("docker.io/library/tierflow:0.1.0", "docker.io/library/tierflow:0.1.1"),
    "collector": ("docker.io/library/tierflow-collector:0.1.0", "docker.io/library/tierflow-collector:0.1.1"),
    "storefront": ("docker.io/tierflow/storefront:latest",),
    "enforcer": ("docker.io/tierflow/enforcer:latest",),
}
"""Targets of the Dockerfile and the names that the node knows them by; 0.1.1 is what is upgraded to."""


def install() -> str:
    """Build every stage that isn't in the cache as the work tree has it now; some minutes the first time."""
    if os.geteuid() != 0 or shutil.which("mmdebstrap") is None:
        raise PermissionError("images are built by root, with Debian's mmdebstrap")
    for target in IMAGES:
        _rootfs(target)
    return ", ".join(IMAGES)


def build(target: str, folder: Path) -> Path:
    """The image of a target as an archive in a folder, from the cache where nothing changed."""
    archive = folder / f"{target}.tar"
    _rootfs(target, str(archive), *(part for tag in IMAGES[target] for part in ("--tag", tag)))
    return archive


def _rootfs(*arguments: str) -> None:
    done = subprocess.run([str(BUILDER), *arguments], check=False, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"rootfs {arguments[0]}: {done.stderr[-2000:]}")
