"""The builder without Docker reads the very Dockerfile that Docker reads, and refuses what it can't do."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import json
import sys
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from types import ModuleType

IMAGES = Path(__file__).parents[2] / "deploy" / "images"
ROOT = IMAGES.parents[1]


@pytest.fixture(scope="module")
def rootfs() -> ModuleType:
    loader = importlib.machinery.SourceFileLoader("tierflow_rootfs", str(IMAGES / "rootfs"))
    spec = importlib.util.spec_from_loader("tierflow_rootfs", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[loader.name] = module
    loader.exec_module(module)
    return module


def test_it_knows_every_line_of_the_dockerfile(rootfs: ModuleType) -> None:
    text = (IMAGES / "Dockerfile").read_text()
    stages = rootfs.parse(text)
    assert {"tierflow", "collector", "storefront"} <= set(stages)
    instructions = [line for line in text.splitlines() if line and not line.startswith("#")]
    again = [f"FROM {stage.base} AS {stage.name}" for stage in stages.values()]
    again += [f"{keyword} {rest}" for stage in stages.values() for keyword, rest in stage.steps]
    assert sorted(again) == sorted(instructions)


def test_everything_but_the_collector_runs_as_somebody_other_than_root(rootfs: ModuleType) -> None:
    stages = rootfs.parse((IMAGES / "Dockerfile").read_text())
    users = {name: rootfs.config_of(stages, name).get("User") for name in ("tierflow", "collector", "storefront")}
    assert users == {"tierflow": "65532:65532", "collector": None, "storefront": "65534:65534"}


def test_every_copied_path_is_in_the_checkout_and_let_through_by_dockerignore(rootfs: ModuleType) -> None:
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for stage in rootfs.parse((IMAGES / "Dockerfile").read_text()).values():
        for keyword, rest in stage.steps:
            if keyword != "COPY":
                continue
            source, paths, _ = rootfs.copy_words(rest)
            for path in paths if source is None else ():
                assert (ROOT / path).exists(), path
                assert any(path == each or path.startswith(f"{each}/") for each in allowed), path


def test_every_package_of_the_project_is_copied(rootfs: ModuleType) -> None:
    copied = (IMAGES / "Dockerfile").read_text()
    for link in (ROOT / "src" / "tierflow").iterdir():
        if link.is_symlink():
            assert f"COPY {link.name}" in copied, link.name


@pytest.mark.parametrize(
    "text", ["FROM scratch AS one", "FROM debian:12-slim", "FROM debian:12-slim AS one\nADD a b", "RUN true"]
)
def test_what_it_can_not_do_is_refused_with_the_line(rootfs: ModuleType, text: str) -> None:
    with pytest.raises(ValueError, match=r"line \d+:"):
        rootfs.parse(text)


def test_a_saved_image_is_what_container_runtimes_import(rootfs: ModuleType, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "hello").write_text("hello")
    rootfs.save(root, {"Entrypoint": ["/hello"]}, ["localhost/hello:1"], tmp_path / "image.tar")
    with tarfile.open(tmp_path / "image.tar") as archive:
        manifest = json.load(archive.extractfile("manifest.json"))  # type: ignore[arg-type]
        config = json.load(archive.extractfile(manifest[0]["Config"]))  # type: ignore[arg-type]
        with tarfile.open(fileobj=archive.extractfile(manifest[0]["Layers"][0])) as layer:
            assert "./hello" in layer.getnames()
    assert manifest[0]["RepoTags"] == ["localhost/hello:1"]
    assert config["config"] == {"Entrypoint": ["/hello"]}
