"""Samples of a queue as lines: of a day for a chart, of some minutes for a sparkline."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from typing import Final, NamedTuple

from durableq.model.info import QueueInfo, Sample

DAY_MS: Final = 24 * 3_600_000
SPARK_MS: Final = 15 * 60_000
#: The size of a sparkline, in the units of its drawing.
SPARK_SIZE: Final = (80, 16)


class Day(NamedTuple):
    """A queue in the last 24 hours."""

    #: For the chart, as JSON: times in seconds, numbers of messages, and rates per second.
    lines: str
    sent: int
    ended: int
    #: The largest number of messages at the time of a sample.
    most: int


class Spark(NamedTuple):
    """The number of messages of a queue in the last minutes."""

    #: The points of an SVG polyline.
    points: str
    least: int
    most: int


def now(info: QueueInfo, now_ms: int) -> Sample:
    """Return a queue as a sample of now."""
    return Sample(now_ms, info.counters, info.counts)


def day(samples: Sequence[Sample], info: QueueInfo, now_ms: int) -> Day | None:
    """Return the last 24 hours of a queue; None without a sample."""
    if not samples:
        return None
    known = [*samples, now(info, now_ms)]
    began, ended = known[0].counters, known[-1].counters
    depth = [
        [each.counts.ready for each in known],
        [each.counts.delayed + each.counts.blocked for each in known],
        [each.counts.in_flight for each in known],
    ]
    rates: list[list[float | None]] = [[None], [None]]
    for one, other in pairwise(known):
        seconds = max(1, other.at_ms - one.at_ms) / 1000
        rates[0].append(round((other.counters.sent - one.counters.sent) / seconds, 4))
        rates[1].append(round((other.counters.ended - one.counters.ended) / seconds, 4))
    lines = {
        "from": (now_ms - DAY_MS) // 1000,
        "to": now_ms // 1000,
        "at": [each.at_ms // 1000 for each in known],
        "depth": depth,
        "rates": rates,
    }
    most = max(each.counts.present for each in known)
    return Day(json.dumps(lines), ended.sent - began.sent, ended.ended - began.ended, most)


def spark(samples: Sequence[Sample], info: QueueInfo, now_ms: int) -> Spark | None:
    """Return the last minutes of a queue; None without a sample."""
    if not samples:
        return None
    known = [*samples, now(info, now_ms)]
    numbers = [each.counts.present for each in known]
    width, height = SPARK_SIZE
    top = max(1, *numbers)
    points = [
        f"{_place(each.at_ms, now_ms) * width:.1f},{height - height * number / top:.1f}"
        for each, number in zip(known, numbers, strict=True)
    ]
    return Spark(" ".join(points), min(numbers), max(numbers))


def _place(at_ms: int, now_ms: int) -> float:
    """Return a time as a part of the sparkline's; an earlier one is its beginning."""
    return min(1.0, max(0.0, 1 - (now_ms - at_ms) / SPARK_MS))
