"""Odd arguments and streams end in a documented exit code, never in a report of a defect."""

from __future__ import annotations

import os
import sys

import pytest

from durableq.cli import output
from tests.cli.console import Run, Shop

LATIN = os.fsdecode(b"\xff")


@pytest.mark.parametrize(
    "arguments",
    [
        ("queue", "create", LATIN),
        ("queue", "pause", LATIN),
        ("peek", "--queue", LATIN),
        ("idempotency", "get", LATIN, "--queue", "orders"),
        ("dlq", "list", "--queue", LATIN),
    ],
)
def test_an_argument_that_is_not_utf8_is_refused_by_name(
    run: Run, shop: Shop, arguments: tuple[str, ...]
) -> None:
    done = run(*arguments)
    assert done.code == output.USAGE, done.err
    assert "\\udcff is not UTF-8" in done.err


class Terminal:
    """A stderr that claims to be a terminal."""

    def __init__(self) -> None:
        self.text = ""

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self.text += text
        return len(text)

    def flush(self) -> None:
        """Keep everything in memory."""


@pytest.mark.parametrize("name", ["[/x].jsonl", "a[bold]b.jsonl"])
def test_a_progress_bar_shows_a_file_name_as_it_is(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    terminal = Terminal()
    monkeypatch.setenv("TERM", "xterm")  # a dumb terminal has no bar
    monkeypatch.setattr(sys, "stderr", terminal)
    with output.progress(name, 1) as tell:
        tell(1)
    assert name in terminal.text
