"""The pictures in docs/DASHBOARD.md are those of today's pages."""

from __future__ import annotations

import re

from scripts.draw_dashboard import DOCUMENT, PICTURES, SCHEMES, SHOWN, WIDTHS, names, picture, shown

MOST_BYTES = 120_000


def test_every_page_has_its_pictures() -> None:
    wanted = {
        picture(name, width, scheme)
        for name, _, _ in names()
        for width in WIDTHS
        for scheme in SCHEMES
    }
    assert {file.name for file in PICTURES.glob("*.png")} == wanted, (
        "a page came or went: python -m scripts.draw_dashboard"
    )
    found = SHOWN.search(DOCUMENT.read_text("utf-8"))
    assert found is not None
    assert found[0] == shown()
    assert set(re.findall(r'src="dashboard/([^"]+)"', found[0])) == wanted


def test_a_picture_is_small() -> None:
    sizes = {file.name: file.stat().st_size for file in PICTURES.glob("*.png")}
    assert {name: size for name, size in sizes.items() if size > MOST_BYTES} == {}
    assert sum(sizes.values()) <= 40_000 * len(sizes)
