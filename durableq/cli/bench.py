"""`durableq bench`: the benchmark of this machine; those of a fleet, and of limits."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from durableq.cli import output
from durableq.cli.help import option
from durableq.cli.options import Json, OwnDb

if TYPE_CHECKING:
    from durableq.bench.report import Report

_ROWS: Final = "Measure this row or theme only; may be repeated."
_SYNC: Final = "Durability to measure with: normal, full or both."
_PEERS: Final = "Measure the installed other queues too."
_FLOW: Final = ("flow", "flow-exact", "flow-outage")
_SERVE: Final = ("serve",)
_AGAINST: Final = "Measure another source tree of durableq beside this one."


class Synchronous(StrEnum):
    """The settings to measure with."""

    NORMAL = "normal"
    FULL = "full"
    BOTH = "both"


@dataclass(frozen=True)
class Rounds:
    """The rows to measure, and how often."""

    rows: Annotated[
        list[str] | None, option("--row NAME", _ROWS, show_default="those not large")
    ] = None
    quick: Annotated[bool, option("--quick", "Fewer rounds and messages: a rough look.")] = False
    rounds: Annotated[int | None, option("--rounds N", "Number of rounds.", min=1, max=1000)] = None
    synchronous: Annotated[Synchronous, option("--synchronous MODE", _SYNC)] = Synchronous.BOTH
    plot: Annotated[Path | None, option("--plot FILE", "Write the figures to a new SVG file.")] = (
        None
    )
    listing: Annotated[bool, option("--list", "List the rows, and measure nothing.")] = False


@dataclass(frozen=True)
class Choice(Rounds):
    """Large rows, other queues, and another source tree."""

    everything: Annotated[bool, option("--all", "Measure the large rows too.")] = False
    peers: Annotated[bool, option("--peers", _PEERS)] = False
    against: Annotated[Path | None, option("--against DIRECTORY", _AGAINST)] = None

    def check(self) -> None:
        """Refuse paths that cannot be used, before anything is measured.

        Raises:
            Misuse: `against` is no source tree, or `plot` exists or cannot be made.
        """
        if self.against is not None and not (self.against / "durableq/__init__.py").is_file():
            raise output.Misuse(f"{self.against} is not a source tree: no durableq/__init__.py.")
        if self.plot is not None:
            _try_to_make(self.plot)

    @property
    def options(self) -> dict[str, Any]:
        """The options of `durableq.bench.run.run`."""
        against = None if self.against is None else self.against.resolve()
        return {
            "quick": self.quick,
            "rounds": self.rounds,
            "peers": self.peers,
            "against": against,
        }


def bench(ctx: typer.Context, choice: Choice, db: OwnDb = None, as_json: Json = False) -> None:
    """Measure this machine, beside the same statements written by hand.

    Each row is measured in several interleaved rounds, on temporary files. The figure is the
    median, beside its target and its quartiles; no target changes the exit code. After Ctrl-C, or
    when a row fails, the other figures are printed, and the exit code is 130 or 1.

    With the URL of a PostgreSQL database, it measures the server, in schemas that it makes and
    drops. --list shows other rows then, and --synchronous and --against do not apply.

    Example: durableq bench --quick --row messages
    """
    if ctx.invoked_subcommand is not None:
        if choice != Choice():
            name = ctx.invoked_subcommand
            raise output.Misuse(f"The options of `bench` do not apply to `bench {name}`.")
        return
    if db is not None:
        _check_database(db, choice)
    _measure(choice, db or "", as_json=as_json)


def _check_database(db: str, choice: Choice) -> None:
    """Refuse what cannot be measured, or not on PostgreSQL.

    Raises:
        Misuse: it cannot.
    """
    if db.partition("://")[0] not in {"postgresql", "postgres"}:
        raise output.Misuse("`bench` makes files of its own: leave out --db.")
    if choice.synchronous is not Synchronous.BOTH or choice.against is not None:
        raise output.Misuse("--synchronous and --against do not apply to PostgreSQL.")


def _measure(choice: Choice, database: str = "", *, as_json: bool) -> None:
    """List or measure the chosen rows, and show the figures."""
    from durableq.bench.run import ON, chosen, measurable, run, themes_of

    everything = choice.everything or (choice.listing and not choice.rows)
    themes = themes_of(database)
    selected = chosen(choice.rows or (), everything=everything, themes=themes)
    if choice.listing:
        _list(selected, as_json=as_json)
        return
    selected = measurable(selected, are_named=bool(choice.rows), with_peers=choice.peers)
    choice.check()
    report = run(
        selected,
        ON if database else choice.synchronous.value,
        {**choice.options, "database": database},
        output.live(),
        is_terse=not sys.stderr.isatty(),
    )
    _show(report, as_json=as_json)
    if choice.plot is not None and report.figures:
        from durableq.bench.plot import drawing

        choice.plot.write_text(drawing(report), encoding="utf-8")
    if report.exit_code:
        raise typer.Exit(report.exit_code)


def _try_to_make(plot: Path) -> None:
    """Make a file and remove it, so that an impossible path is known before the measurement.

    Raises:
        Misuse: it exists, or cannot be made.
    """
    try:
        plot.open("x").close()
    except FileExistsError:
        raise output.Misuse(f"{plot} exists already.") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise output.Misuse(f"{plot} cannot be written: {reason}.") from None
    plot.unlink()


def _show(report: Report, *, as_json: bool) -> None:
    """Print the figures, and on stderr the rows and peers that are missing."""
    from durableq.bench.peers import INSTALL
    from durableq.bench.report import COLUMNS, DETAILS

    if as_json:
        output.document(report.as_dict())
    else:
        output.line(report.heading)
        output.lines(
            f"{name} {peer.version}: {peer.promise}" for name, peer in report.peers.items()
        )
        for columns, cells in ((COLUMNS, report.cells), (DETAILS, report.details)):
            if cells:
                output.line()
                output.table(columns, cells)
    if report.missing_peers:
        output.say(f"Not installed: {', '.join(report.missing_peers)}. Install: {INSTALL}")
    for reason, rows in report.missing_by_reason.items():
        output.error(reason)
        output.say(f"    Not measured: {rows}")


def _list(selected: Sequence[tuple[Any, list[Any]]], *, as_json: bool) -> None:
    found = [
        {
            "name": row.name,
            "theme": theme.name,
            "unit": row.unit,
            "target": row.target,
            "at_least": row.at_least,
            "seconds": row.seconds,
            "large": row.is_large,
        }
        for theme, rows in selected
        for row in rows
    ]
    if as_json:
        output.json_lines(found)
        return
    cells = [
        (row.name, theme.name, f"{row.bound} {row.unit}".strip(), row.seconds)
        for theme, rows in selected
        for row in rows
    ]
    output.table(("ROW", "THEME", "TARGET AND UNIT", "SECONDS"), cells)
    output.say(
        "Rows of the theme `large` run with --all, those of `peers` with --peers, those of `flow` "
        "with `durableq bench flow`, those of `serve` with `durableq bench serve`."
    )


def flow(ctx: typer.Context, rounds: Rounds, as_json: Json = False) -> None:
    """Measure flow control: the cost of each limit, and how exactly it holds.

    Costs are ratios to a queue without the limit, on temporary files. No target changes the exit
    code. Without --row, all rows of limits are measured.

    Example: durableq bench flow --quick
    """
    _measure_themes(ctx, rounds, _FLOW, "flow", "no row of limits", as_json=as_json)


def serve(ctx: typer.Context, rounds: Rounds, as_json: Json = False) -> None:
    """Measure the SQS endpoint: boto3, many connections, idle polls.

    Latencies are beyond those of an empty server and of the synced commits, measured in turns on
    temporary files. No target changes the exit code. It needs boto3 and the extra `serve`.

    Example: durableq bench serve --quick
    """
    _measure_themes(ctx, rounds, _SERVE, "serve", "no row of the endpoint", as_json=as_json)


def _measure_themes(
    ctx: typer.Context,
    rounds: Rounds,
    themes: tuple[str, ...],
    command: str,
    otherwise: str,
    *,
    as_json: bool,
) -> None:
    if ctx.parent is not None and ctx.parent.params.get("db") is not None:
        raise output.Misuse(f"`bench {command}` makes files of its own: leave out --db.")
    from durableq.bench.run import THEMES

    ours = [theme for theme in THEMES if theme.name in themes]
    for name in rounds.rows or ():
        if not any(name in {theme.name, *(row.name for row in theme.rows)} for theme in ours):
            raise output.Misuse(f"{name!r} is {otherwise}; `durableq bench {command} --list`.")
    chosen = Choice(**vars(rounds))
    _measure(replace(chosen, rows=rounds.rows or list(themes)), as_json=as_json)


def fleet(
    ctx: typer.Context,
    procs: int = option("--procs N", "Number of worker processes.", 4, min=2, max=64),
    messages: int = option("--messages N", "Number of timed sends.", 300, min=1, max=10_000),
    kills: int = option("--kills N", "Number of killed workers.", 20, min=1, max=1_000),
    seconds: float = option(
        "--seconds SECONDS", "How long to watch it idle.", 10, min=0.1, max=3600
    ),
    as_json: Json = False,
) -> None:
    """Measure a fleet: latency of a send, of a kill -9, and its idle cost.

    Uses a temporary database. The figures are printed beside their targets, and no target changes
    the exit code.

    Example: durableq bench fleet --json
    """
    if ctx.parent is not None and ctx.parent.params.get("db") is not None:
        raise output.Misuse("`bench fleet` makes a file of its own: leave out --db.")
    from durableq.bench.fleet import measure

    figures = measure(procs, messages, kills, seconds, output.live())
    if as_json:
        output.document(figures.as_dict())
        return
    output.line(figures.machine)
    output.table(("FLEET", "TARGET", "MEASURED"), figures.rows)


COMMANDS: Final = (fleet, flow, serve)
