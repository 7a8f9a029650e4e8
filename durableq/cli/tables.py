"""Tables as text: columns as wide as their cells, and folded where the terminal is narrower.

A table whose rows are one line each is shortened instead: never its numbers.

A column is measured and padded as a whole, in loops of the interpreter where it is Latin text; a
cell is looked at by itself only in a column that is folded. The layout is that of rich's tables
without borders, which render each cell through several objects.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Final, NamedTuple

from durableq.model.text import ELLIPSIS

#: Between two columns.
GAP: Final = "  "
#: A longer text is folded to this width if the terminal is narrow.
FOLDED: Final = 40
#: The name of a row has at least this width.
_LEAST_NAME: Final = 12
#: Characters below this one take one cell each, except controls.
COMBINING: Final = "\u0300"
_WORD: Final = re.compile(r"\s*\S+\s*")


class Look(NamedTuple):
    """Properties of a table besides its texts."""

    #: By the number of a column, the colour of each of its cells.
    colours: Mapping[int, Sequence[str]] = {}
    #: Whether longer texts are shortened rather than folded.
    is_one_line: bool = False


PLAIN: Final = Look()


class Part(NamedTuple):
    """Columns of a table that fit beside each other, as lines."""

    heading: list[str]
    body: list[str]


def layout(
    headings: Sequence[str],
    columns: Sequence[Sequence[str]],
    numbers: Sequence[bool],
    available: int | None,
    look: Look = PLAIN,
) -> Iterator[Part]:
    """Yield a table in parts: columns that do not fit follow, and repeat the first column.

    Args:
        headings: one for each column.
        columns: the cells of each column; a cell is one line.
        numbers: for each column, whether it is set to the right.
        available: cells of the terminal; None if there is no limit.
        look: the colours, and whether rows are one line each.
    """
    if look.is_one_line and available is not None:
        columns = _shortened(columns, numbers, available)
    tops = [[heading] for heading in headings]
    widths = [max(map(_widest, both)) for both in zip(tops, columns, strict=True)]
    for part in _side_by_side(widths, available):
        fitted = _fitted([widths[at] for at in part], available)
        placed = [
            _Column(at, width, numbers[at], width < widths[at], look.colours.get(at))
            for at, width in zip(part, fitted, strict=True)
        ]
        heading = _lines(tops, [one._replace(colours=None) for one in placed], at_the_bottom=True)
        yield Part([*heading], [*_lines(columns, placed)])


class _Column(NamedTuple):
    """The place of a column in a part."""

    number: int
    width: int
    to_the_right: bool
    is_folded: bool
    #: The colour of each cell; None if no cell has one.
    colours: Sequence[str] | None

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
            return [[text] for text in self.coloured(texts)]
        lines = [self.padded(fold(text, self.width)) for text in texts]
        if self.colours is None:
            return lines
        both = zip(lines, self.colours, strict=True)
        return [[painted(line, colour) for line in cell] for cell, colour in both]

    def coloured(self, texts: Sequence[str]) -> list[str]:
        """Return padded cells, one line each, in their colours."""
        if self.colours is None:
            return self.padded(texts)
        return [*map(painted, self.padded(texts), self.colours)]


def _lines(
    texts: Sequence[Sequence[str]], columns: Sequence[_Column], *, at_the_bottom: bool = False
) -> Iterator[str]:
    """Yield the rows of columns as lines; a row with a folded cell has several."""
    if not any(column.is_folded for column in columns):
        for row in zip(*(column.coloured(texts[column.number]) for column in columns), strict=True):
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


def is_narrow(text: str) -> bool:
    """Return whether each character of a text, which has no controls, surely takes one cell."""
    return _are_narrow((text,))


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


def fold(
    text: str, width: int, break_word: Callable[[str, int], list[str]] | None = None
) -> list[str]:
    """Return a text as lines of a width: broken between words, and within longer ones."""
    break_word = break_word or chop
    if cells(text) <= width:
        return [text]
    breaks, filled = [0], 0
    for match in _WORD.finditer(text):
        word, start = match[0], match.start()
        if filled + cells(word.rstrip()) <= width:
            filled += cells(word)
            continue
        pieces = [word] if cells(word.rstrip()) <= width else break_word(word, width)
        for piece in pieces:
            breaks.append(start)
            start += len(piece)
        filled = cells(pieces[-1])
    starts = list(dict.fromkeys(breaks))
    return [text[start:end] for start, end in zip_longest(starts, starts[1:])]


def chop(word: str, width: int) -> list[str]:
    """Return a word as pieces of a width."""
    if _are_narrow((word,)):
        return [word[start : start + width] for start in range(0, len(word), width)]
    from rich.cells import chop_cells

    return chop_cells(word, width)


def _shortened(
    columns: Sequence[Sequence[str]], numbers: Sequence[bool], available: int
) -> list[Sequence[str]]:
    """Return columns of which the first, which names the rows, fits beside each of the others."""
    first = max(_LEAST_NAME, available // 3)
    others = max(1, available - first - len(GAP))
    return [
        column if is_number else [shorten(text, others if at else first) for text in column]
        for at, (column, is_number) in enumerate(zip(columns, numbers, strict=True))
    ]


def shorten(text: str, width: int) -> str:
    """Return a text of at most a width, with an ellipsis in place of its middle."""
    if cells(text) <= width:
        return text
    end = (width - 1) // 2
    tail = chop(text[::-1], end)[0][::-1] if end else ""
    return f"{chop(text, width - 1 - end)[0]}{ELLIPSIS}{tail}"


def painted(text: str, colour: str) -> str:
    """Return a text in a colour, without the blanks around it; unchanged without one.

    Args:
        text: what is shown.
        colour: parameters of the escape sequence, or empty.
    """
    inner = text.strip()
    if not (colour and inner):
        return text
    return text.replace(inner, f"\x1b[{colour}m{inner}\x1b[0m", 1)


def _padded(text: str, width: int, *, to_the_right: bool) -> str:
    """Return a text with blanks up to a width; blanks at its end may be cut."""
    if to_the_right:
        text = text.rstrip()
    blanks = width - cells(text)
    if blanks < 0:
        return text.rstrip() + " " * max(0, width - cells(text.rstrip()))
    return " " * blanks + text if to_the_right else text + " " * blanks
