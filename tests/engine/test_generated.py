"""The generated modules are those that the definitions give."""

from __future__ import annotations

from pathlib import Path

import pytest

from durableq.engines.sql.definitions import generation
from scripts import write_statements

MODULES = write_statements.modules()


def test_numbered_parameters_have_the_order_that_is_stated() -> None:
    text = "SELECT 1 WHERE a = :a AND b = :b AND c = :a AND d = '::a'"
    assert generation.in_order(text, ("b", "a"), "?") == (
        "SELECT 1 WHERE a = ?2 AND b = ?1 AND c = ?2 AND d = '::a'"
    )
    assert generation.names_in(text) == ["a", "b"]
    for wrong in (("a",), ("a", "b", "c")):
        with pytest.raises(ValueError, match="not that of all parameters"):
            generation.in_order(text, wrong, "$")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_generated_module_is_up_to_date(path: Path) -> None:
    says = f"{path} is not what the definitions give. Run: make statements"
    assert path.read_text("utf-8") == MODULES[path], says
