"""SQLAlchemy on the database, for an application's own statements and for Alembic."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import sqlalchemy
from sqlalchemy.pool import NullPool

from durableq.engines.postgres.errors import translate
from durableq.model.errors import InvalidInput
from durableq.model.text import shown

if TYPE_CHECKING:
    from durableq.engines.postgres.database import Database


class _Handed:
    """A connection of the driver whose end is not SQLAlchemy's."""

    def __init__(self, connection: Any) -> None:
        object.__setattr__(self, "_connection", connection)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._connection, name, value)

    def close(self) -> None:
        """Do nothing: the transaction goes on."""

    commit = rollback = close


class SQLAlchemyAdapter:
    """An engine on the database, and views of open connections.

    Args:
        database: opens the connections.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._handed = threading.local()
        self.engine = sqlalchemy.create_engine("postgresql+psycopg://", pool=database.pool)
        self._views = sqlalchemy.create_engine(
            "postgresql+psycopg://", creator=self._hand_over, poolclass=NullPool
        )

    def view(self, connection: Any) -> sqlalchemy.Connection:
        """Return an open connection of the driver as SQLAlchemy's, which ends nothing."""
        self._handed.connection = connection
        try:
            return self._views.connect()
        finally:
            self._handed.connection = None

    def execute(
        self, connection: sqlalchemy.Connection, statement: Any, parameters: Any
    ) -> sqlalchemy.CursorResult[Any]:
        """Run a user's statement: SQLAlchemy, or SQL text with `:name` parameters.

        Raises:
            StorageFull, DatabaseUnusable: errors of the server, not of the statement.
            InvalidInput: it is no statement.
            sqlalchemy.exc.DBAPIError: any other error.
        """
        if not isinstance(statement, str | sqlalchemy.Executable):
            raise InvalidInput(f"A statement is SQLAlchemy's, or SQL text, got {shown(statement)}.")
        if isinstance(statement, str):
            statement = sqlalchemy.text(statement)
        try:
            return connection.execute(statement, parameters)
        except sqlalchemy.exc.DBAPIError as error:
            raise translate(error.orig, self._database.location.shown) or error from error

    def _hand_over(self) -> Any:
        return _Handed(self._handed.connection)
