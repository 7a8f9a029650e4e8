"""SQLAlchemy on the file, for an application's own statements and for Alembic.

No operation of durableq needs SQLAlchemy, and its import takes longer than most commands. So this
module is imported when an application asks for it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import sqlalchemy
from sqlalchemy import event
from sqlalchemy.dialects import sqlite
from sqlalchemy.pool import NullPool

from durableq.engines.sqlite.driver import driver
from durableq.engines.sqlite.errors import translate
from durableq.model.errors import InvalidInput
from durableq.model.text import shown

if TYPE_CHECKING:
    from durableq.engines.sqlite.database import Database

TEXTS_KEPT: Final = 128
_DIALECT: Final = sqlite.dialect()
_DICT: Final = {dict}


class _Text(NamedTuple):
    """SQL text with `:name` parameters, as SQLAlchemy reads it and as the driver takes it."""

    statement: sqlalchemy.TextClause
    #: With `?` for each parameter; how to pick their values from a mapping.
    sql: str
    pick: Callable[[Any], tuple[Any, ...]]


@lru_cache(TEXTS_KEPT)
def _read(text: str) -> _Text:
    statement = sqlalchemy.text(text)
    compiled: Any = statement.compile(dialect=_DIALECT)
    names = compiled.positiontup or ()
    pick = itemgetter(*names) if len(names) > 1 else lambda values: tuple(values[n] for n in names)
    return _Text(statement, compiled.string, pick)


def _execute_text(
    connection: sqlalchemy.Connection, text: str, parameters: Any
) -> sqlalchemy.CursorResult[Any]:
    """Run SQL text.

    For each text() SQLAlchemy reads the parameters, makes the key under which it keeps what it has
    compiled, and compiles the values: 45 microseconds, as long as all else between BEGIN and
    COMMIT. So a text is read once, and its values go to the driver, by the same rules. What is
    unusual, or wrong, is left to SQLAlchemy.
    """
    known = _read(text)
    values: Any = None
    with suppress(KeyError, TypeError):
        if type(parameters) is dict:
            values = known.pick(parameters)
        elif type(parameters) is list and len(parameters) > 1 and {*map(type, parameters)} == _DICT:
            values = [*map(known.pick, parameters)]
    if values is None:
        return connection.execute(known.statement, parameters)
    return connection.exec_driver_sql(known.sql, values)


class _View(sqlalchemy.Connection):
    """A connection of ours; other connections of the engine are the application's own."""


class SQLAlchemyAdapter:
    """An engine on one file, each transaction BEGIN IMMEDIATE, and views of open connections.

    Args:
        database: opens the connections, and is told of their transactions and their ends.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._handed = threading.local()
        self.engine = sqlalchemy.create_engine(
            "sqlite://", module=driver, creator=self._connect, poolclass=NullPool
        )
        # SQLAlchemy tries its first connection out, and rolls back: not the file's.
        self.view(driver.connect(":memory:", isolation_level=None)).close()
        event.listen(self.engine, "begin", database._on_begin)
        event.listen(self.engine, "commit", database._on_commit)
        event.listen(self.engine, "handle_error", self._meaning, retval=True)
        for closing in ("close", "close_detached"):
            event.listen(self.engine, closing, database._on_close)

    def view(self, raw: Any) -> sqlalchemy.Connection:
        """Return an open connection of the driver as SQLAlchemy's, which closes both."""
        self._handed.raw = raw
        try:
            return _View(self.engine)
        finally:
            self._handed.raw = None

    def execute(
        self, connection: sqlalchemy.Connection, statement: Any, parameters: Any
    ) -> sqlalchemy.CursorResult[Any]:
        """Run a user's statement: SQLAlchemy, or SQL text with `:name` parameters.

        Raises:
            StorageFull, DatabaseUnusable: errors of the file, not of the statement.
            InvalidInput: it is no statement.
            sqlalchemy.exc.DBAPIError: any other error.
        """
        if isinstance(statement, str):
            return _execute_text(connection, statement, parameters)
        if not isinstance(statement, sqlalchemy.Executable):
            raise InvalidInput(f"A statement is SQLAlchemy's, or SQL text, got {shown(statement)}.")
        return connection.execute(statement, parameters)

    def _meaning(self, context: sqlalchemy.ExceptionContext) -> Exception | None:
        """Return durableq's error for one of a statement in a transaction of ours, or None."""
        error = context.original_exception
        if not isinstance(context.connection, _View) or not isinstance(error, driver.Error):
            return None
        return translate(error, self._database.location.path, in_own_statement=False)

    def _connect(self) -> Any:
        handed = getattr(self._handed, "raw", None)
        return self._database.connect() if handed is None else handed
