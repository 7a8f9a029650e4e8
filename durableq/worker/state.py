"""The state that the threads of one worker share: above all its messages in flight."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from durableq.client.app import DurableQ
from durableq.client.delivery import Delivery
from durableq.model.info import WorkerStats
from durableq.model.message import Receipt
from durableq.runtime import logs
from durableq.runtime.wakeup import WakeupEvent
from durableq.store.core import Store
from durableq.supervisor.scoreboard import Scoreboard, Stage
from durableq.worker.options import WorkerOptions

log = logging.getLogger("durableq.worker")


@dataclass(slots=True)
class InFlightMessage:
    """A delivery in flight, and the time of its next extension."""

    delivery: Delivery
    lease_ms: int
    #: On the monotonic clock, after a third of the lease.
    extend_at: float
    #: Slot of its handler call in the scoreboard.
    slot: int | None = None
    began_at: float | None = None
    taken_at: float = 0.0
    #: Whether the last extension was refused.
    was_refused: bool = False
    #: Whether it is released when it waits too long behind another message.
    may_release: bool = False


class InFlight:
    """The deliveries leased to one worker and not settled yet. Thread-safe."""

    def __init__(self, scoreboard: Scoreboard) -> None:
        self._scoreboard = scoreboard
        self._messages: dict[Receipt, InFlightMessage] = {}
        self._changing = threading.Lock()
        #: Shortest lease that the lease keeper extends in time at its present interval.
        self.covered_ms = 0
        #: Set when a shorter lease was added: the settings of a queue may change at any time.
        self.shorter_lease = WakeupEvent()
        #: Number of messages that handlers were called with.
        self.started = 0
        #: Number of those that are settled.
        self.handled = 0
        #: Number of those that failed.
        self.failed = 0

    def add(self, deliveries: Iterable[Delivery], *, may_release: bool = False) -> None:
        """Add received deliveries."""
        now = time.monotonic()
        with self._changing:
            for delivery in deliveries:
                lease_ms = delivery.message.lease_left_ms
                self._messages[delivery.receipt] = InFlightMessage(
                    delivery,
                    lease_ms,
                    now + lease_ms / 3000,
                    taken_at=now,
                    may_release=may_release,
                )
                if lease_ms < self.covered_ms:
                    self.shorter_lease.set()

    def begin(self, deliveries: Sequence[Delivery], timeout_ms: int) -> bool:
        """Mark a message or a batch as started; return False if it was released."""
        first = deliveries[0].receipt
        now = time.monotonic()
        with self._changing:
            called = self._messages.get(first)
            if called is None:
                return False
            self.started += len(deliveries)
            for delivery in deliveries:
                self._messages[delivery.receipt].began_at = now
        message_id = first.message_id if len(deliveries) == 1 else ""
        called.slot = self._scoreboard.begin(first.token, message_id, timeout_ms=timeout_ms)
        return True

    def set_process_group(self, delivery: Delivery, group: int) -> None:
        """Record the process group of the command that handles a message."""
        slot = self._messages[delivery.receipt].slot
        if slot is not None:
            self._scoreboard.set_process_group(slot, group)

    def mark_returned(self, delivery: Delivery) -> float:
        """Mark the handler of a delivery as returned; return its duration in seconds."""
        message = self._messages[delivery.receipt]
        if message.slot is not None:
            self._scoreboard.mark_returned(message.slot)
        return time.monotonic() - (message.began_at or 0.0)

    def not_started(self, deliveries: Iterable[Delivery]) -> list[Delivery]:
        """Return the deliveries that are in flight and not started."""
        with self._changing:
            found = [self._messages.get(delivery.receipt) for delivery in deliveries]
        return [one.delivery for one in found if one is not None and one.began_at is None]

    def remove_waiting(self, seconds: float) -> list[Delivery]:
        """Remove and return the deliveries that have waited this long and may be released."""
        since = time.monotonic() - seconds
        with self._changing:
            waiting = [
                one
                for one in self._messages.values()
                if one.may_release and one.began_at is None and one.taken_at <= since
            ]
            for one in waiting:
                del self._messages[one.delivery.receipt]
        return [one.delivery for one in waiting]

    def reset(self, deliveries: Iterable[Delivery]) -> None:
        """Mark deliveries as not started, for a handler call that does not count."""
        for delivery in deliveries:
            message = self._messages[delivery.receipt]
            message.began_at = None
            if message.slot is not None:
                self._scoreboard.end(message.slot)
                message.slot = None

    def remove(self, deliveries: Iterable[Delivery]) -> None:
        """Remove deliveries that are settled, released or lost."""
        with self._changing:
            ended = [self._messages.pop(delivery.receipt, None) for delivery in deliveries]
            self.handled += sum(one is not None and one.began_at is not None for one in ended)
        for message in ended:
            if message is not None and message.slot is not None:
                self._scoreboard.end(message.slot)

    def stats(self, *, draining: bool) -> WorkerStats:
        """Return the statistics of this worker."""
        with self._changing:
            began = [one.began_at for one in self._messages.values() if one.began_at is not None]
            in_flight = len(self._messages)
        running_ms = int(1000 * (time.monotonic() - min(began))) if began else 0
        return WorkerStats(
            state="draining" if draining else "working" if in_flight else "idle",
            handled=self.handled,
            failed=self.failed,
            in_flight=in_flight,
            oldest_began_ms=time.time_ns() // 1_000_000 - running_ms if began else 0,
        )

    def shortest_ms(self) -> int | None:
        """Return the shortest lease in flight; None if nothing is in flight."""
        with self._changing:
            return min((one.lease_ms for one in self._messages.values()), default=None)

    def to_extend(self, now: float) -> list[InFlightMessage]:
        """Return the messages whose lease is to be extended now, without lost ones."""
        with self._changing:
            found = list(self._messages.values())
        return [one for one in found if one.extend_at <= now and not one.delivery.lost]


#: Work of one queue that a thread may lease at a time: idle neighbours hardly miss it.
PREFETCH_SECONDS: Final = 0.010
#: The same where receives are slow, on a busy file or a slow disk.
MAX_PREFETCH_SECONDS: Final = 0.100
MAX_PREFETCH: Final = 100
#: A receive may take this share of the time of the work that it brings.
RECEIVE_SHARE: Final = 0.1


class AdaptivePrefetch:
    """Learns how long each queue's handler takes, and so how many messages to lease at a time.

    Starts with one message and at most doubles the number at each receive: a fast handler has
    MAX_PREFETCH after eight, a slow one has few again after one or two. It learns from all messages
    of a receive together: one among many that the system interrupted says little. Races between
    threads only skew the estimate a little.

    It leases more where a receive itself takes long. Handlers that write to the file wait for its
    lock or disk as receives do; leasing one message at a time would double the number of commits.
    """

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self._receive_seconds = 0.0

    def record(self, queue: str, seconds: float, number: int = 1) -> None:
        """Learn from the time that a handler took for a number of messages, one after another."""
        before = self._seconds.get(queue, PREFETCH_SECONDS)
        self._seconds[queue] = (before + seconds / number) / 2

    def record_receive(self, seconds: float) -> None:
        """Learn from the time that a receive took."""
        self._receive_seconds = (self._receive_seconds + seconds) / 2

    def capacity(self, queue: str) -> int:
        """Return the number of messages to lease at a time."""
        work_seconds = max(PREFETCH_SECONDS, self._receive_seconds / RECEIVE_SHARE)
        seconds = self._seconds.get(queue, PREFETCH_SECONDS)
        number = min(work_seconds, MAX_PREFETCH_SECONDS) / max(seconds, 1e-6)
        return max(1, min(MAX_PREFETCH, int(number)))


class WorkerState:
    """The state that the threads of one worker share.

    Args:
        app: its store is opened at the first use.
        options: options of the worker.
        scoreboard: memory shared with the supervisor; private memory without one.
    """

    def __init__(self, app: DurableQ, options: WorkerOptions, scoreboard: Scoreboard) -> None:
        self._app = app
        self.options = options
        self.scoreboard = scoreboard
        #: Name of the worker in the history of messages.
        self.name = f"{options.name}:{os.getpid()}"
        self.in_flight = InFlight(scoreboard)
        self.prefetch = AdaptivePrefetch()
        #: Set it to drain and stop; a signal handler may.
        self.stopping = WakeupEvent()
        #: The error that ends the worker.
        self.error: BaseException | None = None

    @property
    def store(self) -> Store:
        """The store of the application."""
        return self._app.store

    @property
    def is_used_up(self) -> bool:
        """Whether handlers were called with `max_messages` messages."""
        return 0 < self.options.max_messages <= self.in_flight.started

    def give_up(self, error: BaseException) -> None:
        """Stop the worker because of an error; running handlers finish."""
        self.error = self.error or error
        self.stopping.set()

    def mark_ready(self) -> None:
        """Record that the worker has made a receive."""
        if self.scoreboard.stage is Stage.OPENING:
            self.scoreboard.reach(Stage.READY)


def warn(delivery: Delivery, event: str, text: str, *values: object, **known: Any) -> None:
    """Log a warning about a message: `text` with its values, after the message's id and queue."""
    text = f"message %s of %s{text}"
    facts = message_facts(delivery, event, **known)
    log.warning(text, delivery.id, delivery.queue, *values, extra=facts)


def message_facts(delivery: Delivery, event: str, **known: Any) -> dict[str, Any]:
    """Return a log call's `extra` for an event of a message, without its payload."""
    count = delivery.receive_count
    return logs.facts(
        event, message_id=delivery.id, queue=delivery.queue, receive_count=count, **known
    )
