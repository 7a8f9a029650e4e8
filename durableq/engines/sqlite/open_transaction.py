"""The transaction that `message.transaction()` gives to user code, which SQLAlchemy may join."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from durableq.engines.sql import held, sending, settling
from durableq.engines.sql.transactions import AllOrNothing
from durableq.engines.sqlite.database import Database
from durableq.engines.sqlite.driver import driver
from durableq.engines.sqlite.session import FORKED, Session
from durableq.model.errors import Conflict, StaleReceipt
from durableq.model.message import Completion, Draft, Failure, Outcome, Receipt
from durableq.store.core import OTHER_THREAD

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

    _session: Session | None = None
    _is_ending = False

    def __init__(self, database: Database) -> None:
        self._database = database

    def __enter__(self) -> Session:
        return self.begin()

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
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
        try:
            if not self._is_ending:
                self._is_ending = True
                session.__exit__(None, error, None)
        finally:
            self._leave(session)

    def _leave(self, session: Session) -> None:
        session.abandon()  # if a KeyboardInterrupt came before the session's own end
        session.give_turn()
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


class OpenTransaction:
    """The transaction that settles some messages: its block, and what user code holds in it.

    Args:
        database: the file.
        receipts: of the messages.
        actor: the name of the worker, for the history.
    """

    _tx: Session

    def __init__(self, database: Database, receipts: Sequence[Receipt], actor: str) -> None:
        self._database = database
        self._receipts = receipts
        self._actor = actor
        self._write = UserWrite(database)
        self._results: list[sqlalchemy.CursorResult[Any]] = []
        #: The driver's error of a statement of ours; others come from the user's own databases.
        self._own_error: driver.Error | None = None
        self._thread = self._pid = 0
        self._is_open = False

    def __enter__(self) -> OpenTransaction:
        self._thread, self._pid = threading.get_ident(), os.getpid()
        self._tx = tx = self._write.begin()
        try:
            stale = held.first_stale(tx, self._receipts)
            tx.check_revision()  # not after the user's code
            if stale is not None:
                raise StaleReceipt(stale.message_id, settling.refusal(tx, stale).why)
        except BaseException as error:
            self._write.end(error)
            raise
        self._is_open = True
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        """Refuse further statements, close unread results, and commit or undo.

        An open result would keep this thread's read snapshot: after a write of another process,
        SQLite would refuse every later write of this thread.
        """
        self._is_open = False
        try:
            for result in self._results:
                result.close()
        except BaseException as failure:
            error = failure
            raise
        finally:
            if error is not None and isinstance(error, driver.Error):
                error = error if error is self._own_error else _ForeignError()
            self._write.end(error)

    def execute(self, statement: Any, parameters: Any = None) -> Any:
        """Run a statement: SQLAlchemy, or SQL text with `:name` parameters."""
        self._check()
        connection = joined(self._database, self._tx)
        result = self._write.adapter.execute(connection, statement, parameters)
        if result.returns_rows:
            self._results.append(result)
        return result

    def send(self, queue: str, drafts: Sequence[Draft]) -> list[str]:
        """Send messages that exist only if this transaction commits."""
        self._check()
        try:
            with AllOrNothing(self._tx):
                return sending.send(self._tx, queue, drafts)
        except driver.Error as error:
            self._own_error = error
            raise

    def settle(
        self,
        completions: Sequence[Completion],
        failures: Sequence[tuple[Receipt, Failure]],
    ) -> None:
        """Say how the messages end; all are still held, or everything is undone."""
        self._check()
        try:
            outcomes = settling.settle(self._tx, completions, failures, self._actor)
        except driver.Error as error:
            self._own_error = error
            raise
        if outcomes.count(Outcome.DONE) == len(outcomes):
            return
        receipts = [c.receipt for c in completions] + [receipt for receipt, _ in failures]
        for receipt, outcome in zip(receipts, outcomes, strict=True):
            if outcome.refused:
                raise StaleReceipt(receipt.message_id, outcome.why)

    def _check(self) -> None:
        """Refuse statements outside the transaction: each would commit by itself.

        Raises:
            Conflict: the block is over, a statement in it ended the transaction, or this process
                was forked inside it.
        """
        if not self._is_open:
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
