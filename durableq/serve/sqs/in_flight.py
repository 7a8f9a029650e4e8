"""The limit of messages in flight of a standard queue: about 120,000, as on AWS.

Counting them takes time in proportion to their number. So the receives of this server are added up,
and the messages are counted at the first receive, and once a second beyond half of the limit.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final
from weakref import WeakKeyDictionary

from durableq.client.coroutines import read
from durableq.serve.context import Context
from durableq.serve.errors import OVER_LIMIT, ServiceError
from durableq.store.core import Capability, Store

MAX_IN_FLIGHT: Final = 120_000
#: How long a count is used.
FRESH_SECONDS: Final = 1.0


class InFlight:
    """The messages in flight of the queues of a store, as far as this server knows."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._counted_at: dict[str, float] = {}

    def note(self, key: str, number: int) -> None:
        """Add messages that were received, or subtract those that were deleted."""
        self._numbers[key] = max(0, self._numbers.get(key, 0) + number)

    async def is_full(self, store: Store, key: str) -> bool:
        """Return whether no more messages of a queue may be received.

        Raises:
            UnknownQueue: it does not exist.
        """
        now = time.monotonic()
        is_fresh = now - self._counted_at.get(key, -FRESH_SECONDS) < FRESH_SECONDS
        is_low = self._numbers.get(key, 0) < MAX_IN_FLIGHT // 2 and key in self._counted_at
        if not (is_fresh or is_low):
            self._counted_at[key] = now  # of many receives at once, one counts
            self._numbers[key] = await read(store, _count, store, key)
        return self._numbers.get(key, 0) >= MAX_IN_FLIGHT


def _count(store: Store, key: str) -> int:
    return store.require(Capability.INSPECT).queue(key).counts.in_flight


_of_store: WeakKeyDictionary[Store, InFlight] = WeakKeyDictionary()


def in_flight(store: Store) -> InFlight:
    """Return the messages in flight of a store."""
    found = _of_store.get(store)
    if found is None:
        found = _of_store[store] = InFlight()
    return found


async def wait_for_room(context: Context, key: str, seconds: float) -> float:
    """Wait until messages of a queue may be received; return the seconds that are left.

    Args:
        context: of the request.
        key: the name of the queue in the store.
        seconds: how long the receive waits; a receive that does not wait is refused, as on AWS.

    Raises:
        ServiceError: too many messages are in flight.
    """
    numbers = in_flight(context.store)
    while await numbers.is_full(context.store, key):
        if not seconds:
            raise ServiceError(
                OVER_LIMIT,
                f"Too many messages in flight: the limit of a queue is {MAX_IN_FLIGHT}.",
            )
        pause = min(seconds, FRESH_SECONDS)
        await context.stopping.unless_set(asyncio.sleep(pause))
        seconds -= pause
        if seconds <= 0 or context.stopping.is_set:
            return -1
    return seconds
