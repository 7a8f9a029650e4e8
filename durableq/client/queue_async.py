"""The calls of a queue for coroutines: those of Queue with an `a` before their names."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Unpack

from durableq.model.message import Draft, SendOptions, draft

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
        At most MAX_PENDING messages of an event loop wait for one, or MAX_PENDING_BYTES; further
        sends wait before they encode their body, so leave a body unchanged until this returns.

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
