"""The transaction that `message.transaction()` gives to user code."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from durableq.model.errors import Conflict, StaleReceipt, Unsupported
from durableq.model.message import Completion, Draft, Failure, Outcome, Receipt
from durableq.store.core import OTHER_THREAD


class OpenTransaction:
    """The Transaction that user code holds."""

    def __init__(
        self,
        send: Callable[[str, Sequence[Draft]], list[str]],
        complete: Callable[[Completion], Outcome],
        fail: Callable[[Receipt, Failure, str], Outcome],
        actor: str,
    ) -> None:
        self._send, self._complete, self._fail, self._actor = send, complete, fail, actor
        #: Whether its block is over.
        self.ended = False
        self._thread = threading.get_ident()

    def send(self, queue: str, drafts: Sequence[Draft]) -> list[str]:
        """Send messages that exist only if this transaction commits."""
        self._check()
        return self._send(queue, drafts)

    def execute(self, statement: Any, parameters: Any = None) -> Any:
        """Refuse: there are no tables here."""
        raise Unsupported("A store in memory holds no tables. Use a database file.")

    def settle(
        self,
        completions: Sequence[Completion],
        failures: Sequence[tuple[Receipt, Failure]],
    ) -> None:
        """Say how the messages end; all are still held, or everything is undone."""
        self._check()
        outcomes = [(c.receipt, self._complete(c)) for c in completions]
        outcomes += [(receipt, self._fail(receipt, why, self._actor)) for receipt, why in failures]
        for receipt, outcome in outcomes:
            require_done(receipt, outcome)

    def _check(self) -> None:
        if self.ended:
            raise Conflict("This transaction is over: use it inside its `with` block.")
        if threading.get_ident() != self._thread:
            raise Conflict(OTHER_THREAD)


def require_done(receipt: Receipt, outcome: Outcome) -> None:
    """Undo the transaction if a receipt was refused.

    Raises:
        StaleReceipt: it was.
    """
    if outcome.refused:
        raise StaleReceipt(receipt.message_id, outcome.why)
