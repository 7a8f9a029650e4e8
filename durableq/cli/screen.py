"""The terminal: its width, its colours, and lines that fit into it.

A pipe has neither width nor colours: there each line is whole.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from typing import Final, NamedTuple, TextIO

from durableq.cli.tables import cells, chop, fold, is_narrow, painted

#: Parameters of the escape sequence that sets a colour.
RED: Final = "31"
YELLOW: Final = "33"
BOLD: Final = "1"
#: The colours of the levels of findings.
COLOURS: Final = {"bad": RED, "warn": YELLOW, "ok": ""}
#: A narrower terminal is written to as if it had this width.
MIN_COLUMNS: Final = 20
#: Further lines of a text are indented as little on a terminal that has no room for more.
_SMALL_HANG: Final = 4
#: A word that is longer than a line is broken behind one of these, rather than in a number.
_BREAK: Final = re.compile(r"[,;:/&?=)}\]]")


class Line(NamedTuple):
    """A line of text, which a terminal may show on several."""

    text: str
    #: Cells by which the further ones are indented.
    hang: int = 0
    #: The words of the text that have a colour.
    mark: str = ""
    colour: str = ""


def width_of(stream: TextIO) -> int | None:
    """Return the columns of a terminal; None for a pipe or a file."""
    return max(shutil.get_terminal_size().columns, MIN_COLUMNS) if stream.isatty() else None


def moves_cursor(stream: TextIO) -> bool:
    """Return whether a stream is a terminal that takes escape sequences."""
    return stream.isatty() and os.environ.get("TERM", "") not in {"dumb", "unknown"}


def has_colour(stream: TextIO) -> bool:
    """Return whether a stream is a terminal for colours; NO_COLOR and TERM=dumb forbid them."""
    return moves_cursor(stream) and not os.environ.get("NO_COLOR")


def fitted(line: Line, stream: TextIO) -> str:
    """Return a line as a stream shows it: whole in a pipe; on a terminal in lines and colours."""
    width = width_of(stream)
    texts = [line.text] if width is None else [*wrapped(line.text, width, line.hang)]
    if line.colour and has_colour(stream):
        at = next((at for at, text in enumerate(texts) if line.mark in text), None)
        if at is not None:
            texts[at] = texts[at].replace(line.mark, painted(line.mark, line.colour), 1)
    return "\n".join(texts)


def wrapped(text: str, width: int, hang: int = 0, *, keeps_words: bool = False) -> Iterator[str]:
    """Yield a text as lines of a width, broken between words.

    Args:
        text: one line.
        width: cells of a line.
        hang: cells by which the further ones are indented.
        keeps_words: leave a longer word whole, such as a path to be copied.
    """
    break_word = _whole if keeps_words else _broken
    if cells(text) <= width:
        yield text
        return
    if hang > width // 2:
        hang = _SMALL_HANG
    first = fold(text, width, break_word)[0]
    yield first.rstrip()
    for more in (
        fold(text[len(first) :], width - hang, break_word) if len(first) < len(text) else ()
    ):
        yield " " * hang + more.strip()


def _whole(word: str, _width: int) -> list[str]:
    return [word]


def _broken(word: str, width: int) -> list[str]:
    """Return a word that is too long in pieces, broken behind punctuation if there is some."""
    if not is_narrow(word):
        return chop(word, width)
    pieces, start = [], 0
    while len(word) - start > width:
        found = [match.end() for match in _BREAK.finditer(word, start, start + width)]
        end = found[-1] if found and found[-1] > start + width // 2 else start + width
        pieces.append(word[start:end])
        start = end
    return [*pieces, word[start:]]
