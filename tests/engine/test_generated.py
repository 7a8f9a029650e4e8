"""The generated modules are those that the definitions give."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts import write_statements

MODULES = write_statements.modules()


@pytest.mark.parametrize("path", MODULES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_generated_module_is_up_to_date(path: Path) -> None:
    says = f"{path} is not what the definitions give. Run: make statements"
    assert path.read_text("utf-8") == MODULES[path], says
