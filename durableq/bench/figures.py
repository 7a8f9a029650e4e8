"""Figures of a benchmark: spreads, ratios, targets, and the machine that they are from."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

SUBJECT: Final = "durableq"
RAW: Final = "raw"
#: Upper bounds of the classes of a histogram.
CLASSES_MS: Final = (0.5, 1, 2, 3, 5, 8, 12, 20, 30, 50, 100, 200, 500)


class Spread(NamedTuple):
    """Median and quartiles of several rounds."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Return the spread of at least one value."""
        if len(values) == 1:
            return cls(values[0], values[0], values[0])
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(median, low, high)

    def as_dict(self) -> dict[str, float]:
        """Return it under stable names, with four significant digits."""
        return {name: float(f"{value:.4g}") for name, value in self._asdict().items()}


class Sample(NamedTuple):
    """One round of one side, in seconds for each message."""

    cpu_seconds: float
    wall_seconds: float


@dataclass(frozen=True, slots=True)
class Row:
    """A named row of the benchmark.

    Args:
        name: the name to select it by.
        unit: of its figure: `x raw`, `ms`, `s` …
        target: the figure to reach; None where the row only informs.
        at_least: whether the figure must be at least the target; otherwise at most.
        seconds: expected duration, for one setting of `synchronous`.
        is_large: whether it runs only when it is named, or with --all.
        workload: parameters of its measurement.
        synchronous: the only setting in which it is measured; None: in each.
    """

    name: str
    unit: str
    target: float | None = None
    at_least: bool = True
    seconds: int = 5
    is_large: bool = False
    workload: Mapping[str, Any] = field(default_factory=dict)
    synchronous: str | None = None

    @property
    def bound(self) -> str:
        """The target with its direction; nothing without one."""
        return "" if self.target is None else f"{'≥' if self.at_least else '≤'} {self.target:g}"


@dataclass(frozen=True, slots=True)
class Chart:
    """Figures along an axis, which JSON and the plot show.

    Args:
        title: its heading.
        kind: `histogram`: y is the number of values up to x and above the x before it; `line`: y is
            the figure at x.
        x: the name of the axis.
        y: the unit of the figures.
        points: x and y, in order of x; the last x of a histogram is None: above all others.
    """

    title: str
    kind: Literal["histogram", "line"]
    x: str
    y: str
    points: tuple[tuple[float | None, float], ...]

    def as_dict(self) -> dict[str, Any]:
        """Return it under stable names."""
        points = [{"x": x, "y": float(f"{y:.4g}")} for x, y in self.points]
        return {
            "title": self.title,
            "kind": self.kind,
            "x": self.x,
            "y": self.y,
            "points": points,
        }


@dataclass(frozen=True, slots=True)
class Figure:
    """A measured row.

    Args:
        row: the row.
        synchronous: the setting that it was measured with.
        value: in the unit of the row.
        details: other measured figures by name, such as the microseconds of each side.
        chart: figures along an axis, if the row has them.
    """

    row: Row
    synchronous: str
    value: Spread
    details: Mapping[str, Spread]
    chart: Chart | None = None

    @property
    def name(self) -> str:
        """Its name in a report, in which a row may stand twice."""
        return f"{self.row.name} ({self.synchronous})"

    @property
    def is_reached(self) -> bool | None:
        """Whether the median reaches the target; None without a target."""
        target = self.row.target
        if target is None:
            return None
        return self.value.median >= target if self.row.at_least else self.value.median <= target

    def as_dict(self) -> dict[str, Any]:
        """Return it under stable names."""
        return {
            "name": self.row.name,
            "synchronous": self.synchronous,
            "unit": self.row.unit,
            "value": self.value.as_dict(),
            "target": self.row.target,
            "at_least": self.row.at_least,
            "reached": self.is_reached,
            "details": {name: spread.as_dict() for name, spread in self.details.items()},
            "chart": None if self.chart is None else self.chart.as_dict(),
        }


@dataclass(frozen=True, slots=True)
class Setting:
    """How a run measures.

    Args:
        folder: the folder of its files.
        synchronous: `normal` or `full`.
        quick: fewer rounds and messages.
        rounds: the number of rounds; None means that of the mode.
        peers: whether to measure the installed peers too.
        against: another source tree to measure beside this one.
        progress: called with each line of progress.
        database: the URL of a PostgreSQL database to measure; empty: SQLite files.
    """

    folder: Path
    synchronous: str
    quick: bool
    rounds: int | None
    peers: bool
    against: Path | None
    progress: Callable[[str], None]
    database: str = ""


@dataclass(frozen=True, slots=True)
class Theme:
    """Rows that are measured together.

    Args:
        name: the name to select all of them by.
        rows: the rows.
        measure: measures some of the rows.
        rounds: the number of rounds that the expected durations of its rows are for.
        by_synchronous: whether they are measured once for each setting of `synchronous`.
        needs_peers: whether it measures nothing without other queues that processes share.
    """

    name: str
    rows: tuple[Row, ...]
    measure: Callable[[Sequence[Row], Setting], Iterator[Figure]]
    rounds: int
    by_synchronous: bool = True
    needs_peers: bool = False

    def expected_seconds(self, row: Row, setting: Setting) -> float:
        """Return the expected duration of a row, for one setting of `synchronous`."""
        if setting.rounds is not None:
            return row.seconds * setting.rounds / self.rounds
        return row.seconds / 5 if setting.quick else row.seconds


def histogram(title: str, sample: Sequence[float], y: str) -> Chart:
    """Return the number of durations, in ms, in each class."""
    points: list[tuple[float | None, float]] = []
    before = 0
    for bound in (*CLASSES_MS, None):
        until = sum(bound is None or one <= bound for one in sample)
        points.append((bound, until - before))
        before = until
    return Chart(title, "histogram", "ms", y, tuple(points))


def short(value: float) -> str:
    """Return a figure with three significant digits, or as a whole number."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def percentile(values: Sequence[float], percent: int) -> float:
    """Return the value that this percentage of the values does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]


def machine() -> str:
    """Return processor, cores, system and Python, so that figures can be compared."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return (
        f"{_processor()}, {cores} cores, {platform.system()} {platform.release()}, "
        f"Python {platform.python_version()}"
    )


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
