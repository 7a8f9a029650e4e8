"""Deliveries: received messages, and the verbs that settle them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Generic, overload

from durableq.client import progress as reports
from durableq.client.delivery_async import AsyncDelivery
from durableq.client.failures import failure_of
from durableq.client.transaction import BatchTransaction, MessageTransaction, Transaction
from durableq.model import codec
from durableq.model.errors import (
    PASSING,
    Conflict,
    InvalidInput,
    InvalidResult,
    Reject,
    StaleReceipt,
)
from durableq.model.message import (
    Completion,
    Failure,
    Message,
    Outcome,
    Receipt,
)
from durableq.model.progress import progress_report
from durableq.model.text import shown
from durableq.model.units import Seconds, to_ms
from durableq.store.core import Capability, Store

if TYPE_CHECKING:
    from typing_extensions import TypeVar  # the first with a default before Python 3.13

    Body = TypeVar("Body", default=Any)
else:
    from typing import TypeVar

    Body = TypeVar("Body")


class Delivery(AsyncDelivery, Generic[Body]):
    """One delivery of a message: its content, and the verbs that settle it.

    The argument of a handler, whose return completes it and whose exception fails it. The verbs are
    for code that receives by itself (`queue.receive()`). A handler that is annotated with
    `Delivery[Order]` gets bodies of that type.
    """

    __slots__ = ("_body", "_store", "actor", "lost", "message", "settled", "transaction_result")

    def __init__(self, message: Message, opened: Store, actor: str = "") -> None:
        self.message = message
        self.actor = actor
        #: Whether it was completed, failed or released.
        self.settled = False
        #: Whether its lease was lost: its verbs raise StaleReceipt.
        self.lost = False
        #: The encoded `tx.result` of the transaction that ended it.
        self.transaction_result: str | None = None
        self._store = opened
        self._body: Any = _UNREAD

    def __repr__(self) -> str:
        return f"<Delivery {self.id} of {self.queue!r}, receive {self.receive_count}>"

    @property
    def id(self) -> str:
        """The message's id, the same at every delivery."""
        return self.message.id

    @property
    def queue(self) -> str:
        """The queue it came from."""
        return self.message.queue

    @property
    def body(self) -> Body:
        """The body: decoded JSON, or bytes; in a handler that names their type, an object of it.

        Raises:
            InvalidBody: the stored body cannot be decoded.
        """
        if self._body is _UNREAD:
            self._body = codec.decode(self.message.body)
        body: Body = self._body
        return body

    def read(self, reader: Callable[[Delivery[Any]], Any] | None) -> None:
        """Read the body, as an object of the handler's type if there is a reader.

        Raises:
            InvalidBody: the stored body cannot be decoded, or does not fit the type.
        """
        if reader is not None:
            self._body = reader(self)
        elif self._body is _UNREAD:
            self._body = codec.decode(self.message.body)

    @property
    def key(self) -> str | None:
        """The idempotency key. Pass it on to the other side if the effect is outside the file."""
        return self.message.key

    @property
    def attributes(self) -> dict[str, str | int | float]:
        """The sender's attributes."""
        return codec.decode_attributes(self.message.attributes)

    @property
    def priority(self) -> int:
        """-100 to 100."""
        return self.message.priority

    @property
    def receive_count(self) -> int:
        """Number of receives, this one included."""
        return self.message.receive_count

    @property
    def recovery_count(self) -> int:
        """Number of times that recovery or a person sent it back from the dead-letter queue."""
        return self.message.recovery_count

    @property
    def generation(self) -> int:
        """1 at first, one more each time it is sent back from the dead-letter queue."""
        return self.message.generation

    @property
    def receipt(self) -> Receipt:
        """The right to settle this delivery; `str(receipt)` is its handle."""
        receipt = self.message.receipt
        if receipt is None:
            raise StaleReceipt(self.id, "it was read, not received")
        return receipt

    def transaction(self) -> Transaction:
        """Open the transaction that ends this message: your writes, record and acknowledgement.

        It holds the file's write lock: compute first, then write. An exception inside undoes
        everything and leaves the message to be failed.

        Raises:
            StaleReceipt: the lease was taken over; nothing was written.
            InvalidResult: `tx.result` cannot be kept; nothing was written.
            OutcomeUnknown: COMMIT failed.
        """
        store = self._store.require(Capability.TRANSACTIONS)
        return MessageTransaction(store.transaction([self.receipt], actor=self.actor), self)

    def complete(self, result: Any = None) -> None:
        """End the message in success; keep the result for duplicates of its key.

        Raises:
            StaleReceipt: the message is no longer yours.
            InvalidResult: JSON cannot hold the result, or the message has no key to keep it
                under; the message is still yours.
        """
        encoded = None if result is None else self.encoded(result)
        completion = Completion(self.receipt, encoded, self.message.key)
        self._settle(self._store.complete([completion])[0])

    def attach_result(self, result: Any) -> None:
        """Keep a result under the key of a message that its own transaction has ended already.

        Raises:
            InvalidResult: JSON cannot hold it, or the message has no key to keep it under; the
                message stays completed.
            StaleReceipt: this delivery completed no key.
        """
        self.attach_encoded(self.encoded(result))

    def attach_encoded(self, encoded: str | None) -> None:
        """Keep an encoded result; see attach_result."""
        if self.key is None or encoded is None:
            return
        outcome = self._store.require(Capability.IDEMPOTENCY).attach_result(
            self.receipt, self.key, encoded
        )
        if outcome.refused:
            raise StaleReceipt(self.id, "its key was completed by another delivery, or forgotten")

    def fail(self, error: BaseException | str, *, retry_in: Seconds | None = None) -> Outcome:
        """Record a failure; the message is retried later, or goes to the dead-letter queue.

        Args:
            error: an exception or a text. Reject, RetryLater and Unavailable mean the same as in a
                handler.
            retry_in: seconds to wait; None leaves it to the queue's backoff.

        Raises:
            InvalidInput: no error, or a wait for a Reject, which is not retried.
            StaleReceipt: the message is no longer yours.
        """
        failure = failure_of(error, retry_in=retry_in)
        return self._settle(self._store.fail([(self.receipt, failure)], actor=self.actor)[0])

    def reject(self, reason: str) -> Outcome:
        """Send it to the dead-letter queue now, because it can never succeed.

        Raises:
            StaleReceipt: the message is no longer yours.
        """
        return self.fail(Reject(reason))

    def release(self) -> None:
        """Make it ready again at once, uncounted.

        Raises:
            StaleReceipt: the message is no longer yours.
        """
        self._settle(self._store.release([self.receipt])[0])

    def extend(self, seconds: Seconds) -> None:
        """Set the end of the lease to `seconds` from now. Workers do it for their handlers.

        0 ends it: the message is ready at once, and this receive counts. After the last of its
        `max_receives` it goes to the dead-letter queue.

        Raises:
            StaleReceipt: the message is no longer yours.
        """
        visibility_ms = to_ms(seconds, "A visibility timeout")
        self._extended(self._store.extend([self.receipt], visibility_ms)[0], visibility_ms)

    def progress(self, fraction: float, text: str = "") -> None:
        """Report how far the handler is, for `durableq status`, `durableq show` and the dashboard.

        It returns at once. The newest report of each message is stored by another thread, at once
        or a second after the last one, and is gone when the message is settled or retried.

        Args:
            fraction: from 0 to 1.
            text: for people; the first 200 characters are kept.

        Raises:
            InvalidInput: the fraction is no number from 0 to 1, or the text is no string.
            StaleReceipt: the message is settled, or its lease is known to be lost.
        """
        reports.report(self._store, self, progress_report(self.receipt, fraction, text))

    def encoded(self, result: Any) -> str | None:
        """Return a result as JSON text; see `complete` for what it raises."""
        encoded = codec.encode_result(result)
        if encoded is not None and self.key is None:
            raise InvalidResult(
                f"Message {self.id} has no key, and a result is kept under a key. Leave the result "
                "out, or send the message with key=…."
            )
        return encoded

    def _extended(self, outcome: Outcome, visibility_ms: int) -> None:
        if not visibility_ms:
            self._settle(outcome)
        elif outcome.refused:
            raise StaleReceipt(self.id, outcome.why)

    def _settle(self, outcome: Outcome) -> Outcome:
        if outcome.refused:
            raise StaleReceipt(self.id, outcome.why)
        self.settled = True
        return outcome


class Deliveries(list[Delivery]):
    """The messages that `queue.receive()` has leased, as a list."""

    def __init__(self, deliveries: Iterable[Delivery] = (), *, more: bool = False) -> None:
        super().__init__(deliveries)
        #: Whether other messages may be ready; False if none was left.
        self.more = more


class Batch(Sequence[Delivery[Body]]):
    """Deliveries that are settled together, in one transaction: the argument of a batch handler.

    Deliveries passed to `fail` fail, and those that the handler's answer names, as in AWS Lambda:
    `return {"batchItemFailures": [{"itemIdentifier": message.id}]}`. All others are completed
    when the handler returns. If it raises, or returns any other value, all fail.

    In a batch of one group (`group_by="group"`) order comes first: those behind the first that
    fails are not completed but put back, uncounted, also if the handler has named only the first.
    """

    def __init__(
        self, deliveries: Sequence[Delivery[Body]], opened: Store, *, in_order: bool = False
    ) -> None:
        self._in_order = in_order
        self._deliveries = list(deliveries)
        self._store = opened
        self._failures: dict[str, Failure] = {}
        self._results: dict[str, str | None] = {}
        self.settled = False

    @overload
    def __getitem__(self, index: int) -> Delivery[Body]: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Delivery[Body]]: ...
    def __getitem__(self, index: int | slice) -> Delivery[Body] | Sequence[Delivery[Body]]:
        return self._deliveries[index]

    def __len__(self) -> int:
        return len(self._deliveries)

    def __iter__(self) -> Iterator[Delivery[Body]]:
        return iter(self._deliveries)

    def fail(self, delivery: Delivery, error: BaseException | str) -> None:
        """Let a delivery fail when the batch is settled; the others are not affected.

        Raises:
            InvalidInput: it is not in this batch.
            Conflict: the batch is settled.
        """
        self._check_open(delivery)
        self._failures[delivery.id] = failure_of(error)

    def fail_rest(self, failure: Failure, ids: Iterable[str] | None = None) -> None:
        """Let these deliveries fail, or all; a failure that is already recorded stays."""
        self._in_order &= ids is not None  # all of them fail: none is behind the first
        for message_id in self.ids if ids is None else ids:
            self._failures.setdefault(message_id, failure)

    @property
    def ids(self) -> list[str]:
        """The ids of its messages."""
        return [delivery.id for delivery in self]

    @property
    def failed(self) -> int:
        """Number of deliveries that fail."""
        return len(self._failed()) if self._in_order else len(self._failures)

    @property
    def behind(self) -> list[Delivery]:
        """In a batch of one group, the deliveries behind the first that fails."""
        return self._deliveries[self._end + 1 :]

    @property
    def _end(self) -> int:
        """The place of the first that fails, in a batch of one group; otherwise behind the last."""
        places = (n for n, one in enumerate(self._deliveries) if one.message.id in self._failures)
        return next(places, len(self)) if self._in_order else len(self)

    def set_result(self, delivery: Delivery, result: Any) -> None:
        """Keep a result under the key of a delivery.

        Raises:
            InvalidResult: JSON cannot hold it, or the message has no key to keep it under.
            InvalidInput: it is not in this batch.
            Conflict: the batch is settled.
        """
        self._check_open(delivery)
        self._results[delivery.id] = delivery.encoded(result)

    def transaction(self) -> Transaction:
        """Open the transaction that settles the batch together with your writes.

        Raises:
            StaleReceipt: one lease was taken over; nothing was written, for none of them.
            InvalidInput: `tx.result` was set: each message has a result of its own.
        """
        store = self._store.require(Capability.TRANSACTIONS)
        receipts = [delivery.receipt for delivery in self._deliveries]
        actor = self._deliveries[0].actor if self._deliveries else ""
        return BatchTransaction(store.transaction(receipts, actor=actor), self)

    def settle(self) -> list[Delivery]:
        """Complete and fail the deliveries in one transaction; return those that were refused."""
        if self.settled or not self:
            return []
        completions, failed = self._completions(), self._failed()
        outcomes = self._store.settle(completions, failed, actor=self[0].actor)
        if self._in_order:
            self.release_behind()
        receipts = [c.receipt for c in completions] + [receipt for receipt, _ in failed]
        refused = {r for r, outcome in zip(receipts, outcomes, strict=True) if outcome.refused}
        self._mark_settled()
        return [delivery for delivery in self if delivery.receipt in refused]

    def endings(self) -> list[tuple[Delivery, Completion | Failure]]:
        """Return the completion or failure of each delivery, to settle them one by one."""
        completions = {one.receipt: one for one in self._completions()}
        failures = dict(self._failed())
        settled = self._deliveries[: self._end + 1]
        return [(one, completions.get(one.receipt) or failures[one.receipt]) for one in settled]

    def release_behind(self) -> None:
        """Put the deliveries behind the first that fails back, uncounted.

        If the file is busy or full, they come back when their lease ends.
        """
        if behind := self.behind:
            with suppress(*PASSING):
                self._store.release([delivery.receipt for delivery in behind])

    def _completions(self) -> list[Completion]:
        return [
            Completion(one.receipt, self._results.get(one.message.id), one.message.key)
            for one in (self._deliveries[: self._end] if self._in_order else self._deliveries)
            if one.message.id not in self._failures
        ]

    def _failed(self) -> list[tuple[Receipt, Failure]]:
        return [
            (one.receipt, self._failures[one.message.id])
            for one in (self._deliveries[: self._end + 1] if self._in_order else self._deliveries)
            if one.message.id in self._failures
        ]

    def _check_open(self, delivery: Delivery) -> None:
        if not isinstance(delivery, Delivery):
            raise InvalidInput(f"Give a delivery of this batch, got {shown(delivery)}.")
        if delivery not in self._deliveries:
            raise InvalidInput(f"Message {delivery.id} is not in this batch.")
        if self.settled:
            raise Conflict(
                f"The batch of message {delivery.id} is settled already. Call fail and set_result "
                "before its transaction ends."
            )

    def _mark_settled(self) -> None:
        self.settled = True
        for delivery in self:
            delivery.settled = True


_UNREAD = object()
