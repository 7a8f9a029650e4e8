"""Tables, name-value lists, sizes and sparklines: the only place that lays out columns."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator, Sequence
from typing import Any, Final

from durableq.cli import output
from durableq.model.text import visible

#: Columns of a table that goes to a file or a pipe.
_UNLIMITED: Final = 100_000
_GAP: Final = 2
#: A longer text is folded to this width if the terminal is narrow.
_FOLDED: Final = 40
_BARS: Final = "▁▂▃▄▅▆▇█"


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print rows under their columns: numbers to the right, never cut in a pipe.

    On a narrow terminal the columns that do not fit follow in a second table, which repeats the
    first column.
    """
    from rich.console import Console
    from rich.table import Table

    on_terminal = sys.stdout.isatty()
    text = io.StringIO()  # printed by output.lines, which handles a closed or full stdout
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
    output.rendered("\n".join(row.rstrip() for row in text.getvalue().splitlines()))


def _side_by_side(
    columns: Sequence[str], cells: Sequence[Sequence[str]], available: int
) -> Iterator[list[int]]:
    """Yield the numbers of the columns that fit beside each other; long texts may be folded."""
    from rich.cells import cell_len

    widths = [max(map(cell_len, column)) for column in zip(columns, *cells, strict=True)]
    part = [0]
    for at in range(1, len(widths)):
        needed = sum(min(widths[one], _FOLDED) + _GAP for one in (*part, at)) - _GAP
        if needed > available and len(part) > 1:
            yield part
            part = [0]
        part.append(at)
    yield part


def fields(pairs: Sequence[tuple[str, str]]) -> None:
    """Print names and values, a pair on each line."""
    width = max(len(name) for name, _ in pairs)
    for name, value in pairs:
        output.line(f"{name:<{width}}  {value}")


def mebibytes(size_bytes: int) -> str:
    """Return a size in MiB."""
    return f"{size_bytes / (1 << 20):.1f} MiB"


def sparkline(values: Sequence[float]) -> str:
    """Return a bar for each value; the highest value has a full bar."""
    most = max(values, default=0)
    if most <= 0:
        return _BARS[0] * len(values)
    return "".join(_BARS[min(int(8 * value / most), 7)] for value in values)
