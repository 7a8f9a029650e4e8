"""Tables as text: columns as wide as their cells, and folded where the terminal is narrower.

A column is measured and padded as a whole, in loops of the interpreter where it is Latin text; a
cell is looked at by itself only in a column that is folded. The layout is that of rich's tables
without borders, which render each cell through several objects.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import Final, NamedTuple

from durableq.model.text import ELLIPSIS

#: Between two columns.
GAP: Final = "  "
#: A longer text is folded to this width if the terminal is narrow.
FOLDED: Final = 40
#: Characters below this one take one cell each, except controls.
COMBINING: Final = "\u0300"
_WORD: Final = re.compile(r"\s*\S+\s*")


class Part(NamedTuple):
    """Columns of a table that fit beside each other, as lines."""

    heading: list[str]
    body: list[str]


def layout(
    headings: Sequence[str],
    columns: Sequence[Sequence[str]],
    numbers: Sequence[bool],
    available: int | None,
) -> Iterator[Part]:
    """Yield a table in parts: columns that do not fit follow, and repeat the first column.

    Args:
        headings: one for each column.
        columns: the cells of each column; a cell is one line.
        numbers: for each column, whether it is set to the right.
        available: cells of the terminal; None if there is no limit.
    """
    tops = [[heading] for heading in headings]
    widths = [max(map(_widest, both)) for both in zip(tops, columns, strict=True)]
    for part in _side_by_side(widths, available):
        fitted = _fitted([widths[at] for at in part], available)
        placed = [
            _Column(at, width, numbers[at], width < widths[at])
            for at, width in zip(part, fitted, strict=True)
        ]
        yield Part([*_lines(tops, placed, at_the_bottom=True)], [*_lines(columns, placed)])


class _Column(NamedTuple):
    """The place of a column in a part."""

    number: int
    width: int
    to_the_right: bool
    is_folded: bool

    def padded(self, texts: Sequence[str]) -> list[str]:
        """Return texts with blanks up to the width."""
        width, to_the_right = self.width, self.to_the_right
        if self.is_folded or not _are_narrow(texts):
            return [_padded(text, width, to_the_right=to_the_right) for text in texts]
        if to_the_right:
            return [text.rstrip().rjust(width) for text in texts]
        return [text.ljust(width) for text in texts]

    def folded(self, texts: Sequence[str]) -> list[list[str]]:
        """Return the lines of each text."""
        if not self.is_folded:
            return [[text] for text in self.padded(texts)]
        return [self.padded(_folded(text, self.width)) for text in texts]


def _lines(
    texts: Sequence[Sequence[str]], columns: Sequence[_Column], *, at_the_bottom: bool = False
) -> Iterator[str]:
    """Yield the rows of columns as lines; a row with a folded cell has several."""
    if not any(column.is_folded for column in columns):
        for row in zip(*(column.padded(texts[column.number]) for column in columns), strict=True):
            yield GAP.join(row).rstrip()
        return
    blanks = [" " * column.width for column in columns]
    for cell_lines in zip(*(one.folded(texts[one.number]) for one in columns), strict=True):
        most = max(map(len, cell_lines))
        for number in range(most):
            cells_of_line = []
            for lines, blank in zip(cell_lines, blanks, strict=True):
                at = number - (most - len(lines) if at_the_bottom else 0)
                cells_of_line.append(lines[at] if 0 <= at < len(lines) else blank)
            yield GAP.join(cells_of_line).rstrip()


def _widest(texts: Sequence[str]) -> int:
    return max(map(len if _are_narrow(texts) else cells, texts), default=0)


def _are_narrow(texts: Sequence[str]) -> bool:
    """Return whether each character surely takes one cell; the texts have no controls."""
    text = "".join(texts).replace(ELLIPSIS, "")
    return text.isascii() or max(text) < COMBINING


def cells(text: str) -> int:
    """Return the number of cells that a text takes on a terminal."""
    if _are_narrow((text,)):
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def _side_by_side(widths: Sequence[int], available: int | None) -> Iterator[list[int]]:
    """Yield the numbers of the columns that fit beside each other; long texts may be folded."""
    part = [0]
    for at in range(1, len(widths)):
        needed = sum(min(widths[one], FOLDED) + len(GAP) for one in (*part, at)) - len(GAP)
        if available is not None and needed > available and len(part) > 1:
            yield part
            part = [0]
        part.append(at)
    yield part


def _fitted(widths: Sequence[int], available: int | None) -> list[int]:
    """Return widths that fit: the widest columns give way, each as much as the others."""
    if available is None:
        return list(widths)
    gaps = [len(GAP)] * (len(widths) - 1) + [0]
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
    if _are_narrow((word,)):
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
