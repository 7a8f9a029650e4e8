"""The compilation of the definitions of durableq.engines.sql.definitions for SQLite."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import Select
from sqlalchemy.dialects.sqlite.base import SQLiteCompiler
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
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


class _Compiler(SQLiteCompiler):
    def limit_clause(self, select: Select[Any], **kw: Any) -> str:
        """Return LIMIT and OFFSET with their parameters as sums.

        SQLite prepares a statement anew at each execution if LIMIT has a bare parameter.
        """
        limit, offset = select._limit_clause, select._offset_clause
        text = "\n LIMIT -1" if limit is None else f"\n LIMIT ({self.process(limit, **kw)}+0)"
        return text if offset is None else f"{text} OFFSET ({self.process(offset, **kw)}+0)"

    def get_from_hint_text(self, table: Any, text: str | None) -> str | None:
        """Return the hint that names the index to read, to stand behind a table's name."""
        return f"INDEXED BY {text}"


class _SQLite(SQLiteDialect_pysqlite):
    statement_compiler = _Compiler
    supports_statement_cache = True


@compiles(in_list, "sqlite")
def _in_list(element: in_list, compiler: Any, **kw: Any) -> str:
    column, values = (compiler.process(clause, **kw) for clause in element.clauses)
    return f"{column} IN (SELECT value FROM json_each({values}))"  # noqa: S608


@compiles(bytes_literal, "sqlite")
def _bytes_literal(element: bytes_literal, _compiler: Any, **_: Any) -> str:
    return f"x'{element.value.hex()}'"


@compiles(fits, "sqlite")
def _fits(element: fits, compiler: Any, **kw: Any) -> str:
    """Return a condition for every SQLite: octet_length came with 3.43."""
    (column,) = element.clauses
    return f"length(CAST({compiler.process(column, **kw)} AS BLOB)) <= {element.most}"


@compiles(has_text, "sqlite")
def _has_text(element: has_text, compiler: Any, **kw: Any) -> str:
    column, text = (compiler.process(clause, **kw) for clause in element.clauses)
    return f"(typeof({column}) = 'text' AND instr({column}, {text}) > 0)"


@compiles(last_id, "sqlite")
def _last_id(element: last_id, _compiler: Any, **_: Any) -> str:
    table = f"'{element.table_name}'"
    return f"coalesce((SELECT seq FROM sqlite_sequence WHERE name = {table}), 0)"  # noqa: S608


@compiles(given_id, "sqlite")
def _given_id(element: given_id, compiler: Any, **kw: Any) -> str:
    (value,) = element.clauses
    text: str = compiler.process(value, **kw)
    return text


@compiles(take_id, "sqlite")
def _take_id(element: take_id, _compiler: Any, **_: Any) -> str:
    next_id = "UPDATE sqlite_sequence SET seq = seq + 1"
    return f"{next_id} WHERE name = '{element.table_name}' RETURNING seq"


DIALECT: Final = _SQLite(paramstyle="named")
