"""Statements as SQLAlchemy Core, compiled for one dialect on first use and run through the driver.

Core's own execute triples the cost of handling a single message. A compiled statement with constant
text stays in the driver's statement cache and costs as much as hand-written SQL.

The elements below have no standard form in SQL. An engine compiles them for its database with
`sqlalchemy.ext.compiler.compiles`, in its module `dialect`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Final

import sqlalchemy
from sqlalchemy import (
    BigInteger,
    BindParameter,
    Boolean,
    Integer,
    LargeBinary,
    bindparam,
    literal_column,
)
from sqlalchemy.sql.expression import ClauseElement, ColumnElement
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.sql.visitors import replacement_traverse


class in_list(FunctionElement[bool]):  # noqa: N801 - reads as SQL where it is used
    """The condition `column IN list`, with the list in one parameter: constant text at any length.

    Args:
        column: the column.
        parameter: the parameter's name; its value comes from `Transaction.list_of`.
    """

    type = Boolean()
    inherit_cache = True

    def __init__(self, column: ColumnElement[Any], parameter: str) -> None:
        super().__init__(column, bindparam(parameter))

    def self_group(self, against: Any = None) -> Any:
        """Return the element itself: a condition is not compared with 1."""
        return self


class byte_length(FunctionElement[int]):  # noqa: N801
    """The number of bytes in a text or binary column."""

    type = Integer()
    inherit_cache = True


class last_id(FunctionElement[int]):  # noqa: N801
    """The highest id that a table has given to a row; 0 if it never had one.

    Args:
        table: a table whose ids are never used twice.
    """

    type = BigInteger()
    inherit_cache = False

    def __init__(self, table: sqlalchemy.Table) -> None:
        super().__init__()
        self.table_name = table.name


class bytes_literal(ColumnElement[bytes]):  # noqa: N801
    """Constant bytes as part of the statement's text."""

    type = LargeBinary()
    inherit_cache = False

    def __init__(self, value: bytes) -> None:
        self.value = value


@dataclass(frozen=True, slots=True)
class Dialect:
    """The differences between databases that statements depend on.

    Args:
        sqlalchemy: compiles the statements, including the elements of this module.
        bind_list: turns a list of numbers or texts into the value of a parameter of `in_list`.
    """

    sqlalchemy: sqlalchemy.Dialect
    bind_list: Callable[[list[int] | list[str]], Any]


_PARAMETER: Final = re.compile(r"(?<![:\w]):(\w+)")


class Statement:
    """The definition of a statement, the same for every database. Its text is constant."""

    __slots__ = ("construct",)

    def __init__(self, construct: ClauseElement) -> None:
        self.construct = construct


class Statements(dict[Statement, str]):
    """The SQL of each statement for one database, with named parameters, compiled on first use.

    A statement is run with a dictionary of values; names that are not in the text are ignored.

    Args:
        dialect: the database to compile for.
    """

    __slots__ = ("dialect", "rows")

    def __init__(self, dialect: Dialect) -> None:
        super().__init__()
        self.dialect = dialect
        self.rows = RowStatements(self)

    def __missing__(self, statement: Statement) -> str:
        construct: Any = replacement_traverse(statement.construct, {}, _as_text)
        self[statement] = sql = str(construct.compile(dialect=self.dialect.sqlalchemy))
        return sql


class RowStatements(dict[Statement, tuple[str, Callable[[Mapping[str, Any]], Any]]]):
    """Statements of two or more parameters for many rows, each with the choice of its values.

    Their parameters are positional: to bind a value by its name costs 0.3 microseconds.

    Args:
        statements: the statements with named parameters.
    """

    __slots__ = ("_statements",)

    def __init__(self, statements: Statements) -> None:
        super().__init__()
        self._statements = statements

    def __missing__(self, statement: Statement) -> tuple[str, Callable[[Mapping[str, Any]], Any]]:
        text = self._statements[statement]
        pick = itemgetter(*_PARAMETER.findall(text))
        self[statement] = found = _PARAMETER.sub("?", text), pick
        return found


def _as_text(element: Any, **_: Any) -> Any:
    """Return a number of the definition, such as a fixed LIMIT, as a part of the text."""
    if isinstance(element, BindParameter) and element.value is not None:
        return literal_column(str(int(element.value)))
    return None
