"""The rows that user code writes with a message: SQLAlchemy on a SQLite database in memory.

It is imported when an application asks for it: the import of SQLAlchemy takes half a second.
"""

from __future__ import annotations

import uuid
import weakref
from collections.abc import Callable
from typing import Any, Final

import sqlalchemy
from sqlalchemy import event
from sqlalchemy.pool import NullPool

from durableq.engines.orm import TransactionSession
from durableq.model.errors import Conflict, InvalidInput
from durableq.model.text import shown
from durableq.store.core import ENDED_BY_STATEMENT

#: Longest wait for another connection's transaction.
_WAIT_SECONDS: Final = 5


class Rows:
    """A SQLite database in the memory of this process. It lives as long as this object."""

    def __init__(self) -> None:
        # SQLite's `memdb` has the locks of a file, for all connections that name it.
        self.engine = sqlalchemy.create_engine(
            f"sqlite:///file:/durableq-{uuid.uuid4().hex}?vfs=memdb&uri=true",
            connect_args={
                "isolation_level": None,  # BEGIN is ours, before statements that make tables too
                "check_same_thread": False,
                "timeout": _WAIT_SECONDS,
            },
            poolclass=NullPool,
        )
        event.listen(self.engine, "begin", _begin)
        anchor = self.engine.raw_connection()  # the database ends with its last connection
        weakref.finalize(self, anchor.close)

    def begin(self) -> OpenRows:
        """Begin a transaction."""
        return OpenRows(self.engine.connect())


class OpenRows:
    """A transaction on such a database.

    Args:
        connection: is closed at the end.
    """

    def __init__(self, connection: sqlalchemy.Connection) -> None:
        self._connection = connection
        self._results: list[sqlalchemy.CursorResult[Any]] = []
        self._session: TransactionSession | None = None
        self._transaction = connection.begin()

    def check(self) -> None:
        """Refuse to go on if a statement ended the transaction.

        Raises:
            Conflict: it did.
        """
        raw: Any = self._connection.connection.driver_connection
        if not raw.in_transaction:
            raise Conflict(ENDED_BY_STATEMENT)

    def execute(self, statement: Any, parameters: Any) -> sqlalchemy.CursorResult[Any]:
        """Run a statement: SQLAlchemy, or SQL text with `:name` parameters.

        Raises:
            InvalidInput: it is no statement, or a text in it is not UTF-8.
        """
        if not isinstance(statement, str | sqlalchemy.Executable):
            raise InvalidInput(f"A statement is SQLAlchemy's, or SQL text, got {shown(statement)}.")
        if isinstance(statement, str):
            statement = sqlalchemy.text(statement)
        try:
            result = self._connection.execute(statement, parameters)
        except UnicodeEncodeError as error:
            says = "The statement, or one of its parameters, contains a lone surrogate."
            raise InvalidInput(says) from error
        if result.returns_rows:
            self._results.append(result)
        return result

    def session(self, check: Callable[[], None]) -> TransactionSession:
        """Return the Session in it, made at its first use."""
        if self._session is None:
            self._session = TransactionSession(self._connection, check)
        return self._session

    def write_pending(self) -> None:
        """Flush the Session."""
        if self._session is not None:
            self._session.write_pending()

    def end(self, *, commit: bool) -> None:
        """Close the Session and results that were not read to their end, and commit or undo."""
        try:
            if self._session is not None:
                self._session.detach()
            for result in self._results:
                result.close()
            if commit:
                self.check()
                self._transaction.commit()
        finally:
            self._connection.close()


def _begin(connection: sqlalchemy.Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")
