"""The transaction that `message.transaction()` gives to user code, which SQLAlchemy may join."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

from durableq.engines.sql import held, once, sending, settling
from durableq.engines.sql.transactions import AllOrNothing, WriteTransaction
from durableq.model.errors import Conflict, InvalidInput, StaleReceipt
from durableq.model.message import Completion, Draft, Failure, Outcome, Receipt
from durableq.store.core import OTHER_THREAD

if TYPE_CHECKING:
    from durableq.engines.orm import TransactionSession

FORKED: Final = (
    "This process was forked inside a transaction, which only its parent can end. End the child "
    "with os._exit() there, or fork outside the `with` block."
)
#: The refusal of calls around an open transaction.
INSIDE: Final = (
    "This thread is inside message.transaction(): use tx.send and tx.execute there, "
    "or make this call before or after it."
)


class UserWrite(Protocol):
    """An engine's write transaction that user code may join through SQLAlchemy."""

    #: Whether `lock` has something to do.
    must_lock: bool

    @property
    def driver_error(self) -> type[Exception]:
        """Base class of the errors of the engine's driver."""

    def begin(self) -> WriteTransaction:
        """Begin it."""

    def end(self, error: BaseException | None) -> None:
        """Commit it, or undo it because of an error. A second call finishes an interrupted one."""

    def lock(self) -> None:
        """Write alone from here to the end."""

    def explain(self, error: Exception) -> None:
        """Raise what an error of a statement of ours means, at once or in `end`."""

    def ended(self) -> Exception:
        """Return the refusal of statements after one that has ended the transaction."""

    def execute(self, statement: Any, parameters: Any) -> Any:
        """Run a user's statement in it, and return its result, which is SQLAlchemy's."""

    def connection(self) -> Any:
        """Return its connection as SQLAlchemy's, which takes part in it."""


class OpenTransaction:
    """The transaction that settles some messages: its block, and what user code holds in it.

    It is no generator: Ctrl-C at any line of `contextlib` would leave one suspended, with the
    transaction open.

    Args:
        write: the engine's transaction.
        receipts: of the messages.
        actor: the name of the worker, for the history.
    """

    _tx: WriteTransaction

    def __init__(self, write: UserWrite, receipts: Sequence[Receipt], actor: str) -> None:
        self._write = write
        self._receipts = receipts
        self._actor = actor
        self._results: list[Any] = []
        self._session: TransactionSession | None = None
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
            try:
                if isinstance(error, self._write.driver_error):
                    self._write.explain(error)
            finally:
                self._write.end(error)
            raise
        self._is_open = True
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        """Refuse further statements, close the Session and unread results, and commit or undo.

        On SQLite, an open result would keep this thread's read snapshot: after a write of another
        process, SQLite would refuse every later write of this thread.
        """
        self._is_open = False
        try:
            if self._session is not None:
                self._session.detach()
            for result in self._results:
                result.close()
        except BaseException as failure:
            error = failure
            raise
        finally:
            self._write.end(error)

    def execute(self, statement: Any, parameters: Any = None) -> Any:
        """Run a statement: SQLAlchemy, or SQL text with `:name` parameters.

        Raises:
            InvalidInput: it is no statement, or a text in it is not UTF-8.
        """
        self._check()
        try:
            result = self._write.execute(statement, parameters)
        except UnicodeEncodeError as error:
            says = "The statement, or one of its parameters, contains a lone surrogate."
            raise InvalidInput(says) from error
        if result.returns_rows:
            self._results.append(result)
        return result

    @property
    def session(self) -> Any:
        """A SQLAlchemy Session in it, made at its first use; see Transaction.session."""
        self._check()
        if self._session is None:
            from durableq.engines.orm import TransactionSession

            self._session = TransactionSession(self._write.connection(), self._check)
        return self._session

    def send(self, queue: str, drafts: Sequence[Draft]) -> list[str]:
        """Send messages that exist only if this transaction commits."""
        self._check()
        try:
            if self._write.must_lock:
                self._write.lock()
            with AllOrNothing(self._tx):
                return sending.send(self._tx, queue, drafts)
        except self._write.driver_error as error:
            self._write.explain(error)
            raise

    def once_store(self, key: str, token: bytes, value: str, *, ttl_ms: int) -> bool:
        """Store a value of `once` that exists only if this transaction commits."""
        self._check()
        try:
            if self._write.must_lock:
                self._write.lock()
            return once.store(self._tx, key, token, value, ttl_ms, 0, 0)
        except self._write.driver_error as error:
            self._write.explain(error)
            raise

    def settle(
        self,
        completions: Sequence[Completion],
        failures: Sequence[tuple[Receipt, Failure]],
    ) -> None:
        """Say how the messages end; all are still held, or everything is undone."""
        if self._session is not None:
            self._session.write_pending()
        self._check()
        try:
            if self._write.must_lock:
                self._write.lock()
            outcomes = settling.settle(self._tx, completions, failures, self._actor)
        except self._write.driver_error as error:
            self._write.explain(error)
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
            raise self._write.ended()
