"""Receives that wait for messages: one watch, and one look after each write, for all of them.

A message that becomes ready wakes as many receives as there are ready messages, in the order of
their coming. The timer is that of the next message that is due, or whose lease ends.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from contextlib import suppress
from typing import Final, NamedTuple
from weakref import WeakKeyDictionary

from durableq.client.coroutines import commit, read
from durableq.client.watching import Writes, watching
from durableq.model.endpoint import Readiness
from durableq.model.errors import DurableQError
from durableq.model.limits import MAX_STORE_RECEIVES
from durableq.model.message import Received
from durableq.runtime.outage import PAUSE_SECONDS, Outage, logged
from durableq.runtime.wakeup import WRITES_SECONDS
from durableq.store.core import Capability, Receive, Store

log = logging.getLogger("durableq.serve")

#: How long the watch goes on after the last receive has ended: the next one comes soon.
LINGER_SECONDS: Final = 5.0


class _Waiter(NamedTuple):
    """A receive that waits, and the messages that it takes at most."""

    turn: asyncio.Future[None]
    limit: int


class Polls:
    """The receives of one event loop that wait for messages of one store.

    Args:
        store: the engine.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting: dict[str, deque[_Waiter]] = {}
        #: Queues whose ready messages no receive got, and when to look at them again.
        self._deferred: dict[str, float] = {}
        self._changed = asyncio.Event()
        self._is_looking = False
        self._task: asyncio.Task[None] | None = None
        #: The looks so far, for tests.
        self.looks = 0

    async def receive(self, call: Receive, seconds: float) -> Received:
        """Wait for messages and lease them; without any message, after the time.

        Args:
            call: the receive, which has found none.
            seconds: the longest wait.
        """
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + seconds
        try:
            while (left := ends_at - loop.time()) > 0 and await self._turn(call, left):
                received = await receive(self._store, call)
                if received.messages:
                    return received
                # Another was first. The queue is looked at again after this time.
                self._deferred[call.queue] = loop.time() + WRITES_SECONDS
        except BaseException:
            self._changed.set()  # the message that it was woken for is for another
            raise
        return Received([], [], 0)

    @property
    def is_looking(self) -> bool:
        """Whether a look is due, or on its way."""
        return self._changed.is_set() or self._is_looking

    async def close(self) -> None:
        """End the watch. Nothing waits any more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    def waiting(self, queue: str) -> int:
        """Return the number of receives that wait for messages of a queue."""
        return len(self._waiting.get(queue, ()))

    async def _turn(self, call: Receive, seconds: float) -> bool:
        """Wait until a message is there for this receive; return False after the time."""
        waiter = _Waiter(asyncio.get_running_loop().create_future(), call.limit)
        self._waiting.setdefault(call.queue, deque()).append(waiter)
        self._look_soon()
        try:
            await asyncio.wait({waiter.turn}, timeout=seconds)
        finally:
            self._leave(call.queue, waiter)
        return waiter.turn.done()

    def _leave(self, queue: str, waiter: _Waiter) -> None:
        others = self._waiting.get(queue)
        if others is not None:
            with suppress(ValueError):
                others.remove(waiter)
            if not others:
                del self._waiting[queue]

    def _look_soon(self) -> None:
        self._changed.set()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        """Look while receives wait; after an error of the store, look again soon."""
        outage = Outage(logged(log))
        while True:
            try:
                await self._watch(outage)
                return
            except DurableQError as error:
                outage.report(error)
            except Exception:
                log.exception("Receives that wait look again in %s s", PAUSE_SECONDS)
            self._is_looking = False
            if not self._waiting:
                return
            await asyncio.sleep(PAUSE_SECONDS)

    async def _watch(self, outage: Outage) -> None:
        """Look after each write, and when the next message is due."""
        async with watching(self._store) as writes:
            following = asyncio.create_task(self._follow(writes))
            try:
                while not following.done():
                    self._is_looking = True
                    self._changed.clear()
                    pause = await self._look() if self._waiting else LINGER_SECONDS
                    self._is_looking = False
                    outage.end()
                    try:
                        async with asyncio.timeout(pause):
                            await self._changed.wait()
                    except TimeoutError:
                        if not self._waiting:
                            return
                following.result()
            finally:
                following.cancel()

    async def _follow(self, writes: Writes) -> None:
        try:
            while True:
                await writes.wait()
                self._changed.set()
        finally:
            self._changed.set()

    async def _look(self) -> float | None:
        """Wake receives for the messages that are ready; return the time to the next look."""
        now = asyncio.get_running_loop().time()
        self._deferred = {queue: at for queue, at in self._deferred.items() if at > now}
        wanted = {
            queue: sum(waiter.limit for waiter in waiters)
            for queue, waiters in self._waiting.items()
            if queue not in self._deferred
        }
        endpoint = self._store.require(Capability.ENDPOINT)
        seen = await read(self._store, endpoint.readiness, wanted) if wanted else {}
        pauses = [at - now for queue, at in self._deferred.items() if queue in self._waiting]
        for queue, limit in wanted.items():
            # The receives of a deleted queue say so.
            look = seen.get(queue, Readiness(0, limit))
            if look.due_ms == 0:
                self._wake(queue, look.number)
            elif look.due_ms is not None:
                pauses.append(look.due_ms / 1000)
        self.looks += 1
        return max(min(pauses), 0.001) if pauses else None

    def _wake(self, queue: str, ready: int) -> None:
        """Give their turns to the first receives, for the messages that are ready."""
        waiters = self._waiting.get(queue, deque())
        left = max(ready, 1)
        while waiters and left > 0:
            waiter = waiters.popleft()
            if not waiter.turn.done():
                waiter.turn.set_result(None)
                left -= waiter.limit


async def receive(store: Store, call: Receive) -> Received:
    """Receive at once; go on behind messages that are not delivered, as one that is dead now."""
    received: Received = await commit(store, call)
    receives = 1
    while _goes_on(received) and receives < MAX_STORE_RECEIVES:
        received = await commit(store, call)
        receives += 1
    return received


def _goes_on(received: Received) -> bool:
    """Return whether the next receive may bring a message, which waited for one set aside."""
    return not received.messages and (received.more or received.set_aside > 0)


#: The receives that wait, of each event loop.
_polls: WeakKeyDictionary[asyncio.AbstractEventLoop, WeakKeyDictionary[Store, Polls]] = (
    WeakKeyDictionary()
)


def polls_of(store: Store) -> Polls:
    """Return the receives of this event loop that wait for messages of a store."""
    of_loop = _polls.setdefault(asyncio.get_running_loop(), WeakKeyDictionary())
    found = of_loop.get(store)
    if found is None:
        found = of_loop[store] = Polls(store)
    return found
