"""The part of the SQL engines that differs by database, as operations use it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:  # the list of names, which only types need
    from durableq.engines.sql.statements import Statements


class RowStatement(NamedTuple):
    """A statement for many rows.

    Its parameters are positional: to bind a value by its name costs 0.3 microseconds.
    """

    text: str
    #: Picks the values of a row in the order of the text.
    pick: Callable[[Mapping[str, Any]], Any]


class Named(str):
    """A text with numbered parameters, for a database whose parameters have no names.

    Args:
        text: the text.
        names: the names of the parameters, in order of their numbers.
    """

    __slots__ = ("names",)

    names: tuple[str, ...]

    def __new__(cls, text: str, names: tuple[str, ...]) -> Named:
        """Return the text with its names."""
        named = super().__new__(cls, text)
        named.names = names
        return named


class Dialect(NamedTuple):
    """One database's texts of the statements, and its form of a list.

    Args:
        statements: the generated texts.
        list_of: turns a list of numbers or texts into the value of a parameter of `in_list`.
        has_one_writer: whether one write transaction is open at a time, so that a receive may count
            the leases of others, and its connection goes on with what it knows.
    """

    statements: Statements
    list_of: Callable[[list[int] | list[str]], Any]
    has_one_writer: bool
