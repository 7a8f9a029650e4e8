"""The transaction that `message.transaction()` gives to user code, which SQLAlchemy may join."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from durableq.engines.sql import sending, settling
from durableq.engines.sql.transactions import AllOrNothing
from durableq.engines.sqlite.database import Database
from durableq.engines.sqlite.errors import translate
from durableq.engines.sqlite.session import FORKED, Session
from durableq.model.errors import Conflict, InvalidInput, StaleReceipt
from durableq.model.message import Completion, Draft, Failure, Receipt
from durableq.model.text import shown
from durableq.store.core import OTHER_THREAD

if TYPE_CHECKING:
    import sqlalchemy


@contextmanager
def write_with_user_code(database: Database) -> Iterator[Session]:
    """Run a write transaction that user code may join through SQLAlchemy; see `joined`."""
    _ = database.adapter  # imports SQLAlchemy, which takes half a second: not under the write lock
    session = database.write()
    if _begun(session) is not None and not session.raw.in_transaction:
        database.part_with(session)  # a KeyboardInterrupt came before SQLAlchemy's own end
        session = database.write()
    is_begun = False
    try:
        with session:
            is_begun = True
            session.check_revision()  # not after the user's code
            yield session
    finally:
        if is_begun:
            session.abandon()  # if a KeyboardInterrupt came before the session's own end
            session.give_turn()
            begun = _begun(session) if session.pid == os.getpid() else None
            if begun is not None:
                begun.close()  # nothing is left to undo; SQLAlchemy forgets the transaction


def joined(database: Database, session: Session) -> sqlalchemy.Connection:
    """Return a session's connection as SQLAlchemy's, which takes part in the open transaction."""
    connection = session.sqlalchemy
    if connection is None:
        connection = session.sqlalchemy = database.adapter.view(session.raw)
    if not connection.in_transaction():
        connection.begin()  # our listener sees the open transaction
    return connection


def _begun(session: Session) -> sqlalchemy.RootTransaction | None:
    return None if session.sqlalchemy is None else session.sqlalchemy.get_transaction()


class OpenTransaction:
    """The Transaction that user code holds."""

    def __init__(self, database: Database, tx: Session, actor: str) -> None:
        self._database = database
        self._tx = tx
        self._actor = actor
        self._results: list[sqlalchemy.CursorResult[Any]] = []
        self._thread = threading.get_ident()
        self._pid = os.getpid()
        self._ended = False

    def execute(self, statement: Any, parameters: Any = None) -> Any:
        """Run a statement: SQLAlchemy, or SQL text with `:name` parameters."""
        import sqlalchemy

        self._check()
        if isinstance(statement, str):
            statement = sqlalchemy.text(statement)
        if not isinstance(statement, sqlalchemy.Executable):
            raise InvalidInput(f"A statement is SQLAlchemy's, or SQL text, got {shown(statement)}.")
        result = self._run(statement, parameters)
        if result.returns_rows:
            self._results.append(result)
        return result

    def _run(self, statement: Any, parameters: Any) -> sqlalchemy.CursorResult[Any]:
        """Run a user's statement.

        Raises:
            StorageFull, DatabaseUnusable: errors of the file, not of the statement.
            InvalidInput: a text is not UTF-8.
            sqlalchemy.exc.DBAPIError: any other error.
        """
        import sqlalchemy

        try:
            return joined(self._database, self._tx).execute(statement, parameters)
        except sqlalchemy.exc.DBAPIError as error:
            path = self._database.location.path
            raise translate(error.orig, path, in_own_statement=False) or error from error
        except UnicodeEncodeError as error:
            says = "The statement, or one of its parameters, contains a lone surrogate."
            raise InvalidInput(says) from error

    def send(self, queue: str, drafts: Sequence[Draft]) -> list[str]:
        """Send messages that exist only if this transaction commits."""
        self._check()
        with AllOrNothing(self._tx.raw):
            return sending.send(self._tx, queue, drafts)

    def settle(
        self,
        completions: Sequence[Completion],
        failures: Sequence[tuple[Receipt, Failure]],
    ) -> None:
        """Say how the messages end; all are still held, or everything is undone."""
        self._check()
        outcomes = settling.complete(self._tx, completions)
        outcomes += settling.fail(self._tx, failures, self._actor)
        receipts = [c.receipt for c in completions] + [receipt for receipt, _ in failures]
        for receipt, outcome in zip(receipts, outcomes, strict=True):
            if outcome.refused:
                raise StaleReceipt(receipt.message_id, outcome.why)

    def end(self) -> None:
        """Refuse further statements, and close unread results.

        An open result would keep this thread's read snapshot: after a write of another process,
        SQLite would refuse every later write of this thread.
        """
        self._ended = True
        for result in self._results:
            result.close()

    def _check(self) -> None:
        """Refuse statements outside the transaction: each would commit by itself.

        Raises:
            Conflict: the block is over, a statement in it ended the transaction, or this process
                was forked inside it.
        """
        if self._ended:
            raise Conflict("This transaction is over: use it inside its `with` block.")
        if os.getpid() != self._pid:
            raise Conflict(FORKED)
        if threading.get_ident() != self._thread:
            raise Conflict(OTHER_THREAD)
        if not self._tx.raw.in_transaction:
            raise Conflict(
                "A statement ended this transaction (COMMIT, ROLLBACK, or a conflict that is "
                "resolved by ROLLBACK), so nothing more is written in it and the message is not "
                "settled. Leave its end to the `with` block."
            )
