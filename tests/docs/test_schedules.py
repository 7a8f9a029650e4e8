"""docs/SCHEDULES.md works as written: its files are an application's, and pytest runs them."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

from durableq import DurableQ
from tests.contrib.running import run_pytest

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "SCHEDULES.md").read_text()
FILES = dict(re.findall(r"```python\n# (\w+\.py)\n(.*?)```", PAGE, re.DOTALL))


def test_the_tests_of_the_page_pass(tmp_path: Path) -> None:
    assert len(FILES) == PAGE.count("```python")
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    ran = run_pytest(tmp_path, "test_reports.py")
    assert "2 passed" in ran.stdout, ran.stdout + ran.stderr


def test_the_table_names_each_argument() -> None:
    table = PAGE.split("| argument |", 1)[1].split("\n\n", 1)[0]
    told = {
        name for row in table.splitlines() for name in re.findall(r"`(\w+)`", row.split("|")[1])
    }
    assert told == set(inspect.signature(DurableQ.every).parameters) - {"self"}
