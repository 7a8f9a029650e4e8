"""Receiving messages for the executors of a worker, without polling."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from typing import Final

from durableq.client import tracing
from durableq.client.delivery import Delivery
from durableq.client.handlers import Handler
from durableq.model.errors import PASSING
from durableq.model.limits import MAX_RECEIVE
from durableq.model.message import Received
from durableq.model.text import visible
from durableq.runtime import logs
from durableq.runtime.outage import PAUSE_SECONDS, Outage, logged
from durableq.runtime.wakeup import MessageWaiter
from durableq.store.core import Capability
from durableq.worker.completer import Completer
from durableq.worker.in_flight import Work
from durableq.worker.state import WorkerState

log = logging.getLogger("durableq.worker")

#: Longest wait between two looks at the file, in case a notification was missed.
LONGEST_WAIT_SECONDS: Final = 1.0
#: First and longest pause after a write by another process that made no message ready.
PAUSES_SECONDS: Final = (0.001, 0.010)


class Fetcher:
    """Receives messages for executors, one executor at a time.

    Args:
        state: gets received messages before any executor.
        handlers: handlers of the queues to receive from.
        completer: receives, together with the settling of handled messages.
    """

    def __init__(
        self, state: WorkerState, handlers: Sequence[Handler], completer: Completer
    ) -> None:
        self._state = state
        self._completer = completer
        self._store = state.store
        self._handlers = handlers
        self._queues = [handler.queue for handler in handlers]
        self._outage = Outage(logged(log))
        self._waiter: MessageWaiter | None = None
        self._next = 0
        #: Whether a receive stopped at its limits, so that another may return messages.
        self._more = False
        #: Queues whose messages are gathered in a window, and the time until one of those is over.
        self._gathered = {one.queue for one in handlers if one.gathering is not None}
        self._left_ms: int | None = None
        self._turn = threading.Lock()
        #: Whether it ended because the queues were empty.
        self.drained = False

    def next(self, limit: int = MAX_RECEIVE) -> Work | None:
        """Wait for messages and return at most `limit`; None at the end.

        Raises:
            DatabaseUnusable: the file is gone.
        """
        with self._turn:
            while not (self._state.stopping.is_set or self.drained):
                try:
                    work = self._receive(limit)
                    self._outage.end()
                    self._state.mark_ready()
                    if work is not None:
                        if self._waiter is not None:
                            self._waiter.reset()
                        return work
                    if not self._more:
                        self._wait()
                except PASSING as error:
                    self._outage.report(error)
                    self._state.stopping.wait(PAUSE_SECONDS)
        return None

    def poll(self, limit: int = MAX_RECEIVE) -> Work | None:
        """Return at most `limit` messages that are ready, without waiting; None if none is."""
        while (work := self._receive(limit)) is None and self._more:
            pass
        return work

    def close(self) -> None:
        """Stop watching."""
        if self._waiter is not None:
            self._waiter.close()

    def _receive(self, limit: int) -> Work | None:
        """Receive from the next queue that has messages, in turn."""
        self._more, self._left_ms = False, None
        for _ in self._handlers:
            handler = self._handlers[self._next]
            self._next = (self._next + 1) % len(self._handlers)
            # A receive is a write; with several queues the empty ones are only read.
            if not self._is_gathered(handler):
                continue
            if len(self._handlers) > 1 and self._store.ready_in_ms([handler.queue]) != 0:
                continue
            prefetch = handler.prefetch
            if prefetch is None:
                prefetch = (
                    limit if handler.is_async else self._state.prefetch.capacity(handler.queue)
                )
            began_at = time.monotonic()
            if handler.gathering is None:  # a batch takes one slot
                prefetch = min(limit, prefetch)
            received = self._completer.receive(
                handler.queue,
                prefetch,
                by_group=handler.by_group,
                gather=None if handler.gathering is None else handler.gathering.terms,
            )
            self._state.prefetch.record_receive(time.monotonic() - began_at)
            self._more |= received.more
            _log_duplicates(received)
            if handler.gathering is not None and received.idle:  # others have taken the batch
                self._look_in(received.wait_ms)
            if received.messages:
                if tracing.active is not None:
                    seconds = time.monotonic() - began_at
                    tracing.active.received(handler.queue, received.messages, seconds)
                store, actor = self._store, self._state.name
                taken = [Delivery(one, store, actor) for one in received.messages]
                work = Work(handler, taken, began_at)
                self._state.in_flight.add(work)
                return work
        return None

    def _is_gathered(self, handler: Handler) -> bool:
        """Return whether the window of a handler, if it has one, is over."""
        if handler.gathering is None:
            return True
        left_ms = handler.gathering.left_ms(self._store, handler.queue)
        self._look_in(left_ms)
        return left_ms == 0

    def _look_in(self, left_ms: int | None) -> None:
        """Look at the windows again after this time, if it is known and not over."""
        if left_ms:
            self._left_ms = left_ms if self._left_ms is None else min(left_ms, self._left_ms)

    def _wait(self) -> None:
        """Wait until a receive may return messages, or until the queues are drained."""
        if self._waiter is None:
            self._waiter = MessageWaiter(self._store, self._state.stopping, PAUSES_SECONDS)
        while not self._state.stopping.is_set:
            if self._state.options.drain and self._is_empty():
                self.drained = True
                return
            if not self._gathered:
                if self._waiter.wait(self._queues, LONGEST_WAIT_SECONDS):
                    return
                continue
            seconds = LONGEST_WAIT_SECONDS
            if self._left_ms is not None:
                seconds = min(seconds, self._left_ms / 1000)
            self._waiter.wait([one for one in self._queues if one not in self._gathered], seconds)
            return  # to look at the windows again

    def _is_empty(self) -> bool:
        inspect = self._store.require(Capability.INSPECT)
        counts = [inspect.queue(name).counts for name in self._queues]
        # Without an active message, blocked ones wait for a decision about a dead letter.
        return all(each.present == each.blocked for each in counts)


def _log_duplicates(received: Received) -> None:
    for one in received.duplicates:
        facts = {"message_id": one.message_id, "queue": one.queue, "key": one.key}
        log.debug(
            "message %s of %s: duplicate of key %s, skipped",
            *(one.message_id, one.queue, visible(one.key)),
            extra=logs.facts("duplicate", **facts),
        )
