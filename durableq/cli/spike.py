"""`durableq demo --spike`: its runs one after the other, shown while they go on; their page."""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from durableq.cli import output
from durableq.model.errors import DurableQError

if TYPE_CHECKING:
    from durableq.demo.spike.load import Load
    from durableq.demo.spike.recording import Recording

#: Seconds between two updates on a terminal, and between two lines elsewhere.
_ON_TERMINAL, _ELSEWHERE = 0.25, 5.0
#: Columns of the view, and of a sparkline in it: a column for each of the last seconds.
_COLUMNS, _CELLS = 79, 36


def run(
    messages: int | None, procs: int, url: str | None, *, is_unprotected: bool, as_json: bool
) -> None:
    """Run the spike with limits and without them, or unprotected only; write the page.

    Raises:
        Conflict: the database has a queue of that name already.
        DurableQError: the page cannot be written, or one of the processes failed.
        typer.Exit: a fact does not hold.
    """
    from durableq.demo.spike import figures, page
    from durableq.demo.spike import run as spike
    from durableq.demo.spike.load import MESSAGES, Load

    unprotected = Load(messages=messages or MESSAGES, procs=procs, url=url)
    loads = [unprotected] if is_unprotected else [unprotected.with_limits(), unprotected]
    path = Path(page.FILE)
    _try_to_write(path)
    output.say(_announcement(loads[0], len(loads)))
    recordings = []
    for load in loads:
        view = View()
        recordings.append(spike.run(load, view, output.say))
        view.end(recordings[-1])
    path.write_text(page.page(recordings), encoding="utf-8")
    document = figures.document(recordings, str(path))
    if as_json:
        output.document(document)
    else:
        _print(recordings, document["problems"])
    output.say(f"The plots of the run{'s' if len(loads) > 1 else ''}: {path}")
    if not document["ok"]:
        raise typer.Exit(output.UNHEALTHY)


def _try_to_write(path: Path) -> None:
    """Check that the page can be written, before minutes are spent on it.

    Raises:
        DurableQError: it cannot.
    """
    is_new = not path.exists()
    try:
        path.open("a", encoding="utf-8").close()
    except OSError as error:
        raise DurableQError(
            f"{path} cannot be written into this folder: {error.strerror}. Run the command in "
            "another one."
        ) from error
    if is_new:
        path.unlink()


def _announcement(load: Load, runs: int) -> str:
    longest = clock(load.expected_seconds)
    takes = f"about {longest} with limits, less without" if runs > 1 else f"less than {longest}"
    return f"{load.messages:,} messages: {takes}. Fewer: --messages N"


def clock(seconds: float) -> str:
    """Return a duration as minutes and seconds."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"


class View:
    """Shows a run while it goes on, on stderr.

    On a terminal it is a few lines that each update replaces; elsewhere a line every five seconds.
    """

    def __init__(self) -> None:
        self._is_terminal = sys.stderr.isatty()
        self._due = 0.0
        self._shown = 0

    def __call__(self, recording: Recording) -> None:
        """Show a recording so far, unless it is too soon."""
        now = time.monotonic()
        if now >= self._due:
            self._due = now + (_ON_TERMINAL if self._is_terminal else _ELSEWHERE)
            self._show(recording)

    def end(self, recording: Recording) -> None:
        """Show a whole recording."""
        self._show(recording)

    def _show(self, recording: Recording) -> None:
        if not self._is_terminal:
            output.say(sentence(recording))
            return
        width = min(_COLUMNS, shutil.get_terminal_size().columns - 1)
        if self._shown:
            sys.stderr.write(f"\x1b[{self._shown}A\x1b[J")
        lines = block(recording)
        for line in lines:
            output.say(line, width)
        self._shown = len(lines)


def sentence(recording: Recording) -> str:
    """Return the newest figures of a run in a line."""
    last = recording.last
    ((_, calls),) = recording.seconds(newest=1)
    down = ", the downstream is down" if recording.is_down else ""
    breaker = f", breaker {last.breaker.label}" if last.breaker else ""
    return (
        f"{recording.load.name} {clock(last.at)}: {calls.all} calls/s, {calls.repeated} retries/s, "
        f"{last.backlog:,} waiting, {last.completed:,} completed, {last.dead:,} dead letters"
        f"{breaker}{down}"
    )


def block(recording: Recording) -> list[str]:
    """Return the view of a run: lines of at most 79 columns."""
    from durableq.demo.spike.recording import PERIODS_OF_A_SECOND

    load, last = recording.load, recording.last
    # One column for each second, the newest at the right.
    each = PERIODS_OF_A_SECOND
    newest = [*recording.seconds(newest=_CELLS * each)][::-each][::-1]
    calls = [float(calls.all) for _, calls in newest]
    retries = [float(calls.repeated) for _, calls in newest]
    most, capacity = recording.downstream.most_in_a_second, load.capacity
    backlog = [float(recording.sample_at(at).backlog) for at, _ in newest]
    expected = f" of about {clock(load.expected_seconds)}" if load.is_limited else ""
    state = last.breaker.label if last.breaker else "none"
    return [
        f"{load.name.capitalize()}, {clock(last.at)}{expected}: {last.completed:,} of "
        f"{load.messages:,} completed",
        _gauge("calls/s", calls, max(most, capacity), f"most {most:,}, capacity {capacity:,}"),
        _gauge("retries/s", retries, max(most, capacity), ""),
        _gauge("backlog", backlog, load.messages, f"waiting, {last.dead:,} dead"),
        f"{'breaker':<10} {state:<{_CELLS}}"
        + ("        downstream is down" if recording.is_down else ""),
    ]


def _gauge(name: str, values: list[float], most: float, remark: str) -> str:
    line = output.sparkline(values, most)
    return f"{name:<10} {line:<{_CELLS}} {values[-1]:>6,.0f} {remark}".rstrip()


def _print(recordings: list[Recording], problems: list[str]) -> None:
    from durableq.demo.spike.figures import figures

    if sys.stderr.isatty():
        output.say("")  # the view ends here
    headings = ["FIGURE", *(one.load.name.upper() for one in recordings)]
    rows = zip(*map(figures, recordings), strict=True)
    output.table(headings, [(row[0].name, *(one.value for one in row)) for row in rows])
    output.line()
    output.lines(f"PROBLEM: {problem}" for problem in problems)
    if not problems and recordings[0].load.is_limited:
        output.line("With limits: never more calls than the downstream bears, no dead letter.")
