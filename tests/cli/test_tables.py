"""Tables are laid out as rich lays out its own, cell for cell, at any width."""

from __future__ import annotations

import io
import random
import sys

import pytest
from rich.console import Console
from rich.table import Table

from durableq.cli import tables
from tests.support import observing_calls

WIDTHS = (20, 37, 80, 81, 120, 200)


def by_rich(
    headings: list[str], rows: list[list[str]], numbers: list[bool], parts: list[list[int]], at: int
) -> str:
    text = io.StringIO()
    console = Console(file=text, width=at, markup=False, emoji=False, highlight=False)
    for number, part in enumerate(parts):
        grid = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        for column in part:
            grid.add_column(headings[column], overflow="fold")
            grid.columns[-1].justify = "right" if numbers[column] else "left"
        for row in rows:
            grid.add_row(*(row[column] for column in part))
        if number:
            console.print()
        console.print(grid)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines())


@pytest.mark.parametrize("available", WIDTHS)
def test_a_table_looks_as_rich_would_draw_it(available: int) -> None:
    rng = random.Random(available)
    for _ in range(100):
        letters = rng.choice(("abc  d-ef", "abc d…", "ab -éß", "ab -é界"))
        numbers = [rng.random() < 0.3 for _ in range(rng.randint(2, 8))]
        headings = ["H" * rng.randint(1, 12) for _ in numbers]
        rows = [
            [
                str(rng.randint(0, 10 ** rng.randint(0, 9)))
                if number
                else "".join(rng.choices(letters, k=rng.choice((0, 3, 12, 50, 80))))
                for number in numbers
            ]
            for _ in range(rng.randint(0, 4))
        ]
        widths = [max(map(tables.cells, column)) for column in zip(headings, *rows, strict=True)]
        parts = list(tables._side_by_side(widths, available))
        columns = [*zip(*rows, strict=True)] or [()] * len(headings)
        drawn = tables.layout(headings, columns, numbers, available)
        ours = "\n\n".join("\n".join([*part.heading, *part.body]) for part in drawn)
        assert ours == by_rich(headings, rows, numbers, parts, available)


def test_each_cell_is_measured_a_bounded_number_of_times(monkeypatch: pytest.MonkeyPatch) -> None:
    measured = 0

    def cells(text: str) -> int:
        nonlocal measured
        measured += 1
        return len(text)

    monkeypatch.setattr(tables, "cells", cells)
    columns = [["17"] * 1_000, ["λ" * 100] * 1_000]
    (part,) = tables.layout(["ID", "TEXT"], columns, [False, False], 80)
    assert len(part.body) == 2_000
    assert measured <= 10 * 1_000


def test_a_row_of_plain_cells_costs_one_call() -> None:
    columns = [[f"{number} and more …" for number in range(1_000)] for _ in range(9)]
    calls = 0

    def count(_frame: object, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event == "call"

    with observing_calls():
        sys.setprofile(count)
        [part] = tables.layout([*"ABCDEFGHI"], columns, [False, True] * 4 + [False], None)
        sys.setprofile(None)
    assert len(part.body) == 1_000
    assert calls <= 1_300
