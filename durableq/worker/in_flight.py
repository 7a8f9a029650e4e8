"""The messages that are leased to a worker and not settled yet, by the receive that brought them.

Messages of one receive share a token and a lease, so both are stored once. A message costs an entry
in a dictionary, and a slot of the scoreboard while its handler runs.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from durableq.client.delivery import Delivery
from durableq.client.handlers import Handler
from durableq.model.info import WorkerStats
from durableq.runtime.wakeup import WakeupEvent
from durableq.supervisor.scoreboard import Scoreboard

if TYPE_CHECKING:
    from durableq.supervisor.histograms import WorkerHistograms


class Work:
    """The messages of one receive, their lease, and the handler for them.

    An executor and the lease keeper, which releases messages that wait too long, both take waiting
    messages. A deque's pop is atomic, so each message has one taker.

    Args:
        handler: the handler for them.
        deliveries: the messages.
        asked_at: time before the receive, on the monotonic clock: the lease began later.
    """

    def __init__(self, handler: Handler, deliveries: Sequence[Delivery], asked_at: float) -> None:
        self.handler = handler
        #: The messages that are not taken yet.
        self.waiting = deque(deliveries)
        #: The messages that are not settled yet, with the scoreboard's slot of the handler call.
        self.open: dict[Delivery, int | None] = dict.fromkeys(deliveries)
        self.token = deliveries[0].receipt.token
        self.lease_ms = deliveries[0].message.lease_left_ms
        self.taken_at = time.monotonic()
        #: The next extension is not later than this, on the monotonic clock.
        self.extend_at = asked_at + self.lease_ms / 3000
        #: The messages whose last extension was refused.
        self.refused: set[Delivery] = set()

    def take(self) -> Delivery | None:
        """Take the next waiting message."""
        try:
            return self.waiting.popleft()
        except IndexError:
            return None

    def take_all(self) -> list[Delivery]:
        """Take all waiting messages."""
        taken = []
        while (delivery := self.take()) is not None:
            taken.append(delivery)
        return taken

    def to_extend(self) -> list[Delivery]:
        """Return the messages whose leases are to be extended."""
        return [one for one in tuple(self.open) if not (one.settled or one.lost)]


class InFlight:
    """The messages in flight, and counters of them. Thread-safe.

    Args:
        scoreboard: gets the handler calls.
        timeout_ms: time limit of a handler; 0 for none.
        histograms: get the waits of messages and the durations of handlers; None without metrics.
    """

    def __init__(
        self, scoreboard: Scoreboard, timeout_ms: int, histograms: WorkerHistograms | None = None
    ) -> None:
        self._scoreboard = scoreboard
        self._histograms = histograms
        self._timeout_ns = timeout_ms * 1_000_000
        #: Threads add and remove, each one atomic step.
        self._works: set[Work] = set()
        self._counting = threading.Lock()
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

    def close(self) -> None:
        """Close the event, once no thread waits for it."""
        self.shorter_lease.close()

    def works(self) -> list[Work]:
        """Return the receives with messages in flight."""
        return [*self._works]

    def add(self, work: Work) -> None:
        """Add received messages."""
        self._works.add(work)
        if work.lease_ms < self.covered_ms:
            self.shorter_lease.set()

    def begin(self, work: Work, deliveries: Sequence[Delivery], began_ns: int) -> None:
        """Record the call of a handler with a message, or with a batch, that was taken."""
        first, number = deliveries[0], len(deliveries)
        message_id = first.message.id if number == 1 else ""
        work.open[first] = self._scoreboard.begin(
            work.token, message_id, began_ns, timeout_ns=self._timeout_ns
        )
        if self._histograms is not None:
            self._histograms.begin(work.handler.queue, deliveries)
        with self._counting:
            self.started += number

    def set_process_group(self, delivery: Delivery, group: int) -> None:
        """Record the process group of the command that handles a message."""
        for work in self.works():
            if (slot := work.open.get(delivery)) is not None:
                self._scoreboard.set_process_group(slot, group)

    def mark_returned(self, work: Work, delivery: Delivery, *, failed: bool = False) -> None:
        """Mark the handler call of a message, or of a batch with it as the first, as returned."""
        slot = work.open[delivery]
        if slot is not None:
            if self._histograms is not None:
                ran_ns = time.monotonic_ns() - self._scoreboard.began_ns(slot)
                self._histograms.end(work.handler.queue, ran_ns, failed=failed)
            self._scoreboard.mark_returned(slot)

    def reset(self, work: Work, deliveries: Iterable[Delivery]) -> None:
        """Let messages wait again, after a handler call that does not count."""
        for delivery in deliveries:
            slot, work.open[delivery] = work.open[delivery], None
            if slot is not None:
                self._scoreboard.end(slot)
            work.waiting.append(delivery)

    def finish(self, ended: Iterable[tuple[Work, Delivery]], *, failed: int = 0) -> None:
        """Remove messages that are settled or lost, after their handlers, and count them."""
        handled = 0
        for work, delivery in ended:
            handled += 1
            if (slot := work.open.pop(delivery, None)) is not None:
                self._scoreboard.end(slot)
            if not work.open:
                self._works.discard(work)
        with self._counting:
            self.handled += handled
            self.failed += failed

    def take_waiting(self, work: Work) -> list[Delivery]:
        """Take all waiting messages of a receive, to be released."""
        taken = work.take_all()
        for delivery in taken:
            del work.open[delivery]
        if not work.open:
            self._works.discard(work)
        return taken

    def drop(self, work: Work, delivery: Delivery) -> bool:
        """Drop a message that is lost while it waits; return False if it does not wait."""
        try:
            work.waiting.remove(delivery)
        except ValueError:
            return False
        del work.open[delivery]
        if not work.open:
            self._works.discard(work)
        return True

    def stats(self, *, draining: bool) -> WorkerStats:
        """Return the statistics of this worker."""
        works = self.works()
        in_flight = sum(len(work.open) for work in works)
        slots = [slot for work in works for slot in tuple(work.open.values()) if slot is not None]
        began = [began_ns for slot in slots if (began_ns := self._scoreboard.began_ns(slot))]
        running_ns = time.monotonic_ns() - min(began) if began else 0
        return WorkerStats(
            state="draining" if draining else "working" if in_flight else "idle",
            handled=self.handled,
            failed=self.failed,
            in_flight=in_flight,
            oldest_began_ms=(time.time_ns() - running_ns) // 1_000_000 if began else 0,
        )

    def shortest_ms(self) -> int | None:
        """Return the shortest lease in flight; None if nothing is in flight."""
        return min((work.lease_ms for work in self.works()), default=None)
