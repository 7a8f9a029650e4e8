"""The calls of a queue for coroutines: those of Queue with an `a` before their names."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Unpack

from durableq.client import tracing
from durableq.client.completing import Completing
from durableq.client.delivery import Deliveries, Delivery
from durableq.client.gathering import gathering
from durableq.client.results import result_of_async
from durableq.model.errors import InvalidInput
from durableq.model.limits import MAX_DELAY_MS
from durableq.model.message import Draft, SendOptions, check_key, draft
from durableq.model.units import Seconds, to_ms
from durableq.store.core import Receive, Settle

if TYPE_CHECKING:
    from durableq.client.app import DurableQ


class AsyncQueue:
    """The part of a Queue that coroutines of asyncio use. No call blocks the event loop.

    Operations of coroutines of one process share commits, also those of several event loops.
    """

    name: str
    _app: DurableQ

    async def asend(self, body: Any, **options: Unpack[SendOptions]) -> str:
        """Store a message and return its id: `await orders.asend(body)`. See Queue.send.

        When this returns, the message is durable. Sends that wait at the same time share a commit.
        At most MAX_PENDING messages of an event loop wait for one, or MAX_PENDING_BYTES, which the
        last batch, or body, may exceed. Further sends wait before they encode their body, so leave
        it unchanged until this returns.

        If the coroutine is cancelled, the message was not sent unless its commit had begun; then
        it is sent, unless that fails. With a key, sending again is safe.

        Args:
            body: a JSON value, or bytes.
            options: as for send. A message joins a caller's transaction by `send(connection=…)`
                only, in the thread of that transaction.

        Raises:
            InvalidInput: the message cannot be sent; or asyncio runs no event loop in this thread.
            Busy, QueueFull, StorageFull, OutcomeUnknown: as for send.
        """
        return (await self._asend(lambda: [draft(body, **options)]))[0]

    async def asend_many(self, bodies: Iterable[Any], **options: Unpack[SendOptions]) -> list[str]:
        """Store messages in one commit, all or none, and return their ids in order.

        Args:
            bodies: as for send_many.
            options: as for send_many.

        Raises:
            InvalidInput: as for send_many, and for asend.
            Busy, QueueFull, StorageFull, OutcomeUnknown: as for send.
        """
        from durableq.client.queue import drafts_of

        return await self._asend(lambda: drafts_of(bodies, options))

    async def _asend(self, make: Callable[[], list[Draft]]) -> list[str]:
        from durableq.client.coroutines import opened, send

        return await send(await opened(self._app), self.name, make)

    async def areceive(
        self,
        limit: int = 1,
        *,
        visibility_timeout: Seconds | None = None,
        min: int | None = None,
        window: Seconds | None = None,
        wait: Seconds = 0,
    ) -> Deliveries:
        """Lease up to `limit` messages; settle each yourself: `await message.acomplete()`.

        With `wait`, it returns as soon as there is a message. If the coroutine is cancelled, no
        message stays leased: those that were received for it are released, uncounted.

        Args:
            limit: as for receive.
            visibility_timeout: as for receive.
            min: as for receive.
            window: as for receive; it is the wait for messages, too.
            wait: seconds to wait for a message where there is none, without a window; woken by
                a send.

        Returns:
            As receive; an empty list after the wait.

        Raises:
            InvalidInput, Busy: as for receive.
        """
        from durableq.client import receiving_async
        from durableq.client.coroutines import opened

        lease_ms = None
        if visibility_timeout is not None:
            lease_ms = to_ms(visibility_timeout, "visibility_timeout")
        seconds = to_ms(wait, "wait", MAX_DELAY_MS) / 1000
        wanted = None
        if min is not None or window is not None:
            wanted = gathering(limit, min, window, lease_ms)
            if seconds:
                raise InvalidInput("A window is the wait of a receive: leave out wait, or window.")
        terms = None if wanted is None else wanted.terms
        call = Receive(self.name, limit, lease_ms, gather=terms)
        store, began_at = await opened(self._app), time.monotonic()
        received = await receiving_async.receive(store, call, wanted, seconds)
        if tracing.active is not None and received.messages:
            tracing.active.received(self.name, received.messages, time.monotonic() - began_at)
        actor = f"pid {os.getpid()}"
        deliveries = [Delivery(message, store, actor) for message in received.messages]
        return Deliveries(deliveries, more=received.more)

    async def acomplete_many(
        self, deliveries: Iterable[Delivery], *, results: Mapping[str, Any] | None = None
    ) -> None:
        """End received messages in success, in one commit. See complete_many.

        Args:
            deliveries: as for complete_many.
            results: as for complete_many.

        Raises:
            StaleReceipt, InvalidInput, InvalidResult: as for complete_many.
        """
        from durableq.client.coroutines import commit, opened

        settled = Completing(self.name, deliveries, results)
        if settled.completions:
            store = await opened(self._app)
            settled.judge(await commit(store, Settle(settled.completions)))

    async def aresult(self, key: str, *, wait: Seconds = 0) -> Any:
        """Return the result of the success under a key: `await orders.aresult(key, wait=30)`.

        Args:
            key: as for result.
            wait: as for result.

        Raises:
            NoResult, InvalidInput: as for result.
        """
        from durableq.client.coroutines import opened

        check_key(key)
        seconds = to_ms(wait, "wait", MAX_DELAY_MS) / 1000
        return await result_of_async(await opened(self._app), self.name, key, seconds)
