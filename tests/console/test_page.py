"""The built page as it is sent."""

from __future__ import annotations

import gzip

from tests.console.browser import WEB, need_a_browser

STATIC = WEB.parent / "server" / "static"
MOST_BYTES = 300_000


def test_the_page_weighs_at_most_300_kilobytes_compressed() -> None:
    need_a_browser()
    sizes = {path.name: len(gzip.compress(path.read_bytes(), 5)) for path in STATIC.rglob("*") if path.is_file()}
    assert any(name.endswith(".js") for name in sizes)
    assert sum(sizes.values()) <= MOST_BYTES, sizes


def test_the_page_holds_no_inline_script_or_style_and_names_no_other_origin() -> None:
    need_a_browser()
    page = (STATIC / "index.html").read_text()
    assert "<style" not in page
    assert "style=" not in page
    assert page.count("<script") == page.count('<script type="module" crossorigin src="/assets/')
    styles = "".join(path.read_text() for path in STATIC.rglob("*.css"))
    assert "http:" not in styles
    assert "https:" not in styles
