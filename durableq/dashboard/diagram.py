"""The states of a message as a drawing, with the way that it took."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Final, NamedTuple

from durableq.dashboard.path import Stop

WIDTH: Final = 88
HEIGHT: Final = 28
#: Centres of the boxes. Their columns leave room for lines between them.
PLACES: Final[dict[Stop, tuple[int, int]]] = {
    Stop.EXPIRED: (56, 20),
    Stop.SENT: (190, 20),
    Stop.CANCELLED: (324, 20),
    Stop.DELAYED: (56, 96),
    Stop.READY: (190, 96),
    Stop.BLOCKED: (324, 96),
    Stop.IN_FLIGHT: (190, 172),
    Stop.DEAD: (56, 248),
    Stop.ENDED: (190, 248),
    Stop.HELD: (56, 324),
    Stop.DISCARDED: (190, 324),
}
#: The usual ways, which are drawn also if the message did not take them.
USUAL: Final = (
    (Stop.SENT, Stop.READY),
    (Stop.SENT, Stop.DELAYED),
    (Stop.SENT, Stop.BLOCKED),
    (Stop.DELAYED, Stop.READY),
    (Stop.BLOCKED, Stop.READY),
    (Stop.READY, Stop.IN_FLIGHT),
    (Stop.IN_FLIGHT, Stop.DELAYED),
    (Stop.IN_FLIGHT, Stop.ENDED),
    (Stop.IN_FLIGHT, Stop.DEAD),
    (Stop.DEAD, Stop.READY),
    (Stop.DEAD, Stop.HELD),
    (Stop.DEAD, Stop.DISCARDED),
)
#: How far a line bends to its right, where the usual would lead through a box.
BENDS: Final = {
    (Stop.HELD, Stop.READY): 40,
    (Stop.HELD, Stop.DELAYED): -120,
    (Stop.READY, Stop.ENDED): -130,
    (Stop.DELAYED, Stop.CANCELLED): 0,
}
_BEND: Final = 12
_ARROW: Final = 6


class Box(NamedTuple):
    """A state, with the number of visits."""

    label: str
    x: int
    y: int
    visits: int
    is_now: bool


class Line(NamedTuple):
    """A way from a state to another, with the number of times that it was taken."""

    path: str
    arrow: str
    passes: int
    #: The place of the number.
    x: float
    y: float


class Diagram(NamedTuple):
    """A drawing of boxes and lines."""

    boxes: list[Box]
    lines: list[Line]


def draw(stops: Sequence[Stop]) -> Diagram:
    """Return the drawing of the way of a message.

    Args:
        stops: as `path.way` returns them.
    """
    places = _places(stops)
    visits, passes = Counter(stops), Counter(pairwise(stops))
    ways = [way for way in USUAL if way not in passes and places.keys() >= {*way}]
    lines = [_line(way, places, passes[way]) for way in (*ways, *passes)]
    boxes = [
        Box(stop.value, x, y, visits[stop], stop is stops[-1]) for stop, (x, y) in places.items()
    ]
    return Diagram(boxes, lines)


def _places(stops: Sequence[Stop]) -> dict[Stop, tuple[int, int]]:
    """Return the places of the boxes; an end that is not usual takes the place of its like."""
    places = dict(PLACES)
    if stops[-1] is Stop.REPLACED:
        places[Stop.REPLACED] = places.pop(Stop.CANCELLED)
    if stops[-1] is Stop.EXPIRED and len(stops) > 1 and stops[-2] in {Stop.DEAD, Stop.HELD}:
        places[Stop.EXPIRED] = places.pop(Stop.DISCARDED)
    return places


def _line(way: tuple[Stop, Stop], places: dict[Stop, tuple[int, int]], passes: int) -> Line:
    (x, y), (to_x, to_y) = places[way[0]], places[way[1]]
    length = math.hypot(to_x - x, to_y - y) or 1
    bend = BENDS.get(way, _BEND)
    # The control point of the curve lies beside its middle; opposite ways bend apart.
    at_x = (x + to_x) / 2 - bend * (to_y - y) / length
    at_y = (y + to_y) / 2 + bend * (to_x - x) / length
    begin, end = _border(x, y, at_x, at_y), _border(to_x, to_y, at_x, at_y)
    path = f"M{begin[0]:.1f} {begin[1]:.1f}Q{at_x:.1f} {at_y:.1f} {end[0]:.1f} {end[1]:.1f}"
    label_x, label_y = (begin[0] + 2 * at_x + end[0]) / 4, (begin[1] + 2 * at_y + end[1]) / 4
    arrow = _arrow((at_x, at_y), end)
    return Line(path, arrow, passes, round(label_x, 1), round(label_y, 1))


def _border(x: float, y: float, to_x: float, to_y: float) -> tuple[float, float]:
    """Return where the way from the centre of a box to a point leaves the box."""
    across = (WIDTH / 2) / abs(to_x - x) if to_x != x else math.inf
    down = (HEIGHT / 2) / abs(to_y - y) if to_y != y else math.inf
    part = min(across, down, 1)
    return x + (to_x - x) * part, y + (to_y - y) * part


def _arrow(begin: tuple[float, float], end: tuple[float, float]) -> str:
    """Return the points of the head of an arrow."""
    angle = math.atan2(end[1] - begin[1], end[0] - begin[0])
    sides = (
        (end[0] - _ARROW * math.cos(angle + turn), end[1] - _ARROW * math.sin(angle + turn))
        for turn in (-0.5, 0.5)
    )
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in (end, *sides))
