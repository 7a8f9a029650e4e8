"""The write transaction on a file that user code may join through SQLAlchemy."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, Final

from durableq.engines.sqlite.database import Database
from durableq.engines.sqlite.driver import driver
from durableq.engines.sqlite.session import Session
from durableq.model.errors import Conflict
from durableq.store.core import ENDED_BY_STATEMENT

if TYPE_CHECKING:
    import sqlalchemy


class _ForeignError(Exception):
    """Stands for an error that says nothing about durableq's file."""


class UserWrite:
    """A write transaction that user code may join through SQLAlchemy; see `joined`.

    It is no generator: Ctrl-C at any line of `contextlib` would leave one suspended, with the
    transaction open.

    Args:
        database: the file.
    """

    driver_error: Final[type[Exception]] = driver.Error
    must_lock = False
    _session: Session | None = None
    _is_ending = False
    #: The driver's error of a statement of ours; others come from the user's own databases.
    _own_error: Exception | None = None

    def __init__(self, database: Database) -> None:
        self._database = database

    def __enter__(self) -> Session:
        return self.begin()

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, driver.Error):
            self._own_error = error
        self.end(error)

    def __del__(self) -> None:
        # Ctrl-C came at the first line of the block's end. Where it comes here, too, the session
        # finds out at its next use: see `Session.end_forgotten`.
        if self._session is not None:
            self._leave(self._session)

    def begin(self) -> Session:
        """Begin it."""
        database = self._database
        # It imports SQLAlchemy, which takes half a second: not under the lock.
        self.adapter = database.adapter
        session = database.write()
        connection = session.sqlalchemy
        if connection and connection.in_transaction() and not session.raw.in_transaction:
            database.part_with(session)  # a KeyboardInterrupt came before SQLAlchemy's own end
            session = database.write()
        this = weakref.ref(self)  # no call stands behind the next one: Ctrl-C could come at its end
        session.__enter__()
        session.user_write, self._session, self._is_ending = this, session, False
        return session

    def end(self, error: BaseException | None) -> None:
        """Commit it, or undo it because of an error. A second call finishes an interrupted one."""
        session = self._session
        if session is None:
            return
        if isinstance(error, driver.Error) and error is not self._own_error:
            error = _ForeignError()
        try:
            if not self._is_ending:
                self._is_ending = True
                session.__exit__(None, error, None)
        finally:
            self._leave(session)

    def lock(self) -> None:
        """Do nothing: the transaction has had the lock from its beginning."""

    def explain(self, error: Exception) -> None:
        """Let the end of the transaction raise what an error of a statement of ours means."""
        self._own_error = error

    def ended(self) -> Conflict:
        """Return the refusal of statements after one that has ended the transaction."""
        return Conflict(ENDED_BY_STATEMENT)

    def execute(self, statement: Any, parameters: Any) -> sqlalchemy.CursorResult[Any]:
        """Run a user's statement: SQLAlchemy, or SQL text with `:name` parameters."""
        session = self._session
        assert session is not None  # noqa: S101 - the block is open
        connection = session.sqlalchemy
        if connection is None or not connection.in_transaction():
            connection = joined(self._database, session)
        return self.adapter.execute(connection, statement, parameters)

    def connection(self) -> sqlalchemy.Connection:
        """Return its connection as SQLAlchemy's, which takes part in it."""
        assert self._session is not None  # noqa: S101 - the block is open
        return joined(self._database, self._session)

    def _leave(self, session: Session) -> None:
        session.abandon()  # if a KeyboardInterrupt came before the session's own end
        self._session = None  # the next transaction of the session is another's
        session.close_user_write()


def joined(database: Database, session: Session) -> sqlalchemy.Connection:
    """Return a session's connection as SQLAlchemy's, which takes part in the open transaction."""
    connection = session.sqlalchemy
    if connection is None:
        connection = session.sqlalchemy = database.adapter.view(session.raw)
    if not connection.in_transaction():
        connection.begin()  # our listener sees the open transaction
    return connection
