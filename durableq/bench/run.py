"""A run of the benchmark: its rows and settings are chosen, then measured one after the other.

A row that fails ends the rows of its theme; the other themes go on. A signal ends the run. In both
cases the report has the figures so far, and the rows that are missing.
"""

from __future__ import annotations

import importlib
import os
import time
import traceback
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from shutil import rmtree
from tempfile import TemporaryDirectory
from typing import Any, Final, NamedTuple

from durableq.bench import (
    contention,
    flow_costs,
    flow_exact,
    flow_outage,
    large,
    latency,
    memory,
    messages,
    peer_fleets,
    peers,
    serve,
    starting,
    workers,
)
from durableq.bench.figures import Row, Setting, Theme, machine
from durableq.bench.progress import Progress
from durableq.bench.report import PeerInfo, Planned, Report
from durableq.demo.processes import ended_by_signals
from durableq.model.arguments import near_miss
from durableq.model.errors import DurableQError, InvalidInput

THEMES: Final[tuple[Theme, ...]] = (
    messages.MESSAGES,
    messages.WITH_BODIES,
    workers.WORKERS,
    peer_fleets.PEER_FLEETS,
    contention.CONTENTION,
    latency.LATENCY,
    starting.STARTING,
    memory.MEMORY,
    large.LARGE,
    flow_costs.FLOW_COSTS,
    flow_exact.FLOW_EXACT,
    flow_outage.FLOW_OUTAGE,
    serve.SERVE,
)
#: What `durableq bench --db postgresql://…` measures; imported then, for the driver is an extra.
POSTGRES: Final = "durableq.bench.postgres.themes"
_SERVER, _PEERS = "durableq.bench.postgres.server", "durableq.bench.postgres.peers"
#: On PostgreSQL, synchronous_commit.
ON: Final = "on"
SYNCHRONOUS: Final = {
    "normal": ("normal",),
    "full": ("full",),
    "both": ("normal", "full"),
    ON: (ON,),
}
FAILED, CTRL_C = 1, 130

Selection = Sequence[tuple[Theme, list[Row]]]


class Part(NamedTuple):
    """Rows of a theme that are measured together."""

    theme: Theme
    setting: Setting
    rows: list[Row]

    @property
    def planned(self) -> dict[str, Planned]:
        """The rows by name."""
        which = self.setting.synchronous if self.theme.by_synchronous else ""
        return {row.name: Planned(row.name, which) for row in self.rows}


def themes_of(database: str) -> tuple[Theme, ...]:
    """Return the themes of SQLite, or where a URL is given, of PostgreSQL."""
    if not database:
        return THEMES
    found: tuple[Theme, ...] = importlib.import_module(POSTGRES).THEMES
    return found


def names(themes: Sequence[Theme] = THEMES) -> list[str]:
    """Return the names of all themes and rows."""
    return [name for theme in themes for name in (theme.name, *(row.name for row in theme.rows))]


def chosen(
    wanted: Sequence[str], *, everything: bool, themes: Sequence[Theme] = THEMES
) -> Selection:
    """Return rows by theme.

    Args:
        wanted: names of themes and rows; none: those that are not large.
        everything: the large ones too.
        themes: from which to choose.

    Raises:
        InvalidInput: a name that is neither.
    """
    for name in wanted:
        if name not in names(themes):
            meant = near_miss(name, names(themes))
            question = f" Did you mean {meant!r}?" if meant else ""
            raise InvalidInput(
                f"There is no row {name!r}.{question} `durableq bench --list` shows all."
            )
    found = []
    for theme in themes:
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


def measurable(selected: Selection, *, are_named: bool, with_peers: bool) -> Selection:
    """Return the rows without those that need other queues, if none is to be measured.

    Args:
        selected: the rows by theme.
        are_named: whether they were named; a row that cannot be measured is then an error.
        with_peers: whether to measure other queues.

    Raises:
        InvalidInput: a named row needs other queues.
    """
    found = []
    for theme, rows in selected:
        if not theme.needs_peers or (with_peers and peers.shared()):
            found.append((theme, rows))
        elif are_named:
            text = f"The row {rows[0].name!r} needs --peers, and one of"
            names = " and ".join(name for name, peer in peers.PEERS.items() if peer.is_shared)
            raise InvalidInput(f"{text} {names}: {peers.INSTALL}")
    return found


def run(
    selected: Selection,
    synchronous: str,
    options: dict[str, Any],
    progress: Callable[[str], None],
    *,
    is_terse: bool = False,
) -> Report:
    """Measure rows on temporary files or schemas; none of them outlives the call, nor a process.

    Args:
        selected: the rows by theme.
        synchronous: `normal`, `full` or `both`; `on` for PostgreSQL.
        options: quick, rounds, peers, against, database: as for Setting.
        progress: called with each line of progress.
        is_terse: whether that is one for each row, not for each round.
    """
    began = time.monotonic()
    report = Report(machine(), _load(), {}, [])
    database = options.get("database", "")
    if options["peers"]:
        _add_peers(report, database)
    try:
        with ended_by_signals(), TemporaryDirectory(prefix="durableq-bench-") as name:
            settings = [
                Setting(Path(name), which, progress=progress, **options)
                for which in SYNCHRONOUS[synchronous]
            ]
            parts = [*_parts(selected, settings)]
            report.plan(row for part in parts for row in part.planned.values())
            if database:
                report.postgres = importlib.import_module(_SERVER).described(database)
            else:
                report.sqlite = _sqlite(Path(name))
            _measure(parts, report, _progress(parts, progress, is_terse=is_terse))
    except KeyboardInterrupt:
        report.exit_code = CTRL_C
    except SystemExit as ended:  # SIGTERM or SIGHUP
        report.exit_code = int(ended.code or 0)
    report.seconds = time.monotonic() - began
    report.load_after = _load()
    return report


def _add_peers(report: Report, database: str) -> None:
    registry: Mapping[str, Any] = peers.PEERS
    if database:
        registry = importlib.import_module(_PEERS).PEERS
    for name, peer in registry.items():
        if peer.is_installed:
            report.peers[name] = PeerInfo(peer.version, peer.promise)
        else:
            report.missing_peers.append(name)


def _parts(selected: Selection, settings: Sequence[Setting]) -> Iterator[Part]:
    for theme, rows in selected:
        for setting in settings if theme.by_synchronous else settings[:1]:
            able = [row for row in rows if row.synchronous in {None, setting.synchronous}]
            if able:
                folder = setting.folder / f"{theme.name}-{setting.synchronous}"
                yield Part(theme, replace(setting, folder=folder), able)


def _progress(parts: Sequence[Part], show: Callable[[str], None], *, is_terse: bool) -> Progress:
    expected: dict[Hashable, float] = {
        part.planned[row.name]: part.theme.expected_seconds(row, part.setting)
        for part in parts
        for row in part.rows
    }
    return Progress(expected, show, is_terse=is_terse)


def _measure(parts: Sequence[Part], report: Report, progress: Progress) -> None:
    for part in parts:
        theme, setting, rows = part
        planned = part.planned
        setting.folder.mkdir()
        try:
            for figure in theme.measure(rows, replace(setting, progress=progress)):
                report.figures.append(figure)
                row = planned.pop(figure.row.name)
                del report.missing[row]
                progress.end_row(row)
        except Exception as error:  # noqa: BLE001 - the figures of the other rows are kept
            report.exit_code = FAILED
            report.missing |= dict.fromkeys(planned.values(), _reason(error))
        finally:
            rmtree(setting.folder, ignore_errors=True)  # the next theme may need the disk


def _reason(error: Exception) -> str:
    """Return an error in a sentence; one that is not durableq's with its place."""
    if isinstance(error, DurableQError):
        return str(error)
    *_, last = traceback.extract_tb(error.__traceback__)
    return f"{type(error).__name__} in {Path(last.filename).name}, line {last.lineno}: {error}"


def _sqlite(folder: Path) -> str:
    from durableq.client.app import DurableQ
    from durableq.store.core import Capability

    with DurableQ(folder / "version.db") as app:
        return app.store.require(Capability.INSPECT).storage().version


def _load() -> float:
    return round(os.getloadavg()[0], 1)
