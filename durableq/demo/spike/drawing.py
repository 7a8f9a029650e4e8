"""The drawing of one or two runs, side by side on the same scales, as SVG.

Colours are those of Okabe and Ito, which colour-blind people can tell apart.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from durableq.demo import svg
from durableq.demo.spike.recording import Recording
from durableq.model.flow.breaker import Phase

WIDTH: Final = 1000
_MARGIN: Final = 16
#: The left end of the first frame, the space between two frames, and the top of the frames.
_LEFT, _BETWEEN, _TOP = 62, 56, 150
#: The space above each frame, for its title.
_ABOVE: Final = 30
_BELOW: Final = 44
#: The most points of a curve: more than pixels are of no use.
_POINTS: Final = 400
#: The columns of a run's settings.
_HEADING_CHARS: Final = 76
#: From the lowest line of the breaker's plot to the highest.
_PHASES: Final = (Phase.CLOSED, Phase.HALF_OPEN, Phase.OPEN)

_RULES: Final = (
    "text{font:12px sans-serif}.title{font-size:16px}.title,.head,.unit{font-weight:bold}"
    ".head{font-size:14px}.small{font-size:11px}.middle{text-anchor:middle}.end{text-anchor:end}"
    ".curve{fill:none;stroke-width:2}.capacity{stroke-width:1.5;stroke-dasharray:6 3}"
)
#: Names of classes and their colours: fills, and strokes of lines.
_FILLS: Final = ("text", "paper", "outage", "answered", "refused", "waiting", "repeated")
_STROKES: Final = ("axis", "grid", "capacity", "dead", "breaker")
_LIGHT: Final = {
    "text": "#1f2328",
    "paper": "#ffffff",
    "outage": "#e4e7eb",
    "answered": "#0072b2",
    "refused": "#e69f00",
    "waiting": "#56b4e9",
    "repeated": "#cc79a7",
    "axis": "#8c959f",
    "grid": "#d0d7de",
    "capacity": "#1f2328",
    "dead": "#d55e00",
    "breaker": "#009e73",
}
_DARK: Final = _LIGHT | {
    "text": "#e6edf3",
    "paper": "#0d1117",
    "outage": "#262d36",
    "answered": "#2f8fcb",
    "axis": "#6e7681",
    "grid": "#21262d",
    "capacity": "#e6edf3",
    "dead": "#ff7b3d",
    "breaker": "#2ac69a",
}

Point = tuple[float, float]
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class _Frame:
    """The frame of a plot; it turns seconds and a value into pixels."""

    left: float
    top: float
    width: float
    height: float
    #: The ends of its axes.
    seconds: float
    most: float

    @property
    def floor(self) -> float:
        return self.top + self.height

    @property
    def right(self) -> float:
        return self.left + self.width

    def x(self, at: float) -> float:
        return self.left + min(max(at, 0.0), self.seconds) / self.seconds * self.width

    def y(self, value: float) -> float:
        return self.floor - value / self.most * self.height

    def points(self, values: Iterable[Point]) -> list[Point]:
        return [(self.x(at), self.y(value)) for at, value in values]


@dataclass(frozen=True, slots=True)
class _Panel:
    """A row of plots: one for each run."""

    title: str
    height: float
    most: float
    draw: Callable[[_Frame, Recording], Iterator[str]]
    #: Whether its axis has numbers.
    is_numeric: bool = True


def drawing(recordings: Sequence[Recording]) -> str:
    """Return the SVG of one or two runs as text."""
    seconds = max(one.last.at for one in recordings)
    panels = _panels(recordings)
    width = (WIDTH - _LEFT - _MARGIN - _BETWEEN * (len(recordings) - 1)) / len(recordings)
    height = _TOP + sum(panel.height + _ABOVE for panel in panels) + _BELOW
    load = recordings[0].load
    title = (
        f"{load.messages:,} messages at once, for a downstream that answers {load.capacity} calls "
        f"a second and is down for {load.outage_seconds:g} s half way"
    )
    parts = [svg.text(_MARGIN, 28, title, "title"), *_legend(54)]
    for number, recording in enumerate(recordings):
        left, y = _LEFT + number * (width + _BETWEEN), float(_TOP)
        parts += _heading(left, recording)
        for panel in panels:
            y += _ABOVE
            parts += _plot(
                _Frame(left, y, width, panel.height, seconds, panel.most), panel, recording
            )
            y += panel.height
        parts += _times(left, y, width, seconds)
    opening = svg.opening(title, WIDTH, height, _RULES, _colours(_LIGHT), _colours(_DARK))
    return "\n".join((*opening, *parts, "</svg>\n"))


def _panels(recordings: Sequence[Recording]) -> list[_Panel]:
    load = recordings[0].load
    seconds = [calls for one in recordings for _, calls in one.seconds()]
    most_calls = _above(max([load.capacity, *(calls.all for calls in seconds)]))
    most_repeated = _above(max([load.capacity, *(calls.repeated for calls in seconds)]))
    return [
        _Panel("calls in the last second", 180, most_calls, _draw_calls),
        _Panel("messages", 110, _above(load.messages), _draw_backlog),
        _Panel("retries in the last second", 80, most_repeated, _draw_retries),
        _Panel("circuit breaker", 48, len(_PHASES) - 0.5, _draw_breaker, is_numeric=False),
    ]


def _colours(of: dict[str, str]) -> dict[str, str]:
    fills = {name: f"fill:{of[name]}" for name in _FILLS}
    return fills | {name: f"stroke:{of[name]}" for name in _STROKES}


def _legend(y: float) -> Iterator[str]:
    """Yield samples of the colours and lines, with their meaning."""
    x: float = _MARGIN
    areas = {
        "answered": "calls answered",
        "refused": "calls refused (503)",
        "waiting": "messages waiting",
        "repeated": "retries",
        "outage": "the downstream is down",
    }
    for kind, words in areas.items():
        yield svg.rect(x, y - 10, 12, 12, kind)
        yield svg.text(x + 18, y, words)
        x += 40 + 6.4 * len(words)
    for kind, words in {"capacity": "capacity", "curve dead": "dead letters"}.items():
        yield svg.line(x, y - 4, x + 22, y - 4, kind)
        yield svg.text(x + 28, y, words)
        x += 48 + 6.4 * len(words)


def _heading(left: float, recording: Recording) -> Iterator[str]:
    """Yield the name of a run, its settings and its end."""
    last, load = recording.last, recording.load
    yield svg.text(left, _TOP - 62, load.name.capitalize(), "head")
    lines = textwrap.wrap(load.limits or "the default settings of a queue", _HEADING_CHARS)
    for number, line in enumerate(lines):
        yield svg.text(left, _TOP - 45 + 15 * number, line, "small")
    ended = f"{last.completed:,} completed, {last.dead:,} dead letters after {last.at:.0f} s"
    most = f"; at most {recording.downstream.most_in_a_second:,} calls in a second"
    yield svg.text(left, _TOP - 10, ended + most)


def _plot(frame: _Frame, panel: _Panel, recording: Recording) -> Iterator[str]:
    """Yield the plot of one run."""
    yield svg.text(frame.left, frame.top - 8, panel.title, "unit")
    if recording.outage is not None:
        begin, end = map(frame.x, recording.outage)
        yield svg.rect(begin, frame.top, end - begin, frame.height, "outage")
    if panel.is_numeric:
        for tick in _ticks(frame.most, 2 if frame.height < 100 else 4):
            y = frame.y(tick)
            yield svg.line(frame.left, y, frame.right, y, "grid")
            yield svg.text(frame.left - 6, y + 4, f"{tick:,g}", "small end")
    yield from panel.draw(frame, recording)
    yield svg.line(frame.left, frame.floor, frame.right, frame.floor, "axis")


def _times(left: float, floor: float, width: float, seconds: float) -> Iterator[str]:
    """Yield the axis of time below the lowest frame."""
    for tick in _ticks(seconds, 6):
        x = left + tick / seconds * width
        yield svg.line(x, floor, x, floor + 4, "axis")
        yield svg.text(x, floor + 17, f"{tick:g}", "small middle")
    yield svg.text(left + width / 2, floor + 34, "seconds since the first send", "small middle")


def _draw_calls(frame: _Frame, recording: Recording) -> Iterator[str]:
    rows = _thinned(list(recording.seconds()), lambda row: row[1].all)
    yield svg.area(frame.points((at, calls.all) for at, calls in rows), frame.floor, "refused")
    yield svg.area(
        frame.points((at, calls.answered) for at, calls in rows), frame.floor, "answered"
    )
    y = frame.y(recording.load.capacity)
    yield svg.line(frame.left, y, frame.right, y, "capacity")


def _draw_backlog(frame: _Frame, recording: Recording) -> Iterator[str]:
    samples = _thinned(recording.samples, lambda sample: sample.at)
    yield svg.area(frame.points((one.at, one.backlog) for one in samples), frame.floor, "waiting")
    yield svg.curve(frame.points((one.at, one.dead) for one in samples), "curve dead")


def _draw_retries(frame: _Frame, recording: Recording) -> Iterator[str]:
    rows = _thinned(list(recording.seconds()), lambda row: row[1].repeated)
    points = frame.points((at, calls.repeated) for at, calls in rows)
    yield svg.area(points, frame.floor, "repeated")


def _draw_breaker(frame: _Frame, recording: Recording) -> Iterator[str]:
    if recording.last.breaker is None:
        yield svg.text(frame.left + 8, frame.floor - 18, "no breaker")
        return
    for phase in _PHASES:
        y = frame.y(_level(phase))
        yield svg.line(frame.left, y, frame.right, y, "grid")
        yield svg.text(frame.left - 6, y + 4, phase.label, "small end")
    level = _level(Phase.CLOSED)
    steps = [(0.0, level)]
    for at, phase in recording.changes:
        steps += [(at, level), (at, level := _level(phase))]
    steps.append((recording.last.at, level))
    yield svg.curve(frame.points(steps), "curve breaker")


def _level(phase: Phase) -> float:
    return _PHASES.index(phase) + 0.25


def _thinned(values: Sequence[_T], rank: Callable[[_T], float]) -> list[_T]:
    """Return the highest of each few values, and the first and the last one."""
    each = -(-len(values) // _POINTS)
    if each <= 1:
        return list(values)
    groups = [values[at : at + each] for at in range(0, len(values), each)]
    return [values[0], *(max(group, key=rank) for group in groups), values[-1]]


def _step(most: float, number: int) -> float:
    """Return a round distance of about `number` ticks up to `most`."""
    raw = most / number
    power = 10 ** math.floor(math.log10(raw))
    return float(next(one * power for one in (1, 2, 2.5, 5, 10) if one * power >= raw))


def _ticks(most: float, number: int) -> list[float]:
    """Return round numbers from 0 to `most`, about so many."""
    step = _step(most, number)
    return [step * count for count in range(int(most / step + 1e-9) + 1)]


def _above(most: float) -> float:
    """Return the end of an axis whose highest value is `most`."""
    return most * 1.08
