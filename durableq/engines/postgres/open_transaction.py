"""The write transaction on a database that user code may join through SQLAlchemy."""

from __future__ import annotations

import itertools
import os
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy

from durableq.engines.postgres.driver import driver
from durableq.engines.postgres.session import Session, Write, values_of
from durableq.model.errors import Conflict

if TYPE_CHECKING:
    from durableq.engines.postgres.database import Database

_numbers: Final = itertools.count(1)


class UserWrite(Write):
    """A write transaction that user code may join through SQLAlchemy.

    No lock of ours is held while user code runs. If a lease is lost meanwhile, the end finds it
    and undoes everything.

    Args:
        database: the tables.
    """

    must_lock = True
    is_alone = False
    _view: sqlalchemy.Connection | None = None

    def __init__(self, database: Database) -> None:
        self._token = f"{os.getpid()}-{next(_numbers)}"
        super().__init__(database, database.begin_beside(self._token))

    @property
    def driver_error(self) -> type[Exception]:
        """Base class of the driver's errors."""
        return driver.Error

    def begin(self) -> Session:
        """Begin it."""
        _ = self.database.adapter  # it imports SQLAlchemy's dialect: not in the transaction
        if self.database.time.is_due() and self.database.inside is None:
            with self.database.write():  # which renews the stored time
                pass
        session = super().begin()
        session.has_lock = False
        self.database.mark("inside", self)
        return session

    def leave(self) -> None:
        """Undo what was not committed, and give the connection back."""
        if self.session is not None and self.database.inside is self.session:
            self.database.mark("inside", None)
        super().leave()
        self._view = None

    def lock(self) -> None:
        """Write alone from here to the end.

        It takes the lock each time: ROLLBACK TO a savepoint of user code gives it up.

        Raises:
            Conflict: a statement of user code has ended the transaction, and begun another.
        """
        session = self.session
        assert session is not None  # noqa: S101 - the block is open
        token, now_ms = values_of(
            session.link.execute_text(self.database.lock_in_transaction, prepare=False)
        )
        session.has_lock = True
        if token != self._token:
            raise self.ended()
        session.set_moment(now_ms)

    def ended(self) -> Exception:
        """Return the refusal of statements after one that has ended the transaction."""
        session = self.session
        if session is not None and session.link.connection.closed:
            return self.database.lost("it was closed in the transaction")
        return Conflict(
            "A statement ended this transaction (COMMIT or ROLLBACK), so nothing more is written "
            "in it and the message is not settled. Leave its end to the `with` block."
        )

    def execute(self, statement: Any, parameters: Any) -> sqlalchemy.CursorResult[Any]:
        """Run a user's statement: SQLAlchemy, or SQL text with `:name` parameters."""
        return self.database.adapter.execute(self._viewed(), statement, parameters)

    def connection(self) -> sqlalchemy.Connection:
        """Return its connection as SQLAlchemy's, which takes part in it."""
        view = self._viewed()
        if not view.in_transaction():
            view.begin()  # or a Session would begin one, and end it
        return view

    def _viewed(self) -> sqlalchemy.Connection:
        if self._view is None or self._view.invalidated:
            assert self.session is not None  # noqa: S101 - the block is open
            self._view = self.database.adapter.view(self.session.link)
        return self._view
