"""The tools to plant a bug in the texts of statements, of both SQL engines, and of functions."""

from __future__ import annotations

import re
from operator import itemgetter
from types import ModuleType
from typing import Any, Final

from durableq.engines.postgres import functions
from durableq.engines.postgres import statements as of_postgres
from durableq.engines.sql.dialect import Named, RowStatement
from durableq.engines.sqlite import statements as of_sqlite

#: A named parameter in a text that is to be replaced.
PARAMETER: Final = re.compile(r":(\w+)")
#: The same parameter in a text of SQLite, by its name or number, and in one of PostgreSQL.
_GIVEN: Final = r"(?P<given>:\1|\\?\\d+|\\$\\d+(?:::\\w+(?: COLLATE \"C\")?)?)"


def rewrite(name: str, old: str, new: str) -> None:
    """Change the texts of a statement of both engines, in all of its forms.

    Args:
        name: of the statement.
        old: the text to replace, as in SQLite's; one parameter in it, `:name`, is found by its
            number too.
        new: the text in its place, with the same parameter. Both databases must take it: truth is
            `true` and `false`, and a parameter stays beside its column, for PostgreSQL counts it
            and learns its type there.
    """
    for module in (of_sqlite, of_postgres):
        _rewrite(module, name, old, new)


def _rewrite(module: Any, name: str, old: str, new: str) -> None:
    text = getattr(module, name)
    changed = replaced(text, old, new)
    setattr(module, name, Named(changed, text.names) if isinstance(text, Named) else changed)
    if hasattr(module, f"{name}_ONE"):
        _rewrite(module, f"{name}_ONE", old, new)
    if hasattr(module, f"{name}_ROWS"):
        rows = getattr(module, f"{name}_ROWS")
        setattr(module, f"{name}_ROWS", _with_text(module, rows, changed))


def _with_text(module: ModuleType, rows: RowStatement, named: str) -> RowStatement:
    """Return a statement for rows; SQLite's has one place for each use of a parameter."""
    if module is of_postgres:
        return rows._replace(text=named)
    return RowStatement(PARAMETER.sub("?", named), itemgetter(*PARAMETER.findall(named)))


def replaced(text: str, old: str, new: str) -> str:
    """Return a text with a part replaced; see `rewrite`."""
    text = " ".join(text.split())
    wanted = PARAMETER.sub(_GIVEN, re.escape(old)).replace('"', '"?')
    found = re.search(wanted, text)
    if found is None:
        raise AssertionError(f"{old!r} is not in {text!r}: plant the bug anew")
    given = found.groupdict().get("given", "")
    return text.replace(found[0], PARAMETER.sub(lambda _: given, new) if given else new)


def change(before: str, after: str) -> None:
    """Replace a part of PostgreSQL's functions that have it."""
    changed = {
        name: text.replace(before, after)
        for name, text in functions.FUNCTIONS.items()
        if before in text
    }
    if not changed:
        raise AssertionError(f"No function has {before!r}: plant the bug anew")
    functions.FUNCTIONS.update(changed)
