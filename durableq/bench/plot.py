"""A self-contained SVG of a report: bars with their targets, histograms, and lines.

Rows of one unit share a scale. Figures and targets have columns of their own beside the bars, so
that no text meets another. A viewer that prefers dark colours gets them.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final

from durableq.bench.figures import Chart, Figure, short
from durableq.bench.report import Report
from durableq.demo import svg

WIDTH: Final = 960
_MARGIN, _LINE, _ROW = 16, 18, 22
#: Left ends of the columns of bars, figures, targets and results; bars end before the figures.
_BARS, _FIGURES, _TARGETS, _RESULTS = 330, 730, 800, 860
_BARS_WIDTH: Final = _FIGURES - _BARS - 12
#: A chart's frame and the space around its bars or line.
_CHART_WIDTH, _CHART_HEIGHT = 456, 230
_LEFT, _TOP, _BOTTOM = 12, 48, 40
_HEADING_CHARS: Final = 130

_RULES: Final = (
    "text{font:12px sans-serif}.title{font-size:16px}.title,.unit{font-weight:bold}"
    ".small{font-size:10px}.middle{text-anchor:middle}.target{stroke-dasharray:4 2}"
    ".line{fill:none;stroke-width:2}"
)
_LIGHT: Final = {
    "text": "#1f2328",
    "paper": "#ffffff",
    "axis": "#8c959f",
    "reached": "#2da44e",
    "missed": "#cf222e",
    "plain": "#6e7781",
}
_DARK: Final = {
    "text": "#e6edf3",
    "paper": "#0d1117",
    "axis": "#484f58",
    "reached": "#238636",
    "missed": "#da3633",
    "plain": "#6e7681",
}
_CLASSES: Final = {True: "reached", False: "missed", None: "plain"}
_WORDS: Final = {True: "reached", False: "not reached", None: ""}


def drawing(report: Report) -> str:
    """Return the SVG as text."""
    heading = textwrap.wrap(report.heading, _HEADING_CHARS)
    parts = [svg.text(_MARGIN, 28, "durableq bench", "title")]
    y: float = 28
    for line in heading:
        y += _LINE
        parts.append(svg.text(_MARGIN, y, line))
    y += _LINE + 8
    parts += _legend(y)
    y += 12
    for unit in dict.fromkeys(figure.row.unit for figure in report.figures):
        figures = [figure for figure in report.figures if figure.row.unit == unit]
        parts += _section(y, unit, figures)
        y += _section_height(figures)
    charts = [*dict.fromkeys(one.chart for one in report.figures if one.chart is not None)]
    for number, chart in enumerate(charts):
        x = _MARGIN + number % 2 * (_CHART_WIDTH + _MARGIN)
        parts += _chart(x, y + _MARGIN + number // 2 * _CHART_HEIGHT, chart)
    height = y + _MARGIN + -(-len(charts) // 2) * _CHART_HEIGHT + _MARGIN
    opening = svg.opening(
        "Figures of durableq bench", WIDTH, height, _RULES, _colours(_LIGHT), _colours(_DARK)
    )
    return "\n".join((*opening, *parts, "</svg>\n"))


def _colours(of: dict[str, str]) -> dict[str, str]:
    """Return the colours of each class."""
    fills = {name: f"fill:{of[name]}" for name in ("text", "paper", "reached", "missed", "plain")}
    strokes = {"mark": of["text"], "axis": of["axis"], "line": of["plain"]}
    return fills | {name: f"stroke:{colour}" for name, colour in strokes.items()}


def _legend(y: float) -> Iterator[str]:
    """Yield samples of the colours and the marks, with their meaning."""
    x: float = _MARGIN
    for reached, text in ((True, "reaches its target"), (False, "does not"), (None, "no target")):
        yield svg.rect(x, y - 10, 12, 12, _CLASSES[reached])
        yield svg.text(x + 18, y, text)
        x += 40 + 7 * len(text)
    yield svg.line(x + 6, y - 12, x + 6, y + 4, "mark target")
    yield svg.text(x + 16, y, "target")
    yield svg.line(x + 80, y - 4, x + 104, y - 4, "mark")
    yield svg.text(x + 112, y, "quartiles of the rounds; a bar ends at their median")


def _section_height(figures: Sequence[Figure]) -> float:
    return 30 + _ROW * len(figures) + 6


def _section(y: float, unit: str, figures: Sequence[Figure]) -> Iterator[str]:
    """Yield the bars of one unit, from y on."""
    yield svg.text(_MARGIN, y + 22, unit or "ratio", "unit")
    yield svg.line(_MARGIN, y + 28, WIDTH - _MARGIN, y + 28, "axis")
    longest = max(max(one.value.high, one.row.target or 0.0) for one in figures) or 1.0
    for number, figure in enumerate(figures):
        yield from _bar(y + 30 + _ROW * number, figure, _BARS_WIDTH / longest)


def _bar(y: float, figure: Figure, scale: float) -> Iterator[str]:
    base, middle = y + 15, y + 11
    yield svg.text(_MARGIN, base, figure.name)
    reached = figure.is_reached
    yield svg.rect(_BARS, y + 4, figure.value.median * scale, _ROW - 8, _CLASSES[reached])
    low, high = _BARS + figure.value.low * scale, _BARS + figure.value.high * scale
    yield svg.line(low, middle, high, middle, "mark")
    if figure.row.target is not None:
        x = _BARS + figure.row.target * scale
        yield svg.line(x, y, x, y + _ROW - 1, "mark target")
    for column, text in (
        (_FIGURES, short(figure.value.median)),
        (_TARGETS, figure.row.bound),
        (_RESULTS, _WORDS[reached]),
    ):
        if text:
            yield svg.text(column, base, text)


def _chart(x: float, y: float, chart: Chart) -> Iterator[str]:
    """Yield a histogram or a line in a frame whose left upper corner is x, y."""
    width, height = _CHART_WIDTH - 2 * _LEFT, _CHART_HEIGHT - _TOP - _BOTTOM
    step = width / len(chart.points)
    floor = y + _TOP + height
    most = max((value for _, value in chart.points), default=0.0) or 1.0
    tops = [floor - value / most * height for _, value in chart.points]
    centres = [x + _LEFT + step * (number + 0.5) for number in range(len(chart.points))]
    yield svg.text(x + _LEFT, y + 16, f"{chart.title}: {chart.y}", "unit")
    yield svg.line(x + _LEFT, floor, x + _LEFT + width, floor, "axis")
    if chart.kind == "line":
        for (x1, y1), (x2, y2) in pairwise(zip(centres, tops, strict=True)):
            yield svg.line(x1, y1, x2, y2, "line")
    for (at, value), centre, top in zip(chart.points, centres, tops, strict=True):
        if chart.kind == "histogram":
            yield svg.rect(centre - 0.4 * step, top, 0.8 * step, floor - top, "plain")
        else:
            yield svg.rect(centre - 3, top - 3, 6, 6, "plain")
        if value:
            yield svg.text(centre, top - 6, short(value), "small middle")
        yield svg.text(centre, floor + 14, _tick(at), "small middle")
    axis = f"{chart.x}, up to" if chart.kind == "histogram" else chart.x
    yield svg.text(x + _LEFT + width / 2, floor + 30, axis, "small middle")


def _tick(at: float | None) -> str:
    if at is None:
        return "more"
    return f"{at:,.0f}" if at >= 1000 else f"{at:g}"
