"""Elements of the SVG drawings that the benchmark and the demo write.

A drawing is self-contained: it has its style, and a viewer that prefers dark colours gets them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape

#: The rules of a class by its name, as `{"paper": "fill:#ffffff"}`.
Style = Mapping[str, str]


def opening(
    title: str, width: float, height: float, rules: str, light: Style, dark: Style
) -> Iterator[str]:
    """Yield the beginning of a drawing with a background of the class `paper`.

    Args:
        title: read aloud, and shown by browsers as a tooltip.
        width: in pixels, as are all lengths.
        height: likewise.
        rules: CSS without colours.
        light: the colours of each class.
        dark: the same classes, for a viewer that prefers dark colours.
    """
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" width="{width:g}" '
        f'height="{height:g}" viewBox="0 0 {width:g} {height:g}">'
    )
    yield f"<title>{escape(title)}</title>"
    yield f"<style>{rules}"
    yield _colours(light)
    yield f"@media (prefers-color-scheme:dark){{{_colours(dark)}}}</style>"
    yield f'<rect class="paper" width="{width:g}" height="{height:g}"/>'


def _colours(of: Style) -> str:
    return "".join(f"{_selector(name)}{{{rules}}}" for name, rules in of.items())


def _selector(name: str) -> str:
    return name if name == "text" else f".{name}"


def text(x: float, y: float, words: str, kind: str = "") -> str:
    """Return a text that stands on y and begins at x, or where the classes `kind` place it."""
    attribute = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.1f}" y="{y:.1f}"{attribute}>{escape(words)}</text>'


def rect(x: float, y: float, width: float, height: float, kind: str) -> str:
    """Return a rectangle, its left upper corner at x, y."""
    size = f'width="{width:.1f}" height="{height:.1f}"'
    return f'<rect x="{x:.1f}" y="{y:.1f}" {size} class="{kind}"/>'


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    """Return a straight line."""
    ends = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line {ends} class="{kind}"/>'


def curve(points: Iterable[tuple[float, float]], kind: str) -> str:
    """Return a line through points."""
    return f'<polyline points="{_pairs(points)}" class="{kind}"/>'


def area(points: Sequence[tuple[float, float]], floor: float, kind: str) -> str:
    """Return the area between a line through points and the height `floor`."""
    corners = [(points[0][0], floor), *points, (points[-1][0], floor)] if points else []
    return f'<polygon points="{_pairs(corners)}" class="{kind}"/>'


def _pairs(points: Iterable[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
