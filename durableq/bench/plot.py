"""A self-contained SVG of a report: a bar for each row, its quartiles, and its target."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from typing import Final

from durableq.bench.figures import Figure

_WIDTH, _ROW, _LEFT, _RIGHT, _TOP = 900, 26, 330, 120, 50
_REACHED, _MISSED, _PLAIN = "#2e7d32", "#c62828", "#546e7a"
_STYLE: Final = "text{font:13px sans-serif;fill:#222}.t{font-weight:bold;font-size:15px}"


def drawing(title: str, figures: Sequence[Figure]) -> str:
    """Return the SVG as text. Rows of one unit share a scale.

    Args:
        title: the machine, for the heading.
        figures: the measured rows.
    """
    height = _TOP + _ROW * len(figures) + 20
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" '
            f'viewBox="0 0 {_WIDTH} {height}">',
            f"<style>{_STYLE}</style>",
            f'<rect width="{_WIDTH}" height="{height}" fill="#fff"/>',
            f'<text class="t" x="10" y="24">{escape(title)}</text>',
            *_bars(figures),
            "</svg>\n",
        )
    )


def _bars(figures: Sequence[Figure]) -> Iterator[str]:
    longest: dict[str, float] = {}
    for figure in figures:
        unit = figure.row.unit
        most = max(figure.value.high, figure.row.target or 0.0, longest.get(unit, 0.0), 1e-12)
        longest[unit] = most
    for number, figure in enumerate(figures):
        y = _TOP + _ROW * number
        scale = (_WIDTH - _LEFT - _RIGHT) / longest[figure.row.unit]
        value, target = figure.value, figure.row.target
        color = {True: _REACHED, False: _MISSED, None: _PLAIN}[figure.is_reached]
        label = escape(f"{figure.row.name} ({figure.synchronous})")
        yield f'<text x="10" y="{y + 15}">{label}</text>'
        yield (
            f'<rect x="{_LEFT}" y="{y + 3}" width="{value.median * scale:.1f}" '
            f'height="{_ROW - 10}" fill="{color}"/>'
        )
        low, high = _LEFT + value.low * scale, _LEFT + value.high * scale
        yield (f'<line x1="{low:.1f}" x2="{high:.1f}" y1="{y + 11}" y2="{y + 11}" stroke="#000"/>')
        if target is not None:
            x = _LEFT + target * scale
            yield (
                f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{y}" y2="{y + _ROW - 4}" stroke="#000" '
                'stroke-dasharray="3 2"/>'
            )
        at = _LEFT + max(value.high, target or 0.0) * scale + 6
        shown = escape(f"{value.median:.3g} {figure.row.unit}")
        yield f'<text x="{at:.1f}" y="{y + 15}">{shown}</text>'
