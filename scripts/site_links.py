"""Find the broken links of a built site, and everything that it loads from other servers."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

#: Attributes that make a browser load a file, by element. A link of a page only leads there.
_LOADS: Final = {("img", "src"), ("script", "src"), ("link", "href"), ("iframe", "src")}


class _Page(HTMLParser):
    """The links and anchors of a page."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        #: Targets, and whether a browser loads them with the page.
        self.links: list[tuple[str, bool]] = []
        self.feed(file.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Remember the ids and links of an element."""
        for name, value in attrs:
            if name in {"id", "name"} and value:
                self.anchors.add(value)
            if name in {"href", "src"} and value and dict(attrs).get("rel") != "canonical":
                self.links.append((value, (tag, name) in _LOADS))


@cache
def _page(file: Path) -> _Page:
    return _Page(file)


def problems(site: Path) -> Iterator[str]:
    """Yield a sentence for each link that leads nowhere, and each file of another server."""
    for file in sorted(site.rglob("*.html")):
        for link, is_loaded in _page(file).links:
            if problem := _problem(site, file, link, is_loaded=is_loaded):
                yield f"{file.relative_to(site)}: {link} {problem}"


def _problem(site: Path, file: Path, link: str, *, is_loaded: bool) -> str:
    parts = urlsplit(link)
    if parts.scheme in {"http", "https", "mailto", "data"} or parts.netloc:
        return "is loaded from another server" if is_loaded and parts.scheme != "data" else ""
    path = unquote(parts.path)
    target = (
        file if not path else (site if path.startswith("/") else file.parent) / path.lstrip("/")
    )
    if target.is_dir():
        target /= "index.html"
    if not target.is_file():
        return "leads to no file"
    anchor = unquote(parts.fragment)
    if anchor and target.suffix == ".html" and anchor not in _page(target.resolve()).anchors:
        return "leads to no place in that page"
    return ""
