"""A message of SQS as the Delivery that a handler is given."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final, NoReturn, TypeVar

from durableq.client.delivery import Delivery
from durableq.client.transaction import Transaction
from durableq.contrib.awslambda.keys import HeldKey
from durableq.model.errors import StaleReceipt, Unsupported
from durableq.model.message import Message, Outcome, Receipt
from durableq.model.progress import percent_of, progress_report
from durableq.model.text import visible
from durableq.model.units import Seconds
from durableq.runtime.logs import facts

T = TypeVar("T")

log = logging.getLogger("durableq.awslambda")

_NO_TRANSACTION: Final = (
    "message.transaction() ends a message together with your writes, and this message is in SQS: "
    "the record of its key takes its place, in PostgreSQL. Give the entry a key, as in "
    "entry(dq, {queue!r}, key='messageId'), on an application whose store is PostgreSQL, or use "
    "Powertools (durableq.contrib.powertools)."
)
_RETURN: Final = "Return from the handler, with the result"
_RAISE: Final = "Raise an exception"
_REJECT: Final = "Raise durableq.Reject"
_EXTEND: Final = "Set the queue's visibility timeout to six times the function's"


class SQSDelivery(Delivery):
    """One delivery of a message by SQS.

    The handler's return acknowledges it and its exception fails it. The verbs that settle by hand
    are refused: the answer of the invocation is all that SQS reads.

    Args:
        message: the message.
    """

    __slots__ = ("held",)

    def __init__(self, message: Message) -> None:
        no_store: Any = None  # it is in SQS
        super().__init__(message, no_store)
        #: Its key, while this invocation holds it; None without keys.
        self.held: HeldKey | None = None

    def transaction(self) -> Transaction:
        """Open the transaction that commits your writes together with the record of the key.

        SQS deletes the message after the invocation. If that does not happen, the next delivery
        finds the record, and the handler is not called again.

        Raises:
            Unsupported: the entry has no keys.
            StaleReceipt: at the end: another invocation took the key over; nothing was written.
        """
        return _KeyTransaction(self, self._key())

    async def atransaction(self, write: Callable[[Transaction], T]) -> T:
        """Call a function in a thread, inside the transaction that `transaction` opens.

        Raises:
            Unsupported, StaleReceipt: as for transaction.
        """
        self._store = self._key().store  # it is not closed before the thread has ended
        return await super().atransaction(write)

    def _key(self) -> HeldKey:
        if self.held is None:
            raise Unsupported(_NO_TRANSACTION.format(queue=self.queue))
        return self.held

    def complete(self, result: Any = None) -> None:
        """Refuse: return from the handler."""
        self._refuse("complete", _RETURN)

    def fail(self, error: BaseException | str, *, retry_in: Seconds | None = None) -> Outcome:
        """Refuse: raise an exception in the handler."""
        self._refuse("fail", _RAISE)

    def reject(self, reason: str) -> Outcome:
        """Refuse: raise Reject in the handler."""
        self._refuse("reject", _REJECT)

    def release(self) -> None:
        """Refuse: SQS has no such operation for an invocation."""
        self._refuse("release", _RAISE)

    def extend(self, seconds: Seconds) -> None:
        """Refuse: the visibility timeout is the queue's."""
        self._refuse("extend", _EXTEND)

    async def acomplete(self, result: Any = None) -> None:
        """Refuse, as complete."""
        self._refuse("acomplete", _RETURN)

    async def afail(
        self, error: BaseException | str, *, retry_in: Seconds | None = None
    ) -> Outcome:
        """Refuse, as fail."""
        self._refuse("afail", _RAISE)

    async def areject(self, reason: str) -> Outcome:
        """Refuse, as reject."""
        self._refuse("areject", _REJECT)

    async def arelease(self) -> None:
        """Refuse, as release."""
        self._refuse("arelease", _RAISE)

    async def aextend(self, seconds: Seconds) -> None:
        """Refuse, as extend."""
        self._refuse("aextend", _EXTEND)

    def progress(self, fraction: float, text: str = "") -> None:
        """Log how far the handler is: no table of ours has the message.

        Raises:
            InvalidInput: the fraction is no number from 0 to 1, or the text is no string.
        """
        report = progress_report(Receipt(self.queue, self.id, ""), fraction, text)
        told = f": {visible(report.text)}" if report.text else ""
        log.info(
            "message %s of %s is at %d%%%s",
            *(visible(self.id), self.queue, percent_of(report.fraction), told),
            extra=facts("progress", message_id=self.id, queue=self.queue, fraction=report.fraction),
        )

    def attach_encoded(self, encoded: str | None) -> None:
        """Refuse: the record of a key is written once."""
        self._refuse("attach_result", "Set tx.result in the transaction")

    def _refuse(self, verb: str, instead: str) -> NoReturn:
        raise Unsupported(
            f"message.{verb}() does not reach SQS from inside an invocation. {instead}."
        )


class _KeyTransaction(Transaction):
    """The transaction that completes the key of a message."""

    def __init__(self, delivery: SQSDelivery, held: HeldKey) -> None:
        super().__init__(held.transaction())
        self._delivery, self._held = delivery, held
        self._encoded: str | None = None

    def _settle(self) -> None:
        self._encoded = self._delivery.encoded(self.result)
        if not self._held.complete_in(self._opened, self._encoded):
            raise StaleReceipt(self._delivery.id, "another invocation took its key over")

    def _mark_settled(self) -> None:
        self._delivery.settled = True
        self._delivery.transaction_result = self._encoded
