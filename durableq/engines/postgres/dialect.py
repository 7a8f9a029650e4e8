"""PostgreSQL's texts of the shared statements, in the names of one schema."""

from __future__ import annotations

import re
from functools import lru_cache
from types import SimpleNamespace
from typing import Any, Final

from durableq.engines.postgres import statements
from durableq.engines.sql.dialect import Dialect, Named, RowStatement

#: A name of ours that no schema, quote or longer name comes before.
_NAME: Final = re.compile(r'(?<![\w."])durableq_(?=\w)')


def quoted(name: str) -> str:
    """Return a name as an identifier of SQL."""
    return '"' + name.replace('"', '""') + '"'


def qualified(text: str, schema: str) -> str:
    """Return a text with durableq's tables in a schema.

    The caller's own connection, in whose transaction a send takes part, may search other schemas.
    """
    prefix = f"{quoted(schema)}.durableq_"
    in_literal = prefix.replace("'", "''")  # nextval('durableq_message_id_seq')
    return _NAME.sub(
        lambda found: in_literal if text[found.start() - 1 : found.start()] == "'" else prefix, text
    )


@lru_cache(16)
def dialect(schema: str) -> Dialect:
    """Return the dialect for the tables in a schema."""
    named = {
        name: _in_schema(value, schema)
        for name, value in vars(statements).items()
        if name.isupper() and isinstance(value, str | RowStatement)
    }
    texts: Any = SimpleNamespace(**named)
    return Dialect(texts, _list_of, has_one_writer=False)


def _in_schema(statement: str | RowStatement, schema: str) -> str | RowStatement:
    if isinstance(statement, RowStatement):
        return statement._replace(text=qualified(statement.text, schema))
    text = qualified(statement, schema)
    return Named(text, statement.names) if isinstance(statement, Named) else text


def _list_of(values: list[int] | list[str]) -> list[int] | list[str]:
    """Return a list, which PostgreSQL takes as it is."""
    return values
