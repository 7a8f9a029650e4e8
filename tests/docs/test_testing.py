"""The page about tests works as written: its files are an application's, and pytest runs them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest

from durableq.contrib import pytest as kit
from tests.contrib.running import run_pytest

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "TESTING.md").read_text()
FILES = dict(re.findall(r"```python\n# (\w+\.py)\n(.*?)```", PAGE, re.DOTALL))
TESTS = {"test_shop.py": 7, "test_main.py": 3, "test_shop_site.py": 2}


def test_each_block_is_a_file() -> None:
    assert len(FILES) == PAGE.count("```python")
    assert TESTS.keys() == {name for name in FILES if name.startswith("test_")}


@pytest.mark.parametrize("name", TESTS)
def test_the_tests_of_the_page_pass(name: str, tmp_path: Path) -> None:
    for file in (name, name.removeprefix("test_")):
        (tmp_path / file).write_text(FILES[file])
    ran = run_pytest(tmp_path, name)
    assert f"{TESTS[name]} passed" in ran.stdout, ran.stdout + ran.stderr
    left = {path.name for path in tmp_path.iterdir()} - {"__pycache__"}
    assert left == {name, name.removeprefix("test_")}, "no test opens the application's own file"


def test_the_page_names_each_point_and_each_name() -> None:
    table = re.findall(r'^\| `"(.*?)"` \|', PAGE, re.MULTILINE)
    assert sorted(table) == sorted(get_args(kit.Point))
    for name in {*kit.__all__} - {"Clock", "Point", "Sent"}:
        assert name in PAGE, name
