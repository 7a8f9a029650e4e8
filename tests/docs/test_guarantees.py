"""Each promise names its tests, and each named test exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from scripts.engine_table import with_table

ROOT = Path(__file__).resolve().parents[2]
GUARANTEES = (ROOT / "docs" / "GUARANTEES.md").read_text()
NAMED = re.compile(r"`((?:tests|durableq/testing)/[\w/]+\.py)::(\w+)`")


def functions(path: Path) -> set[str]:
    return {
        node.name
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef)
    }


def test_every_test_named_in_the_guarantees_exists() -> None:
    named = NAMED.findall(GUARANTEES)
    assert len(named) > 15
    missing = [
        f"{file}::{test}"
        for file, test in named
        if not (ROOT / file).exists() or test not in functions(ROOT / file)
    ]
    assert missing == []


def test_every_promise_names_a_test() -> None:
    promises = re.split(r"^## (?=\d)", GUARANTEES, flags=re.MULTILINE)[1:]
    assert len(promises) >= 7
    silent = [text.splitlines()[0] for text in promises if not NAMED.search(text)]
    assert silent == []


def test_the_table_of_engines_is_that_of_their_capabilities() -> None:
    assert with_table(GUARANTEES) == GUARANTEES, "run python -m scripts.engine_table"
