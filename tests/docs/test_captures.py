"""The captures in the documentation fit 80 columns, and look as the commands print them today."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from scripts.capture_output import COLUMNS, DOCUMENTS, block, captures, filled

CAPTURES = {
    command: shown
    for document in sorted(DOCUMENTS.glob("*.md"))
    for command, shown in captures(document.read_text("utf-8")).items()
}


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the example's database."""
    folder = tmp_path_factory.mktemp("example")
    filled(folder)
    return folder


def test_the_commands_of_every_day_are_captured() -> None:
    for command in ("status", "dlq list", "dlq groups", "doctor", "work --drain"):
        assert [one for one in CAPTURES if one.startswith(f"durableq {command}")], command


@pytest.mark.parametrize("command", sorted(CAPTURES))
def test_a_capture_looks_as_the_command_prints(command: str, example: Path) -> None:
    shown = CAPTURES[command]
    assert [line for line in shown.splitlines() if len(line) > COLUMNS] == []
    assert shape(shown) == shape(block(command, example))


def shape(shown: str) -> list[str]:
    """Return the headings of tables, in their order; an age may move one to the next part."""
    found = []
    for line in shown.splitlines():
        words = line.split()
        if words and all(re.fullmatch(r"[A-Z_/]{2,}", word) for word in words):
            found += words
    return [*dict.fromkeys(found)]
