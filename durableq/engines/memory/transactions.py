"""Transactions of user code."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from durableq.engines.memory.queueing import MemoryQueueing
from durableq.model.errors import Conflict, StaleReceipt, Unsupported
from durableq.model.message import Completion, Draft, Failure, Outcome, Receipt
from durableq.store.capabilities import Transaction, Transactions
from durableq.store.core import OTHER_THREAD

if TYPE_CHECKING:
    from durableq.engines.memory.rows import OpenRows, Rows


class MemoryTransactions(MemoryQueueing, Transactions):
    """Writes that commit together with an acknowledgement."""

    _rows: Rows | None = None

    def prepare_transactions(self) -> None:
        """Do nothing: SQLAlchemy is loaded by the first statement."""

    @property
    def rows(self) -> Rows:
        """The database in memory for the rows of user code, made at its first use."""
        with self._lock:
            if self._rows is None:
                from durableq.engines.memory.rows import Rows

                self._rows = Rows()
            return self._rows

    @property
    def engine(self) -> Any:
        """A SQLAlchemy engine on those rows. The messages are not in that database."""
        return self.rows.engine

    def settle_joining(
        self,
        completions: Sequence[Completion],
        failures: Sequence[tuple[Receipt, Failure]],
        *,
        connection: Any,
        actor: str = "",
    ) -> list[Outcome]:
        """Refuse: there is no such connection."""
        raise Unsupported("A store in memory cannot join a database's transaction.")

    @contextmanager
    def transaction(self, receipts: Sequence[Receipt], *, actor: str = "") -> Iterator[Transaction]:
        """Open a transaction that settles these messages together with other writes."""
        with self._all_or_nothing():
            for receipt in receipts:
                _require_done(receipt, self._settle(receipt, lambda _: Outcome.DONE))
            opened = OpenTransaction(self, actor)
            self._in_transaction = True
            try:
                yield opened
                opened.end(commit=True)
            finally:
                self._in_transaction = False
                opened.end(commit=False)

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Admit operations of the open transaction itself."""
        self._in_transaction = False
        try:
            yield
        finally:
            self._in_transaction = True


class OpenTransaction:
    """The Transaction that user code holds.

    Args:
        store: the store in which it is open.
        actor: the name of the worker, for the history.
    """

    def __init__(self, store: MemoryTransactions, actor: str) -> None:
        self._store, self._actor = store, actor
        self._thread = threading.get_ident()
        self._rows: OpenRows | None = None
        self._ended = False

    def execute(self, statement: Any, parameters: Any = None) -> Any:
        """Run a statement on the rows in memory, which commit and roll back with the messages."""
        return self._begun().execute(statement, parameters)

    @property
    def session(self) -> Any:
        """A SQLAlchemy Session on those rows; see Transaction.session."""
        return self._begun().session(self._check)

    def _begun(self) -> OpenRows:
        self._check()
        if self._rows is None:
            self._rows = self._store.rows.begin()
        return self._rows

    def end(self, *, commit: bool) -> None:
        """Refuse further calls, and commit or undo the rows. A second call does nothing."""
        self._ended = True
        rows, self._rows = self._rows, None
        if rows is not None:
            rows.end(commit=commit)

    def send(self, queue: str, drafts: Sequence[Draft]) -> list[str]:
        """Send messages that exist only if this transaction commits."""
        self._check()
        with self._store.inside():
            return self._store.send_now(queue, drafts)

    def once_store(self, key: str, token: bytes, value: str, *, ttl_ms: int) -> bool:
        """Store a value of `once` that exists only if this transaction commits."""
        self._check()
        with self._store.inside():
            values: Any = self._store  # with all its capabilities
            stored: bool = values.once_store(
                key, token, value, ttl_ms=ttl_ms, stale_ms=0, compute_ms=0
            )
            return stored

    def settle(
        self,
        completions: Sequence[Completion],
        failures: Sequence[tuple[Receipt, Failure]],
    ) -> None:
        """Settle the messages, all of them or none."""
        if self._rows is not None:
            self._rows.write_pending()
        self._check()
        with self._store.inside():
            outcomes = self._store.settle(completions, failures, actor=self._actor)
        receipts = [one.receipt for one in completions] + [receipt for receipt, _ in failures]
        for receipt, outcome in zip(receipts, outcomes, strict=True):
            _require_done(receipt, outcome)

    def _check(self) -> None:
        if self._ended:
            raise Conflict("This transaction is over: use it inside its `with` block.")
        if threading.get_ident() != self._thread:
            raise Conflict(OTHER_THREAD)
        if self._rows is not None:
            self._rows.check()


def _require_done(receipt: Receipt, outcome: Outcome) -> None:
    """Refuse to go on with a transaction whose receipt is refused.

    Raises:
        StaleReceipt: it is.
    """
    if outcome.refused:
        raise StaleReceipt(receipt.message_id, outcome.why)
