"""The one SQLite library of this process: pysqlite3's where it is installed and safe.

Two SQLite libraries in one process lose each other's file locks, so every module takes `driver`
from here. Some SQLite versions can corrupt a write-ahead log that several processes checkpoint
(https://sqlite.org/wal.html#walresetbug); `is_affected` names them.
"""

from __future__ import annotations

import importlib
import os
import sqlite3
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from durableq.model.errors import DatabaseUnusable, InvalidInput, UnsupportedSQLite

__all__ = [
    "DRIVER_TIMEOUT_SECONDS",
    "VARIABLE",
    "check_library",
    "choose",
    "dotted",
    "driver",
    "is_affected",
]

#: Environment variable that forces the choice: `pysqlite3` or `stdlib`.
VARIABLE: Final = "DURABLEQ_SQLITE"
#: Longest wait of the driver for a lock, on connections that do not wait through WriteLock.
DRIVER_TIMEOUT_SECONDS: Final = 0.1
#: The oldest version for our SQL: STRICT tables came last (RETURNING: 3.35, UPSERT: 3.24).
OLDEST: Final = (3, 37, 0)


def is_affected(version: tuple[int, ...]) -> bool:
    """Return whether this SQLite version has the WAL-reset bug.

    Affected are 3.7.0 to 3.51.2; 3.44.6 and 3.50.7 carry the fix in their branches.
    """
    fixed = (3, 44, 6) <= version < (3, 45) or (3, 50, 7) <= version < (3, 51)
    return version < (3, 51, 3) and not fixed


def check_library(version: tuple[int, ...]) -> None:
    """Refuse a SQLite that the tables cannot use.

    Raises:
        UnsupportedSQLite: the version is older than OLDEST.
    """
    if version < OLDEST:
        raise UnsupportedSQLite(
            f"SQLite {dotted(version)} is too old: durableq needs {dotted(OLDEST)} or newer "
            "(STRICT tables). Use a Python that brings one, or pip install 'pysqlite3>=0.6.1'."
        )


def dotted(version: tuple[int, ...]) -> str:
    """Return a version as text: 3.51.3."""
    return ".".join(map(str, version))


def choose(environment: Mapping[str, str]) -> Any:
    """Return the DB-API module to use.

    Without the variable: pysqlite3 if it is installed and not affected, otherwise the standard
    library's sqlite3.

    Raises:
        InvalidInput: the variable has another value.
        DatabaseUnusable: it asks for pysqlite3, which is not installed.
    """
    wanted = environment.get(VARIABLE, "")
    if wanted not in {"", "stdlib", "pysqlite3"}:
        raise InvalidInput(
            f"{VARIABLE}={wanted!r} names no SQLite library: use 'pysqlite3' or 'stdlib', "
            "or leave it unset."
        )
    if wanted == "stdlib":
        return sqlite3
    try:
        bundled = importlib.import_module("pysqlite3.dbapi2")
    except ImportError:
        if wanted:
            raise DatabaseUnusable(
                f"{VARIABLE}=pysqlite3, but pysqlite3 is not installed here. Install it "
                "(pip install 'pysqlite3>=0.6.1'), or unset the variable."
            ) from None
        return sqlite3
    return sqlite3 if is_affected(bundled.sqlite_version_info) and not wanted else bundled


if TYPE_CHECKING:
    import sqlite3 as driver
else:
    driver = choose(os.environ)
