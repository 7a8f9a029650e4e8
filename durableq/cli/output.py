"""Printing: data on stdout, commentary on stderr, each error one sentence with its exit code."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final, TextIO

import typer

from durableq.model.errors import (
    Busy,
    Conflict,
    DurableQError,
    InvalidBody,
    InvalidInput,
    NotFound,
    StaleReceipt,
)
from durableq.model.text import visible

OK: Final = 0
FAILED: Final = 1
USAGE: Final = 2
UNHEALTHY: Final = 6
INTERRUPTED: Final = 130
#: As a shell reports SIGINT and SIGPIPE.
BROKEN_PIPE: Final = 141

#: The first that fits.
EXIT_CODES: Final[tuple[tuple[type[DurableQError], int], ...]] = (
    (NotFound, 3),
    (Busy, 4),
    (Conflict, 5),
    (StaleReceipt, 5),
    (InvalidBody, FAILED),
    (InvalidInput, USAGE),
    (DurableQError, FAILED),
)

#: Columns of a table that goes to a file or a pipe.
_UNLIMITED: Final = 100_000
_GAP: Final = 2
#: Longest line of an error that is printed whole: it repeats what was typed.
MAX_SENTENCE_CHARS: Final = 1_200
#: Columns that a longer text still has when it is folded.
_FOLDED: Final = 40


class Misuse(typer.BadParameter):
    """A command that asks for something in a way that makes no sense; its text says why."""

    def format_message(self) -> str:
        """Return the sentence as it is: typer would begin it with `Invalid value`."""
        return self.message


def exit_code(error: DurableQError) -> int:
    """Return the exit code of an error."""
    return next(code for kind, code in EXIT_CODES if isinstance(error, kind))


def error(sentence: str) -> None:
    """Print what went wrong; what follows the first line is indented."""
    first, *more = sentence.splitlines() or [""]
    say(f"durableq: {_shortened(first)}")
    for text in more:
        say(f"    {_shortened(text.strip())}")


def _shortened(sentence: str) -> str:
    """Return a sentence without its middle if it repeats something very long, such as a path."""
    half = MAX_SENTENCE_CHARS // 2
    if len(sentence) <= MAX_SENTENCE_CHARS:
        return sentence
    cut = len(sentence) - MAX_SENTENCE_CHARS
    return f"{sentence[:half]} … ({cut:,} characters) … {sentence[-half:]}"


def say(text: str, limit: int | None = None) -> None:
    """Print commentary: a line on stderr. Work that is done stays done if it cannot be written."""
    shown = visible(text, limit)
    try:
        print(shown, file=sys.stderr, flush=True)  # noqa: T201 - printing is done here
    except OSError:
        give_up(sys.stderr)


def line(text: str = "") -> None:
    """Print one line of data."""
    _write(visible(text).rstrip())


def document(value: Any) -> None:
    """Print a command's one JSON document."""
    _write(_ascii(value, indent=2))


def json_line(value: Any) -> None:
    """Print one line of a stream of JSON documents."""
    _write(_ascii(value))


def _ascii(value: Any, indent: int | None = None) -> str:
    """Return JSON that no terminal obeys: all but printable ASCII is escaped."""
    return json.dumps(value, indent=indent).replace("\x7f", "\\u007f")


def _write(text: str) -> None:
    try:
        print(text, flush=True)  # noqa: T201 - and here
    except BrokenPipeError:
        raise
    except OSError as failure:
        give_up(sys.stdout)
        raise DurableQError(f"The output cannot be written: {failure.strerror}.") from failure


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print rows under their columns: aligned, numbers to the right, never cut in a pipe.

    On a terminal that is too narrow, columns without room follow below, led by the first again.
    """
    from rich.console import Console
    from rich.table import Table

    on_terminal = sys.stdout.isatty()
    text = io.StringIO()  # rich must not meet a stdout that is gone or full: _write knows how
    console = Console(
        file=text,
        force_terminal=on_terminal,
        width=None if on_terminal else _UNLIMITED,
        markup=False,
        emoji=False,
        highlight=False,
    )
    cells = [[visible(str(cell)) for cell in row] for row in rows]
    for number, part in enumerate(_side_by_side(columns, cells, console.width)):
        grid = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold")
        for at in part:
            counts = bool(rows) and all(isinstance(row[at], int) for row in rows)
            grid.add_column(columns[at], justify="right" if counts else "left", overflow="fold")
        for row in cells:
            grid.add_row(*(row[at] for at in part))
        if number:
            console.print()
        console.print(grid)
    _write("\n".join(row.rstrip() for row in text.getvalue().splitlines()))


def _side_by_side(
    columns: Sequence[str], cells: Sequence[Sequence[str]], room: int
) -> Iterator[list[int]]:
    """Yield the columns that fit beside each other, by number; a long text may be folded."""
    from rich.cells import cell_len

    widths = [max(map(cell_len, column)) for column in zip(columns, *cells, strict=True)]
    part = [0]
    for at in range(1, len(widths)):
        needed = sum(min(widths[one], _FOLDED) + _GAP for one in (*part, at)) - _GAP
        if needed > room and len(part) > 1:
            yield part
            part = [0]
        part.append(at)
    yield part


def fields(pairs: Sequence[tuple[str, str]]) -> None:
    """Print names and their values, each pair on a line."""
    width = max(len(name) for name, _ in pairs)
    for name, value in pairs:
        line(f"{name:<{width}}  {value}")


def live() -> Callable[[str], None]:
    """Return a `say` that, on a terminal, lets a line replace the last if both begin alike."""
    if not sys.stderr.isatty():
        return say
    before = ""

    def tell(text: str) -> None:
        nonlocal before
        begins = text.split(" ", 1)[0]
        if begins == before:
            sys.stderr.write("\x1b[1A\x1b[2K")
        before = begins
        say(text, typer.get_terminal_size().columns - 1)

    return tell


@contextmanager
def progress(what: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """Show a bar on a terminal's stderr; give a function that is told how far it has come."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        row = bar.add_task(escape(visible(what)), total=total)
        yield lambda done: bar.update(row, completed=done)


def confirm(question: str, *, yes: bool) -> None:
    """Ask before something that cannot be undone.

    Raises:
        typer.Abort: the answer is no.
        Misuse: there is no terminal to ask on, and --yes was not given.
    """
    if yes:
        return
    if not (sys.stdin and sys.stdin.isatty()):
        raise Misuse(f"{question} There is no terminal to ask on: confirm with --yes.")
    typer.confirm(visible(question), abort=True, err=True)


def prepare() -> None:
    """Make the streams fit for any text, and for not being there at all."""
    nowhere = None
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by the shell: >&-
            nowhere = nowhere or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
            setattr(sys, name, nowhere)
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def give_up(stream: TextIO) -> None:
    """Let nothing more be written where nobody reads: not at the interpreter's exit either."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
