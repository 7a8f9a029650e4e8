"""The run of a benchmark: which rows, in which settings, and the document of its figures."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from durableq.bench import (
    contention,
    large,
    latency,
    messages,
    peer_fleets,
    peers,
    starting,
    workers,
)
from durableq.bench.figures import HISTOGRAM, Figure, Row, Setting, Spread, Theme, machine
from durableq.demo.processes import ended_by_signals
from durableq.model.errors import InvalidInput

THEMES: Final[tuple[Theme, ...]] = (
    messages.MESSAGES,
    messages.WITH_BODIES,
    workers.WORKERS,
    peer_fleets.PEER_FLEETS,
    contention.CONTENTION,
    latency.LATENCY,
    starting.STARTING,
    large.LARGE,
)
SYNCHRONOUS: Final = {"normal": ("normal",), "full": ("full",), "both": ("normal", "full")}


@dataclass(slots=True)
class Report:
    """The figures of a run, and its circumstances."""

    machine: str
    sqlite: str
    load_before: float
    peers: dict[str, str]
    missing_peers: list[str]
    figures: list[Figure] = field(default_factory=list)
    seconds: float = 0.0
    load_after: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """Return it under stable names."""
        return {
            "machine": self.machine,
            "sqlite": self.sqlite,
            "load": {"before": self.load_before, "after": self.load_after},
            "seconds": round(self.seconds, 1),
            "peers": self.peers,
            "missing_peers": self.missing_peers,
            "rows": [figure.as_dict() for figure in self.figures],
        }

    @property
    def rows(self) -> list[tuple[str, ...]]:
        """The cells of each row of the table."""
        return [_cells(figure) for figure in self.figures]


COLUMNS: Final = ("ROW", "SYNC", "FIGURE", "QUARTILES", "TARGET", "REACHED", "DETAILS")


def names() -> list[str]:
    """Return the names of all themes and rows."""
    return [name for theme in THEMES for name in (theme.name, *(row.name for row in theme.rows))]


def chosen(wanted: Sequence[str], *, everything: bool) -> list[tuple[Theme, list[Row]]]:
    """Return the rows to measure, by theme.

    Args:
        wanted: names of themes and rows; none: those that are not large.
        everything: the large ones too.

    Raises:
        InvalidInput: a name that is neither.
    """
    unknown = [name for name in wanted if name not in names()]
    if unknown:
        raise InvalidInput(f"There is no row {unknown[0]!r}. `durableq bench --list` shows all.")
    found = []
    for theme in THEMES:
        rows = [
            row
            for row in theme.rows
            if (not wanted and (everything or not row.is_large))
            or theme.name in wanted
            or row.name in wanted
        ]
        if rows:
            found.append((theme, rows))
    return found


def expected_seconds(selected: Sequence[tuple[Theme, list[Row]]], setting: Setting) -> float:
    """Return the expected duration for one setting of `synchronous`."""
    total = sum(row.seconds for _, rows in selected for row in rows)
    return total / 5 if setting.quick else total


def run(
    selected: Sequence[tuple[Theme, list[Row]]],
    synchronous: str,
    options: dict[str, Any],
    progress: Callable[[str], None],
) -> Report:
    """Measure rows on temporary files; no process or file outlives the call.

    Args:
        selected: the rows by theme.
        synchronous: `normal`, `full` or `both`.
        options: quick, rounds, peers, against: as for Setting.
        progress: called with each line of progress.
    """
    from durableq.client.app import DurableQ
    from durableq.store.core import Capability

    began = time.monotonic()
    with ended_by_signals(), TemporaryDirectory(prefix="durableq-bench-") as name:
        folder = Path(name)
        with DurableQ(folder / "version.db") as app:
            sqlite = app.store.require(Capability.INSPECT).storage().version
        report = Report(
            machine(),
            sqlite,
            round(os.getloadavg()[0], 1),
            {one: peers.PEERS[one].promise for one in peers.installed()}
            if options["peers"]
            else {},
            peers.missing() if options["peers"] else [],
        )
        settings = [
            Setting(folder, which, progress=progress, **options)
            for which in SYNCHRONOUS[synchronous]
        ]
        total = sum(expected_seconds(selected, one) for one in settings)
        progress(f"about {total:.0f} seconds on an idle machine")
        for figure in _figures(selected, settings):
            report.figures.append(figure)
    report.seconds = time.monotonic() - began
    report.load_after = round(os.getloadavg()[0], 1)
    return report


def _figures(
    selected: Sequence[tuple[Theme, list[Row]]], settings: Sequence[Setting]
) -> Iterator[Figure]:
    for theme, rows in selected:
        for setting in settings if theme.by_synchronous else settings[:1]:
            able = [row for row in rows if row.synchronous in {None, setting.synchronous}]
            if not able:
                continue
            folder = setting.folder / f"{theme.name}-{setting.synchronous}"
            folder.mkdir()
            yield from theme.measure(able, replace(setting, folder=folder))


def _cells(figure: Figure) -> tuple[str, ...]:
    row, target = figure.row, figure.row.target
    bound = "" if target is None else f"{'≥' if row.at_least else '≤'} {target:g}"
    reached = {True: "yes", False: "NO", None: ""}[figure.is_reached]
    shown = ", ".join(
        f"{name} {_short(spread.median)}"
        for name, spread in figure.details.items()
        if not name.endswith(HISTOGRAM)
    )
    return (
        row.name,
        figure.synchronous,
        f"{_short(figure.value.median)} {row.unit}",
        _quartiles(figure.value),
        bound,
        reached,
        shown,
    )


def _quartiles(value: Spread) -> str:
    return f"{_short(value.low)} to {_short(value.high)}"


def _short(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
