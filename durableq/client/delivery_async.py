"""The verbs of a delivery for coroutines: those of Delivery with an `a` before their names."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from durableq.client.failures import failure_of
from durableq.model.errors import InvalidInput, Reject
from durableq.model.message import Completion, Message, Outcome, Receipt
from durableq.model.text import shown
from durableq.model.units import Seconds, to_ms
from durableq.store.core import Call, Extend, Release, Settle, Store

if TYPE_CHECKING:
    from durableq.client.transaction import Transaction

T = TypeVar("T")


class AsyncDelivery:
    """The part of a Delivery that coroutines use. No call blocks the event loop.

    Calls of coroutines that wait at the same time share a commit. If the coroutine is cancelled,
    nothing happened unless the commit had begun; then it goes on. `settled` stays False.
    """

    __slots__ = ()

    if TYPE_CHECKING:  # these are Delivery's
        _store: Store
        message: Message
        actor: str

        @property
        def receipt(self) -> Receipt:
            """The right to settle this delivery."""

        def transaction(self) -> Transaction:
            """Open the transaction that ends this message."""

        def encoded(self, result: Any) -> str | None:
            """Return a result as JSON text."""

        def _settle(self, outcome: Outcome) -> Outcome: ...

        def _extended(self, outcome: Outcome, visibility_ms: int) -> None: ...

    async def acomplete(self, result: Any = None) -> None:
        """End the message in success; keep the result for duplicates of its key. See complete.

        Raises:
            StaleReceipt, InvalidResult: as for complete.
        """
        # As in `complete`, for which one more call of Python would be a part of its cost.
        encoded = None if result is None else self.encoded(result)
        completion = Completion(self.receipt, encoded, self.message.key)
        self._settle(await self._run(Settle([completion])))

    async def afail(
        self, error: BaseException | str, *, retry_in: Seconds | None = None
    ) -> Outcome:
        """Record a failure; the message is retried later, or goes to the dead-letter queue.

        Args:
            error: as for fail.
            retry_in: as for fail.

        Raises:
            InvalidInput, StaleReceipt: as for fail.
        """
        failed = [(self.receipt, failure_of(error, retry_in=retry_in))]
        return self._settle(await self._run(Settle([], failed, self.actor)))

    async def areject(self, reason: str) -> Outcome:
        """Send it to the dead-letter queue now, because it can never succeed.

        Raises:
            StaleReceipt: the message is no longer yours.
        """
        return await self.afail(Reject(reason))

    async def arelease(self) -> None:
        """Make it ready again at once, uncounted.

        Raises:
            StaleReceipt: the message is no longer yours.
        """
        self._settle(await self._run(Release([self.receipt])))

    async def aextend(self, seconds: Seconds) -> None:
        """Set the end of the lease to `seconds` from now; 0 returns the message, see `extend`.

        Raises:
            StaleReceipt: the message is no longer yours.
        """
        visibility_ms = to_ms(seconds, "A visibility timeout")
        outcome = await self._run(Extend([self.receipt], visibility_ms))
        self._extended(outcome, visibility_ms)

    async def atransaction(self, write: Callable[[Transaction], T]) -> T:
        """Call a function in a thread, inside the transaction that ends this message.

        `await message.atransaction(write)` is `with message.transaction() as tx: return write(tx)`
        in a thread of durableq's. On SQLite the function has the file's write lock, so it
        awaits nothing: compute first, then write. If the coroutine is cancelled, a thread that
        has begun goes on, and commits; closing the application waits for it.

        Args:
            write: gets the transaction, uses it in its own thread, and returns the answer.

        Raises:
            InvalidInput: it is no function, or it is `async def`; nothing was written.
            StaleReceipt, InvalidResult, OutcomeUnknown: as for transaction.
        """
        from durableq.client.coroutines import write as write_in_thread

        if not callable(write):
            raise InvalidInput(
                f"atransaction takes a function of the transaction, got {shown(write)}."
            )
        return await write_in_thread(self._store, self._write, write)

    def _write(self, write: Callable[[Transaction], T]) -> T:
        with self.transaction() as tx:
            answer: Any = write(tx)
            if hasattr(answer, "__await__"):
                with suppress(AttributeError):
                    answer.close()  # else Python warns that the coroutine was never awaited
                raise InvalidInput(
                    "The function of atransaction runs in a thread, with the transaction open, and "
                    "awaits nothing: give one without `async`, and await before or after it."
                )
            given: T = answer
            return given

    async def _run(self, call: Call) -> Outcome:
        from durableq.client.coroutines import commit

        outcomes: list[Outcome] = await commit(self._store, call)
        return outcomes[0]
