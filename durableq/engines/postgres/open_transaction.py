"""The transaction that `message.transaction()` gives to user code, which SQLAlchemy may join."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from durableq.engines.postgres.database import Database
from durableq.engines.postgres.session import FORKED, Session
from durableq.engines.sql import held, sending, settling
from durableq.engines.sql.transactions import AllOrNothing
from durableq.model.errors import Conflict, StaleReceipt
from durableq.model.message import Completion, Draft, Failure, Outcome, Receipt
from durableq.store.core import OTHER_THREAD

if TYPE_CHECKING:
    import sqlalchemy


class OpenTransaction:
    """The transaction that settles some messages: its block, and what user code holds in it.

    No lock of ours is held while user code runs. If a lease is lost meanwhile, the end finds it
    and undoes everything.

    Args:
        database: the tables.
        receipts: of the messages.
        actor: the name of the worker, for the history.
    """

    _tx: Session
    _connection: sqlalchemy.Connection | None = None

    def __init__(self, database: Database, receipts: Sequence[Receipt], actor: str) -> None:
        self._database = database
        self._receipts = receipts
        self._actor = actor
        self._stack = ExitStack()
        self._thread = self._pid = 0
        self._is_open = False
        self._has_lock = False

    def __enter__(self) -> OpenTransaction:
        self._thread, self._pid = threading.get_ident(), os.getpid()
        self._tx = tx = self._stack.enter_context(self._database.session())
        self._database.inside = tx
        try:
            tx.begin_beside()
            stale = held.first_stale(tx, self._receipts)
            tx.check_revision()
            if stale is not None:
                raise StaleReceipt(stale.message_id, settling.refusal(tx, stale).why)
        except BaseException as error:
            self._end(error)
            meaning = tx.meaning(error)
            if meaning is error:
                raise
            raise meaning from error
        self._is_open = True
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        self._is_open = False
        if error is None:
            try:
                self._tx.commit()
            except BaseException as failure:
                self._end(failure)
                meaning = self._tx.meaning(failure)
                if meaning is failure:
                    raise
                raise meaning from failure
        self._end(error)

    def _end(self, error: BaseException | None) -> None:
        if error is not None:
            self._tx.undo()
        self._database.inside = None
        if self._connection is not None:
            self._connection.close()
        self._stack.close()

    def execute(self, statement: Any, parameters: Any = None) -> Any:
        """Run a statement: SQLAlchemy, or SQL text with `:name` parameters."""
        self._check()
        if self._connection is None:
            self._connection = self._database.adapter.view(self._tx.link.connection)
        return self._database.adapter.execute(self._connection, statement, parameters)

    def send(self, queue: str, drafts: Sequence[Draft]) -> list[str]:
        """Send messages that exist only if this transaction commits."""
        self._check()
        self._lock()
        with AllOrNothing(self._tx):
            return sending.send(self._tx, queue, drafts)

    def settle(
        self,
        completions: Sequence[Completion],
        failures: Sequence[tuple[Receipt, Failure]],
    ) -> None:
        """Say how the messages end; all are still held, or everything is undone."""
        self._check()
        self._lock()
        outcomes = settling.settle(self._tx, completions, failures, self._actor)
        if outcomes.count(Outcome.DONE) == len(outcomes):
            return
        receipts = [c.receipt for c in completions] + [receipt for receipt, _ in failures]
        for receipt, outcome in zip(receipts, outcomes, strict=True):
            if outcome.refused:
                raise StaleReceipt(receipt.message_id, outcome.why)

    def _lock(self) -> None:
        """Write alone from here to the end."""
        if not self._has_lock:
            self._tx.lock()
            self._has_lock = True

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
        if not self._tx.link.in_transaction:
            raise Conflict(
                "A statement ended this transaction (COMMIT or ROLLBACK), so nothing more is "
                "written in it and the message is not settled. Leave its end to the `with` block."
            )
