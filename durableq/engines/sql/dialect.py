"""Statements as SQLAlchemy Core, compiled for one dialect on first use and run through the driver.

Core's own execute triples the cost of handling a single message. A compiled statement with constant
text stays in the driver's statement cache and costs as much as hand-written SQL.

The elements below have no standard form in SQL. An engine compiles them for its database with
`sqlalchemy.ext.compiler.compiles`, in its module `dialect`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, NamedTuple

import sqlalchemy
from sqlalchemy import BigInteger, Boolean, Integer, LargeBinary, bindparam
from sqlalchemy.sql.expression import ClauseElement, ColumnElement
from sqlalchemy.sql.functions import FunctionElement


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
        bind_list: turns numbers or texts into the value of a parameter of `in_list`.
    """

    sqlalchemy: sqlalchemy.Dialect
    bind_list: Callable[[Iterable[int] | Iterable[str]], Any]


class Statement:
    """The definition of a statement, the same for every database. Its text is constant."""

    __slots__ = ("construct",)

    def __init__(self, construct: ClauseElement) -> None:
        self.construct = construct


class Compiled(NamedTuple):
    """A statement in the SQL of one database.

    Args:
        sql: the text.
        pick: turns values by name into the parameters in the order of the text.
        constants: parameters whose values are part of the definition, such as a fixed LIMIT.
    """

    sql: str
    pick: Callable[[Mapping[str, Any]], tuple[Any, ...]]
    constants: dict[str, Any]


class Statements(dict[Statement, Compiled]):
    """Compiled statements of one engine instance, each compiled on first use.

    Args:
        dialect: the database to compile for; its parameters are positional.
    """

    __slots__ = ("dialect",)

    def __init__(self, dialect: Dialect) -> None:
        super().__init__()
        self.dialect = dialect

    def __missing__(self, statement: Statement) -> Compiled:
        compiled: Any = statement.construct.compile(dialect=self.dialect.sqlalchemy)
        names: tuple[str, ...] = tuple(compiled.positiontup or ())
        constants = {n: compiled.params[n] for n in names if compiled.params[n] is not None}
        pick: Callable[[Mapping[str, Any]], tuple[Any, ...]]
        if len(names) > 1:
            pick = itemgetter(*names)
        elif names:
            pick = _pick_one(names[0])
        else:
            pick = _pick_none
        self[statement] = made = Compiled(compiled.string, pick, constants)
        return made


def _pick_one(name: str) -> Callable[[Mapping[str, Any]], tuple[Any, ...]]:
    return lambda values: (values[name],)


def _pick_none(_: Mapping[str, Any]) -> tuple[Any, ...]:
    return ()
