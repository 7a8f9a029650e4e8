"""Receiving messages for the executors of a worker, without polling."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from durableq.client.delivery import Delivery
from durableq.client.handlers import Handler
from durableq.model.errors import PASSING
from durableq.model.limits import MAX_RECEIVE_BATCH
from durableq.model.message import Received
from durableq.model.text import visible
from durableq.runtime import logs
from durableq.runtime.outage import PAUSE_SECONDS, Outage, logged
from durableq.runtime.wakeup import MessageWaiter, WakeupEvent
from durableq.store.core import Capability, Store
from durableq.worker.in_flight import InFlight

log = logging.getLogger("durableq.worker")

#: Longest wait between two looks at the file, in case a notification was missed.
LONGEST_WAIT_SECONDS: Final = 1.0
#: First and longest pause after a write by another process that made no message ready.
PAUSES_SECONDS: Final = (0.001, 0.010)


#: Work of one queue that a thread may lease at a time: idle neighbours hardly miss it.
PREFETCH_SECONDS: Final = 0.010
MAX_PREFETCH: Final = 100


class AdaptivePrefetch:
    """Learns how long each queue's handler takes, and so how many messages to lease at a time.

    Starts with one message, trusts a fast handler after some tens of messages, and a slow one
    again after a few. Races between threads only skew the estimate a little.
    """

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}

    def record(self, queue: str, seconds: float) -> None:
        """Learn from the time that a handler took for one message."""
        before = self._seconds.get(queue, PREFETCH_SECONDS)
        weight = 0.2 if seconds < before else 0.5
        self._seconds[queue] = before + weight * (seconds - before)

    def capacity(self, queue: str) -> int:
        """Return the number of messages to lease at a time."""
        seconds = self._seconds.get(queue, PREFETCH_SECONDS)
        return max(1, min(MAX_PREFETCH, int(PREFETCH_SECONDS / max(seconds, 1e-6))))


class Work(NamedTuple):
    """Messages of one queue, and the handler for them."""

    handler: Handler
    deliveries: list[Delivery]


class Fetcher:
    """Receives messages for executors, one executor at a time.

    Args:
        store: the store of the queues.
        handlers: handlers of the queues to receive from.
        in_flight: gets received messages before any executor.
        owner_id: id of the worker in its leases.
        actor: name of the worker, for the history.
        stopping: when set, nothing more is received.
        prefetch: number of messages to lease at a time.
        drain: end when the queues are empty.
        on_receive: called after each receive, with or without messages.
    """

    def __init__(
        self,
        store: Store,
        handlers: Sequence[Handler],
        in_flight: InFlight,
        *,
        owner_id: int,
        actor: str,
        stopping: WakeupEvent,
        prefetch: AdaptivePrefetch,
        drain: bool,
        on_receive: Callable[[], None] = lambda: None,
    ) -> None:
        self._store = store
        self._handlers = handlers
        self._queues = [handler.queue for handler in handlers]
        self._in_flight = in_flight
        self._owner_id = owner_id
        self._actor = actor
        self._stopping = stopping
        self._prefetch = prefetch
        self._drain = drain
        self._on_receive = on_receive
        self._outage = Outage(logged(log))
        self._waiter: MessageWaiter | None = None
        self._next = 0
        #: Whether a receive stopped at its limits, so that another may return messages.
        self._more = False
        self._turn = threading.Lock()
        #: Whether it ended because the queues were empty.
        self.drained = False

    def next(self, limit: int = MAX_RECEIVE_BATCH) -> Work | None:
        """Wait for messages and return at most `limit`; None at the end.

        Raises:
            DatabaseUnusable: the file is gone.
        """
        with self._turn:
            while not (self._stopping.is_set or self.drained):
                try:
                    work = self._receive(limit)
                    self._outage.end()
                    self._on_receive()
                    if work is not None:
                        if self._waiter is not None:
                            self._waiter.reset()
                        return work
                    if not self._more:
                        self._wait()
                except PASSING as error:
                    self._outage.report(error)
                    self._stopping.wait(PAUSE_SECONDS)
        return None

    def close(self) -> None:
        """Stop watching."""
        if self._waiter is not None:
            self._waiter.close()

    def _receive(self, limit: int) -> Work | None:
        """Receive from the next queue that has messages, in turn."""
        self._stopping.exit_unless_intact()
        self._more = False
        for _ in self._handlers:
            handler = self._handlers[self._next]
            self._next = (self._next + 1) % len(self._handlers)
            # A receive is a write; with several queues the empty ones are only read.
            if len(self._handlers) > 1 and self._store.ready_in_ms([handler.queue]) != 0:
                continue
            prefetch = handler.prefetch
            if prefetch is None:
                prefetch = limit if handler.is_async else self._prefetch.capacity(handler.queue)
            received = self._store.receive(
                handler.queue, min(limit, prefetch), owner_id=self._owner_id
            )
            self._more |= received.more
            self._log_duplicates(received)
            if received.messages:
                deliveries = [Delivery(m, self._store, self._actor) for m in received.messages]
                self._in_flight.add(deliveries, may_release=handler.prefetch is None)
                return Work(handler, deliveries)
        return None

    def _wait(self) -> None:
        """Wait until a receive may return messages, or until the queues are drained."""
        if self._waiter is None:
            self._waiter = MessageWaiter(self._store, self._stopping, PAUSES_SECONDS)
        while not self._stopping.is_set:
            if self._drain and self._is_empty():
                self.drained = True
                return
            if self._waiter.wait(self._queues, LONGEST_WAIT_SECONDS):
                return

    def _is_empty(self) -> bool:
        """Whether all queues are empty."""
        return all(
            self._store.require(Capability.INSPECT).queue(name).counts.present == 0
            for name in self._queues
        )

    def _log_duplicates(self, received: Received) -> None:
        for duplicate in received.duplicates:
            log.info(
                "message %s of %s: duplicate of key %s, skipped",
                duplicate.message_id,
                duplicate.queue,
                visible(duplicate.key),
                extra=logs.facts(
                    "duplicate",
                    message_id=duplicate.message_id,
                    queue=duplicate.queue,
                    key=duplicate.key,
                ),
            )
