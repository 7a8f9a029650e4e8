"""The page about coroutines works as written: its files are an application's, and run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from durableq import Delivery, DurableQ, Queue
from tests.contrib.running import run_pytest

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "ASYNCIO.md").read_text()
FILES = dict(re.findall(r"```python\n# (\w+\.py)\n(.*?)```", PAGE, re.DOTALL))
TESTS = {"test_main.py": 4, "test_consumer.py": 1}


def test_each_block_is_a_file() -> None:
    assert len(FILES) == PAGE.count("```python")
    assert TESTS.keys() == {name for name in FILES if name.startswith("test_")}


@pytest.mark.parametrize("name", TESTS)
def test_the_tests_of_the_page_pass(name: str, tmp_path: Path) -> None:
    for file in (name, name.removeprefix("test_")):
        (tmp_path / file).write_text(FILES[file])
    ran = run_pytest(tmp_path, name)
    assert f"{TESTS[name]} passed" in ran.stdout, ran.stdout + ran.stderr


@pytest.mark.parametrize("kind", [DurableQ, Queue, Delivery])
def test_the_page_names_each_call_for_coroutines(kind: type) -> None:
    """Each has a call of the same name without the `a`."""
    found = [name for name in dir(kind) if name[:1] == "a" and hasattr(kind, name[1:])]
    assert found
    for name in found:
        assert f".{name}(" in PAGE, name
