"""The compilation of the definitions of durableq.engines.sql.definitions for PostgreSQL."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.ext.compiler import compiles

from durableq.engines.sql.definitions.elements import (
    bytes_literal,
    fits,
    given_id,
    has_text,
    in_list,
    last_id,
    take_id,
)


@compiles(in_list, "postgresql")
def _in_list(element: in_list, compiler: Any, **kw: Any) -> str:
    column, values = (compiler.process(clause, **kw) for clause in element.clauses)
    return f"{column} = ANY ({values})"


@compiles(bytes_literal, "postgresql")
def _bytes_literal(element: bytes_literal, _compiler: Any, **_: Any) -> str:
    return f"'\\x{element.value.hex()}'::bytea"


@compiles(fits, "postgresql")
def _fits(element: fits, compiler: Any, **kw: Any) -> str:
    r"""Return a condition that does not read the body, for each change of a message checks it.

    Bytes are stored as `\x` and two digits for each.
    """
    (column,) = element.clauses
    return f"octet_length({compiler.process(column, **kw)}) <= {2 * element.most + 2}"


@compiles(has_text, "postgresql")
def _has_text(element: has_text, compiler: Any, **kw: Any) -> str:
    r"""Return a condition that bytes, stored as `\x` and their digits, do not meet."""
    column, text = (compiler.process(clause, **kw) for clause in element.clauses)
    return f"(left({column}, 2) <> '\\x' AND strpos({column}, {text}) > 0)"


@compiles(last_id, "postgresql")
def _last_id(element: last_id, _compiler: Any, **_: Any) -> str:
    return f"coalesce(pg_sequence_last_value('{element.table_name}_id_seq'), 0)"


@compiles(given_id, "postgresql")
def _given_id(element: given_id, compiler: Any, **kw: Any) -> str:
    """Return a call that counts the sequence up to the id, and returns it."""
    (value,) = element.clauses
    return f"setval('{element.table_name}_id_seq', {compiler.process(value, **kw)})"


@compiles(take_id, "postgresql")
def _take_id(element: take_id, _compiler: Any, **_: Any) -> str:
    return f"SELECT nextval('{element.table_name}_id_seq')"


_dialect: Any = PGDialect_psycopg  # its constructor has no types
DIALECT: Final[Any] = _dialect(paramstyle="named")
