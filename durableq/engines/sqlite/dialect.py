"""SQLite's texts of the shared statements, and its form of a list."""

from __future__ import annotations

import json
from typing import Any, Final

from durableq.engines.sql.dialect import Dialect
from durableq.engines.sql.transactions import Transaction
from durableq.engines.sqlite import statements

#: A list is a JSON array, for json_each.
DIALECT: Final = Dialect(statements, json.JSONEncoder(check_circular=False).encode)


def transaction(raw: Any) -> Transaction:
    """Return a transaction on a driver connection that belongs to no Database."""
    return Transaction(raw, DIALECT)
