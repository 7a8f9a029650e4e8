"""Odd arguments and streams get a documented exit code, and never the words for a defect."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from durableq import DurableQ
from durableq.cli import output
from tests.cli.console import Run, Shop
from tests.support import scaled

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
    """A stderr that says that it is a terminal."""

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
    monkeypatch.setattr(sys, "stderr", terminal)
    with output.progress(name, 1) as tell:
        tell(1)
    assert name in terminal.text


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_stored_message_exits_0_when_stderr_is_full(tmp_path: Path) -> None:
    path = tmp_path / "q.db"
    with DurableQ(path) as dq:
        dq.queue("orders").send({})
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "durableq", "produce", "-", "--queue", "orders", "--db", path],
            input=b"{}\n",
            stdout=subprocess.PIPE,
            stderr=full,
            timeout=scaled(60),
            check=False,
        )
    assert done.returncode == output.OK
    with DurableQ(path) as dq:
        assert dq.queue("orders").info().counters.sent == 2
