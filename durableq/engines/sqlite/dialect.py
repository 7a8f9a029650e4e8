"""SQLite's texts of the shared statements, and its form of a list."""

from __future__ import annotations

from json.encoder import encode_basestring_ascii
from typing import Any, Final

from durableq.engines.sql.dialect import Dialect
from durableq.engines.sql.transactions import Transaction
from durableq.engines.sqlite import statements


def list_of(values: list[int] | list[str]) -> str:
    """Return a list as a JSON array, for json_each."""
    # The encoder of `json.dumps` is made anew for each list, which costs 15 microseconds.
    if values and isinstance(values[0], str):
        return f"[{','.join(map(encode_basestring_ascii, values))}]"
    return str(values)


DIALECT: Final = Dialect(statements, list_of, has_one_writer=True)


def transaction(raw: Any) -> Transaction:
    """Return a transaction on a driver connection that belongs to no Database."""
    return Transaction(raw, DIALECT)
