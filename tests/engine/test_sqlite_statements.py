"""Rules of the statements of SQLite."""

import re

import pytest

from durableq.engines.sql.dialect import RowStatement
from durableq.engines.sqlite import statements

TEXTS = {
    name: " ".join((made.text if isinstance(made, RowStatement) else made).split())
    for name, made in vars(statements).items()
    if name.isupper() and isinstance(made, (str, RowStatement))
}
RETURNING = [name for name, text in TEXTS.items() if " RETURNING " in text]
COLUMN = re.compile(r'(\w+\.)?("\w+"|\w+)( AS "?\w+"?)?')


@pytest.mark.parametrize("name", RETURNING)
def test_a_returning_has_columns_only(name: str) -> None:
    """SQLite 3.40 takes a column there for NOT NULL if the one before it is."""
    for part in TEXTS[name].partition(" RETURNING ")[2].split(", "):
        assert COLUMN.fullmatch(part), part
