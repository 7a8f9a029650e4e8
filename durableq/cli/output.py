"""Streams, tables and exit codes: data on stdout, commentary on stderr, errors in one sentence."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from typing import Any, Final, TextIO, TypeVar

import typer

from durableq.cli.screen import (
    BOLD,
    COLOURS,
    RED,
    Line,
    fitted,
    has_colour,
    moves_cursor,
    width_of,
    wrapped,
)
from durableq.cli.tables import painted
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

T = TypeVar("T")

OK: Final = 0
FAILED: Final = 1
USAGE: Final = 2
UNHEALTHY: Final = 6
INTERRUPTED: Final = 130
#: As a shell reports SIGPIPE; INTERRUPTED is its report of SIGINT.
BROKEN_PIPE: Final = 141

#: The first entry that matches counts.
EXIT_CODES: Final[tuple[tuple[type[DurableQError], int], ...]] = (
    (NotFound, 3),
    (Busy, 4),
    (Conflict, 5),
    (StaleReceipt, 5),
    (InvalidBody, FAILED),
    (InvalidInput, USAGE),
    (DurableQError, FAILED),
)
#: A longer line of an error is cut in its middle: errors repeat arguments, which have no bound.
MAX_SENTENCE_CHARS: Final = 1_200
#: Of each JSON document: it changes if a name changes its meaning, or goes.
SCHEMA: Final = 1
#: Rows of a list that are written at once.
_LINES: Final = 500
_BARS: Final = "▁▂▃▄▅▆▇█"
#: The width of the bar of a fraction.
BAR_COLUMNS: Final = 10
#: A longer name of a field stands beside the column of names.
_NAME_CHARS: Final = 30
#: Further lines of commentary are indented as much.
_HANG: Final = 4
#: Commentary that goes before the next output.
_announced: Final[list[str]] = []


class Misuse(typer.BadParameter):
    """A usage error; its text is the whole sentence."""

    def format_message(self) -> str:
        """Return the sentence unchanged: typer would prefix it with `Invalid value`."""
        return self.message


def exit_code(error: DurableQError) -> int:
    """Return the exit code of an error."""
    return next(code for kind, code in EXIT_CODES if isinstance(error, kind))


def error(sentence: str) -> None:
    """Print an error; lines after the first are indented."""
    first, *more = sentence.splitlines() or [""]
    begins = painted("durableq:", RED if has_colour(sys.stderr) else "")
    _say(f"{begins} {visible(_shortened(first))}")
    for text in more:
        _say(f"    {visible(_shortened(text.strip()))}")


def error_document(kind: str, exit_code: int, sentence: str) -> None:
    """Print an error on stderr as one line of JSON."""
    found = {"type": kind, "exit_code": exit_code, "message": _shortened(sentence)}
    _say(_ascii({"schema": SCHEMA, "error": found}))


def _shortened(sentence: str) -> str:
    """Cut the middle out of a very long sentence, such as one that repeats a path."""
    half = MAX_SENTENCE_CHARS // 2
    if len(sentence) <= MAX_SENTENCE_CHARS:
        return sentence
    cut = len(sentence) - MAX_SENTENCE_CHARS
    return f"{sentence[:half]} … ({cut:,} characters) … {sentence[-half:]}"


def announce(text: str) -> None:
    """Let a line of commentary go before the next output; an error alone goes without it."""
    _announced[:] = [text]


def say(text: str, limit: int | None = None) -> None:
    """Print a line of commentary on stderr; a failure to write it is ignored."""
    say_announced()
    _say(visible(text, limit))


def say_sentence(text: str) -> None:
    """Print commentary for people: a terminal shows a long line on several, with whole words."""
    say_announced()
    shown, width = visible(text), width_of(sys.stderr)
    texts = [shown] if width is None else wrapped(shown, width, _HANG, keeps_words=True)
    _say("\n".join(texts))


def say_announced() -> None:
    """Print the announced commentary now."""
    while _announced:
        _say(visible(_announced.pop()))


def _say(text: str) -> None:
    try:
        print(text, file=sys.stderr, flush=True)  # noqa: T201 - printing is done here
    except OSError:
        give_up(sys.stderr)


def line(text: str | Line = "") -> None:
    """Print one line of data; a terminal shows a long one on several."""
    given = Line(text) if isinstance(text, str) else text
    shown = given._replace(text=visible(given.text).rstrip(), mark=visible(given.mark))
    _write(fitted(shown, sys.stdout))


def lines(texts: Iterable[str | Line]) -> None:
    """Print several lines of data."""
    for text in texts:
        line(text)


def verbatim(text: str) -> None:
    """Print lines for programs, which a terminal does not break."""
    _write("\n".join(map(visible, text.splitlines())))


def raw(content: bytes) -> None:
    """Write bytes as they are."""
    say_announced()
    try:
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        raise
    except OSError as failure:
        give_up(sys.stdout)
        raise DurableQError(f"The output cannot be written: {failure.strerror}.") from failure


def document(value: Mapping[str, Any]) -> None:
    """Print a command's one JSON document."""
    _write(_ascii({"schema": SCHEMA, **value}, indent=2))


def foreign_document(value: Any) -> None:
    """Print a JSON document whose names are not ours."""
    _write(_ascii(value, indent=2))


def json_line(value: Mapping[str, Any]) -> None:
    """Print one line of a stream of JSON documents."""
    json_lines([value])


def json_lines(values: Iterable[Mapping[str, Any]]) -> None:
    """Print JSON documents, one a line; they are used up one at a time."""
    texts = (_ascii({"schema": SCHEMA, **value}) for value in values)
    while lines := [*islice(texts, _LINES)]:
        _write("\n".join(lines))


def _ascii(value: Any, indent: int | None = None) -> str:
    """Return JSON in printable ASCII, which holds no control sequence of a terminal."""
    return json.dumps(value, indent=indent).replace("\x7f", "\\u007f")


def _write(text: str) -> None:
    say_announced()
    try:
        print(text, flush=True)  # noqa: T201 - and here
    except BrokenPipeError:
        raise
    except OSError as failure:
        give_up(sys.stdout)
        raise DurableQError(f"The output cannot be written: {failure.strerror}.") from failure


def table(headings: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print rows of cells as a table."""
    _table(headings, [*zip(*rows, strict=True)] or [()] * len(headings), {})


def rows(
    values: Iterable[T],
    columns: Mapping[str, Callable[[T], Any]],
    colours: Mapping[str, Callable[[T], str]] | None = None,
    *,
    is_one_line: bool = False,
) -> list[Any]:
    """Print a table of values; each column is a heading and a function of the value.

    Of the values only the cells are kept.

    Args:
        values: one for each row.
        columns: by heading, the cell of a value.
        colours: by heading, the colour of a cell on a terminal, or an empty text.
        is_one_line: shorten texts that are too long for a terminal, rather than fold them.

    Returns:
        The cells of the first column.
    """
    wanted = {} if colours is None or not has_colour(sys.stdout) else colours
    functions = [*columns.values(), *wanted.values()]
    filled: list[list[Any]] = [[] for _ in functions]
    places = [(column.append, cell) for column, cell in zip(filled, functions, strict=True)]
    for value in values:
        for add, cell in places:
            add(cell(value))
    headings, number = [*columns], len(columns)
    coloured = zip(map(headings.index, wanted), filled[number:], strict=True)
    _table(headings, filled[:number], dict(coloured), is_one_line=is_one_line)
    return filled[0]


def _table(
    headings: Sequence[str],
    columns: Sequence[Sequence[Any]],
    colours: Mapping[int, Sequence[str]],
    *,
    is_one_line: bool = False,
) -> None:
    """Print columns under their headings: numbers to the right, never cut in a pipe.

    On a narrow terminal the columns that do not fit follow in a second table, which repeats the
    first column.
    """
    from durableq.cli.tables import Look, layout

    numbers = [bool(column) and all(isinstance(cell, int) for cell in column) for column in columns]
    texts, look = [*map(_texts, columns)], Look(colours, is_one_line)
    bold = BOLD if has_colour(sys.stdout) else ""
    parts = layout(headings, texts, numbers, width_of(sys.stdout), look)
    tables = [
        "\n".join([*(painted(text, bold) for text in part.heading), *part.body]) for part in parts
    ]
    _write("\n\n".join(tables))


def _texts(column: Sequence[Any]) -> list[str]:
    """Return the cells of a column as visible text."""
    texts = [*map(str, column)]
    return texts if "".join(texts).isprintable() else [*map(visible, texts)]


def fields(pairs: Sequence[tuple[str, str | Line]]) -> list[Line]:
    """Return names and values as lines, a pair on each."""
    width = min(max(len(name) for name, _ in pairs), _NAME_CHARS)
    hang, made = width + 2, []
    for name, value in pairs:
        told = Line(value) if isinstance(value, str) else value
        made.append(told._replace(text=f"{name:<{width}}  {told.text}", hang=hang))
    return made


def finding(level: str, name: str, width: int, what: str, advice: str = "") -> list[Line]:
    """Return the lines of a finding: its level, what was checked, the result, and the advice.

    Args:
        level: ok, warn or bad.
        name: of the check.
        width: of the longest name beside it.
        what: the result.
        advice: the remedy, or empty.
    """
    hang = len("warn") + 2 + width + 2
    told = [Line(f"{level:<4}  {name:<{width}}  {what}", hang, level, COLOURS[level])]
    if advice:
        told.append(Line(f"{'':<{hang}}-> {advice}", hang + len("-> ")))
    return told


def mebibytes(size_bytes: int) -> str:
    """Return a size in MiB."""
    return f"{size_bytes / (1 << 20):.1f} MiB"


def sparkline(values: Sequence[float], most: float | None = None) -> str:
    """Return a bar for each value; `most`, by default the highest value, has a full bar."""
    most = max(values, default=0) if most is None else most
    if most <= 0:
        return _BARS[0] * len(values)
    return "".join(_BARS[min(int(8 * value / most), 7)] for value in values)


def bar(fraction: float) -> str:
    """Return a bar of BAR_COLUMNS that is full at 1."""
    full = int(BAR_COLUMNS * fraction)
    return _BARS[-1] * full + "░" * (BAR_COLUMNS - full)


def live() -> Callable[[str], None]:
    """Return a `say` that, on a terminal, replaces the last line if both start with one word."""
    if not moves_cursor(sys.stderr):
        return say
    before = ""

    def show(text: str) -> None:
        nonlocal before
        begins = text.split(" ", 1)[0]
        if begins == before:
            sys.stderr.write("\x1b[1A\x1b[2K")
        before = begins
        say(text, typer.get_terminal_size().columns - 1)

    return show


@contextmanager
def progress(label: str, total: int | None) -> Iterator[Callable[..., None]]:
    """Show a progress bar on stderr if it is a terminal.

    Yields:
        A function of the position and, optionally, a new label.
    """
    if not moves_cursor(sys.stderr):
        yield lambda done, label=None: None
        return
    say_announced()
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        row = bar.add_task(escape(visible(label)), total=total)

        def advance(done: int, label: str | None = None) -> None:
            described = None if label is None else escape(visible(label))
            bar.update(row, completed=done, description=described)

        yield advance


def confirm(question: str, *, yes: bool) -> None:
    """Ask before a change that cannot be undone.

    Raises:
        typer.Abort: the answer is no.
        Misuse: there is no terminal to ask on, and --yes was not given.
    """
    if yes:
        return
    if not (sys.stdin and sys.stdin.isatty()):
        raise Misuse(f"{question} There is no terminal to ask on: confirm with --yes.")
    say_announced()
    typer.confirm(visible(question), abort=True, err=True)


def prepare() -> None:
    """Make stdout and stderr accept any text, and replace those that the shell has closed."""
    _announced.clear()
    nowhere = None
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by the shell: >&-
            nowhere = nowhere or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
            setattr(sys, name, nowhere)
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def give_up(stream: TextIO) -> None:
    """Discard all further output of a stream, including the flush at the interpreter's exit."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
