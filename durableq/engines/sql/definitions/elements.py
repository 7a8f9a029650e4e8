"""The parts that definitions are made of: a statement, its parameters, and elements of its own.

The elements below have no standard form in SQL. An engine compiles them for its database with
`sqlalchemy.ext.compiler.compiles`, in its module `compiler`.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy
from sqlalchemy import (
    BigInteger,
    Boolean,
    LargeBinary,
    Text,
    bindparam,
    literal_column,
)
from sqlalchemy.sql.expression import ClauseElement, ColumnElement, Executable
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.sql.visitors import replacement_traverse
from sqlalchemy.types import UserDefinedType

from durableq.model.message import State


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


class fits(FunctionElement[bool]):  # noqa: N801
    """The condition that a body has at most so many bytes.

    Args:
        column: the body.
        most: the number of bytes.
    """

    type = Boolean()
    inherit_cache = False

    def __init__(self, column: ColumnElement[Any], most: int) -> None:
        super().__init__(column)
        self.most = most


class has_text(FunctionElement[bool]):  # noqa: N801
    """The condition that a JSON body has a text somewhere. Bytes have none.

    Args:
        column: the body.
        parameter: the parameter's name.
    """

    type = Boolean()
    inherit_cache = True

    def __init__(self, column: ColumnElement[Any], parameter: str) -> None:
        super().__init__(column, bindparam(parameter, type_=Text()))


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


class given_id(FunctionElement[int]):  # noqa: N801
    """An id that the caller gives to a new row: one after `last_id`.

    Args:
        table: a table whose ids are never used twice.
        parameter: the parameter's name.
    """

    type = BigInteger()
    inherit_cache = False

    def __init__(self, table: sqlalchemy.Table, parameter: str) -> None:
        super().__init__(bindparam(parameter))
        self.table_name = table.name


class take_id(Executable, ClauseElement):  # noqa: N801
    """The statement that takes the next id of a table and returns it; no row gets it.

    Args:
        table: a table whose ids are never used twice.
    """

    inherit_cache = False

    def __init__(self, table: sqlalchemy.Table) -> None:
        self.table_name = table.name


class bytes_literal(ColumnElement[bytes]):  # noqa: N801
    """Constant bytes as part of the statement's text."""

    type = LargeBinary()
    inherit_cache = False

    def __init__(self, value: bytes) -> None:
        self.value = value


class Statement:
    """The definition of a statement, the same for every database. Its text is constant.

    Args:
        construct: the statement with named parameters.
        order: the names in the order in which their values are given; None: values are given by
            name, which costs the driver half a microsecond for each.
        for_rows: whether it is also run for many rows at once.
        for_one: whether its list also has a form for one value, which costs less.
    """

    __slots__ = ("construct", "for_one", "for_rows", "order")

    def __init__(
        self,
        construct: ClauseElement,
        *,
        order: tuple[str, ...] | None = None,
        for_rows: bool = False,
        for_one: bool = False,
    ) -> None:
        self.construct = construct
        self.order = order
        self.for_rows = for_rows
        self.for_one = for_one

    @property
    def of_one(self) -> ClauseElement:
        """The construct with equality in place of its list."""
        of_one: Any = replacement_traverse(self.construct, {}, _as_equality)
        found: ClauseElement = of_one
        return found


def _as_equality(element: Any, **_: Any) -> Any:
    if isinstance(element, in_list):
        column, value = element.clauses
        return column == value
    return None


def parameter(name: str, column: Any = None) -> Any:
    """Return a named parameter of a statement, of a column's type where the place tells none."""
    return bindparam(name, type_=None if column is None else column.type)


def has_state(column: Any, state: State) -> Any:
    """Return the condition for the state of rows that others of their columns find.

    The sum keeps a database from reading all messages in the state instead, by a partial index:
    PostgreSQL does so where its plan was made while there were few.
    """
    return column + literal_column("0") == literal_column(str(int(state)))


class StrictAny(UserDefinedType[Any]):
    """SQLite's ANY: JSON bodies are stored as text, bytes as a blob, and the value tells."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        """Return the type's name in a STRICT table."""
        return "ANY"
