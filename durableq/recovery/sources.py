"""The place of the dead letters of a queue, and leases of them.

In a private dead-letter queue all messages are those of its queue, and a receive leases them. In
any other they are among those of other queues, and among messages that were sent there, which are
not for recovery: they are leased by id.
"""

from __future__ import annotations

import time
from typing import Final

from durableq.model.dead_letters import DeadLetterFilter
from durableq.model.message import Message, State
from durableq.model.queues import dead_letter_name
from durableq.store.core import Capability, Store

#: A change of the dead-letter queue is noticed in this time; one that is shared is looked at as
#: often.
LOOK_SECONDS: Final = 1.0
_PAGE: Final = 100


class DeadLetterSource:
    """The dead letters of one queue.

    Args:
        store: the store.
        queue: the queue where they died.
    """

    def __init__(self, store: Store, queue: str) -> None:
        self._store = store
        self._queue = queue
        self._look_at = 0.0
        #: The name of the dead-letter queue.
        self.name = dead_letter_name(queue)
        #: Whether it has nothing else.
        self.is_private = True

    def look(self) -> None:
        """Look where dead letters go now, if the last look was a while ago.

        Raises:
            UnknownQueue: the queue was deleted.
        """
        if time.monotonic() < self._look_at:
            return
        inspect = self._store.require(Capability.INSPECT)
        self.name = inspect.queue(self._queue).dead_letter_queue or self.name
        self.is_private = inspect.queue(self.name).dead_letter_queue is None
        self._look_at = time.monotonic() + LOOK_SECONDS

    def is_ready(self) -> bool:
        """Return whether `lease` may find any: a lease is a write."""
        if self.is_private:
            return self._store.ready_in_ms([self.name]) == 0
        return bool(self._ready(1))

    def lease(self, limit: int, owner_id: int) -> list[Message] | None:
        """Lease a few; None if none is ready, an empty list if others may be."""
        if self.is_private:
            received = self._store.receive(self.name, limit, owner_id=owner_id)
            return None if received.idle else received.messages
        ids = self._ready(limit)
        if not ids:
            return None
        dead_letters = self._store.require(Capability.DEAD_LETTERS)
        return dead_letters.lease_dead_letters(self.name, ids, owner_id=owner_id)

    def _ready(self, limit: int) -> list[str]:
        """Return the ids of the first that are ready."""
        read, found = self._store.require(Capability.DEAD_LETTERS).dead_letters, list[str]()
        after: str | None = None
        while len(found) < limit and (page := read(DeadLetterFilter(self._queue), _PAGE, after)):
            after = page[-1].id
            there = [each.message for each in page if each.message.queue == self.name]
            found += [message.id for message in there if message.state is State.READY]
        return found[:limit]
