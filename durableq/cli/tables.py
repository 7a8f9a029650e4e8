"""Tables as text: columns as wide as their cells, and folded where the terminal is narrower.

Each cell is measured once, so a table of 10,000 rows is as quick as its size allows. The layout is
that of rich's tables without borders, which render each cell through several objects.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import Final, NamedTuple

GAP: Final = 2
#: A longer text is folded to this width if the terminal is narrow.
FOLDED: Final = 40
_WORD: Final = re.compile(r"\s*\S+\s*")


class Part(NamedTuple):
    """Columns of a table that fit beside each other, as lines."""

    heading: list[str]
    body: list[str]


def layout(
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    numbers: Sequence[bool],
    available: int | None,
) -> Iterator[Part]:
    """Yield a table in parts: columns that do not fit follow, and repeat the first column.

    Args:
        headings: one for each column.
        rows: a cell for each column, on one line.
        numbers: for each column, whether it is set to the right.
        available: cells of the terminal; None if there is no limit.
    """
    widths = [max(map(cells, column)) for column in zip(headings, *rows, strict=True)]
    for part in _side_by_side(widths, available):
        fitted = _fitted([widths[at] for at in part], available)
        columns = [_Column(at, width, numbers[at]) for at, width in zip(part, fitted, strict=True)]
        heading = list(_lines(headings, columns, at_the_bottom=True))
        yield Part(heading, [line for row in rows for line in _lines(row, columns)])


class _Column(NamedTuple):
    number: int
    width: int
    to_the_right: bool


def _lines(
    row: Sequence[str], columns: Sequence[_Column], *, at_the_bottom: bool = False
) -> Iterator[str]:
    """Yield a row as lines, more than one if a cell is folded."""
    folded = [_folded(row[column.number], column.width) for column in columns]
    most = max(map(len, folded))
    for number in range(most):
        texts = []
        for column, lines in zip(columns, folded, strict=True):
            at = number - (most - len(lines) if at_the_bottom else 0)
            text = lines[at] if 0 <= at < len(lines) else ""
            texts.append(_padded(text, column.width, to_the_right=column.to_the_right))
        yield (" " * GAP).join(texts).rstrip()


def cells(text: str) -> int:
    """Return the number of cells that a text takes on a terminal."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def _side_by_side(widths: Sequence[int], available: int | None) -> Iterator[list[int]]:
    """Yield the numbers of the columns that fit beside each other; long texts may be folded."""
    part = [0]
    for at in range(1, len(widths)):
        needed = sum(min(widths[one], FOLDED) + GAP for one in (*part, at)) - GAP
        if available is not None and needed > available and len(part) > 1:
            yield part
            part = [0]
        part.append(at)
    yield part


def _fitted(widths: Sequence[int], available: int | None) -> list[int]:
    """Return widths that fit: the widest columns give way, each as much as the others."""
    if available is None:
        return list(widths)
    gaps = [GAP] * (len(widths) - 1) + [0]
    fitted = [min(width + gap, available) for width, gap in zip(widths, gaps, strict=True)]
    while (excess := sum(fitted) - available) > 0:
        widest = max(fitted)
        most = widest - max((width for width in fitted if width < widest), default=0)
        tied = [at for at, width in enumerate(fitted) if width == widest]
        for number, at in enumerate(tied):
            taken = min(most, excess, round(excess / (len(tied) - number)))
            fitted[at] -= taken
            excess -= taken
    return [max(1, width - gap) for width, gap in zip(fitted, gaps, strict=True)]


def _folded(text: str, width: int) -> list[str]:
    """Return a text as lines of a width: broken between words, and within longer ones."""
    if cells(text) <= width:
        return [text]
    breaks, filled = [0], 0
    for match in _WORD.finditer(text):
        word, start = match[0], match.start()
        if filled + cells(word.rstrip()) <= width:
            filled += cells(word)
            continue
        pieces = [word] if cells(word.rstrip()) <= width else _chopped(word, width)
        for piece in pieces:
            breaks.append(start)
            start += len(piece)
        filled = cells(pieces[-1])
    starts = list(dict.fromkeys(breaks))
    return [text[start:end] for start, end in zip_longest(starts, starts[1:])]


def _chopped(word: str, width: int) -> list[str]:
    if word.isascii():
        return [word[start : start + width] for start in range(0, len(word), width)]
    from rich.cells import chop_cells

    return chop_cells(word, width)


def _padded(text: str, width: int, *, to_the_right: bool) -> str:
    """Return a text with blanks up to a width; blanks at its end may be cut."""
    if to_the_right:
        text = text.rstrip()
    blanks = width - cells(text)
    if blanks < 0:
        return text.rstrip() + " " * max(0, width - cells(text.rstrip()))
    return " " * blanks + text if to_the_right else text + " " * blanks
