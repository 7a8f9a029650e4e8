"""SQLAlchemy on the database, for an application's own statements and for Alembic."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy
from sqlalchemy import event
from sqlalchemy.pool import ConnectionPoolEntry, Pool

from durableq.engines.postgres.driver import driver
from durableq.model.errors import InvalidInput
from durableq.model.text import shown

if TYPE_CHECKING:
    from durableq.engines.postgres.database import Database
    from durableq.engines.postgres.driver import Link


class _Lent(Pool):
    """A pool of one connection, which goes on when SQLAlchemy has done with it."""

    def _do_get(self) -> ConnectionPoolEntry:
        return self._create_connection()

    def _do_return_conn(self, record: ConnectionPoolEntry) -> None:
        """Leave it open."""


class _View(sqlalchemy.Connection):
    """A connection of ours; other connections of the engine are the application's own."""


class SQLAlchemyAdapter:
    """An engine on the database with connections of its own, and views of open connections.

    Ours commit each statement by themselves, which SQLAlchemy would not expect.

    Args:
        database: opens the connections.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self.engine = sqlalchemy.create_engine("postgresql+psycopg://", creator=self._connect)
        # SQLAlchemy asks the server about itself once, and rolls back: not in a transaction.
        self.engine.connect().close()
        self.engine.dispose()
        event.listen(self.engine, "handle_error", self._meaning, retval=True)

    def view(self, link: Link) -> sqlalchemy.Connection:
        """Return a connection of ours as SQLAlchemy's, in the transaction that is open."""
        raw: Any = link.connection
        pool = _Lent(lambda: raw, reset_on_return=None)
        return _View(self.engine, connection=pool.connect())

    def execute(
        self, connection: sqlalchemy.Connection, statement: Any, parameters: Any
    ) -> sqlalchemy.CursorResult[Any]:
        """Run a user's statement: SQLAlchemy, or SQL text with `:name` parameters.

        Raises:
            Busy, StorageFull, DatabaseUnusable: errors of the server, not of the statement.
            Conflict: an earlier statement has failed.
            InvalidInput: it is no statement.
            sqlalchemy.exc.DBAPIError: any other error.
        """
        if not isinstance(statement, str | sqlalchemy.Executable):
            raise InvalidInput(f"A statement is SQLAlchemy's, or SQL text, got {shown(statement)}.")
        if isinstance(statement, str):
            statement = sqlalchemy.text(statement)
        return connection.execute(statement, parameters)

    def _meaning(self, context: sqlalchemy.ExceptionContext) -> Exception | None:
        """Return durableq's error for one of a statement in a transaction of ours, or None."""
        error = context.original_exception
        if not isinstance(context.connection, _View) or not isinstance(error, driver.Error):
            return None
        meaning: Exception | None = self._database.meaning(error, in_own_statement=False)
        return meaning

    def let_go(self) -> None:
        """In a forked child: leave the parent's connections alone."""
        self.engine.dispose(close=False)

    def _connect(self) -> Any:
        return self._database.connect(autocommit=False)
