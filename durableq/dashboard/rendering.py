"""HTML from templates, in which every value is escaped."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined

from durableq import __version__
from durableq.cli import rendering
from durableq.model.text import visible
from durableq.model.units import span

#: A longer text is cut where a page shows only its beginning.
CELL_CHARS: Final = 80


def environment() -> Environment:
    """Return the environment of the templates."""
    made = Environment(
        loader=PackageLoader("durableq.dashboard"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals.update(version=__version__, now_ms=rendering.now_ms)
    made.filters.update(
        ago=rendering.ago,
        body=rendering.body_cell,
        cell=_cell,
        count=_count,
        error=rendering.event_words,
        lines=_lines,
        moment=rendering.moment,
        iso=_iso,
        per_second=rendering.rate_words,
        rate=_rate,
        size=_size,
        span=span,
        visible=visible,
    )
    return made


def _cell(text: str, limit: int = CELL_CHARS) -> str:
    return visible(text, limit)


def _count(number: int) -> str:
    return f"{number:,}"


def _iso(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000).astimezone().isoformat()


def _lines(text: str) -> str:
    """Return text of several lines, each without characters that act on a screen."""
    return "\n".join(visible(line.replace("\t", "    ")) for line in text.splitlines())


def _rate(per_second: float) -> str:
    return f"{per_second:,.0f}" if per_second >= 10 else f"{per_second:.1f}"


def _size(number: int) -> str:
    size = float(number)
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"
