"""The state that the threads of one worker share: above all its messages in flight."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Any, Final

from durableq.client.app import DurableQ
from durableq.client.delivery import Delivery
from durableq.runtime import logs
from durableq.runtime.wakeup import WakeupEvent
from durableq.store.core import Store
from durableq.supervisor.scoreboard import Scoreboard, Stage
from durableq.worker.in_flight import InFlight
from durableq.worker.options import WorkerOptions

if TYPE_CHECKING:
    from durableq.supervisor.histograms import WorkerHistograms

log = logging.getLogger("durableq.worker")


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
        self.in_flight = InFlight(scoreboard, options.timeout_ms, _histograms(options))
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
    def schedules(self) -> tuple[str, ...]:
        """The schedules that this worker fires; none where it ends once the queues are empty."""
        return () if self.options.drain else tuple(sorted(self._app.schedules))

    @property
    def is_used_up(self) -> bool:
        """Whether handlers were called with `max_messages` messages."""
        return 0 < self.options.max_messages <= self.in_flight.started

    def give_up(self, error: BaseException) -> None:
        """Stop the worker because of an error; running handlers finish."""
        self.error = self.error or error
        self.stopping.set()

    def close(self) -> None:
        """Close the events, once no thread of the worker runs."""
        self.in_flight.close()
        self.stopping.close()

    def mark_ready(self) -> None:
        """Record that the worker has made a receive."""
        if self.scoreboard.stage is Stage.OPENING:
            self.scoreboard.reach(Stage.READY)


def _histograms(options: WorkerOptions) -> WorkerHistograms | None:
    if options.histograms < 0:
        return None
    from durableq.supervisor.histograms import WorkerHistograms

    return WorkerHistograms(options.histograms)


def warn(delivery: Delivery, event: str, text: str, *values: object, **known: Any) -> None:
    """Log a warning about a message: `text` with its values, after the message's id and queue."""
    text = f"message %s of %s{text}"
    facts = message_facts(delivery, event, **known)
    log.warning(text, delivery.id, delivery.queue, *values, extra=facts)


def log_success(delivery: Delivery, ran_ns: int) -> None:
    """Log that a message was handled, and for how long its handler ran."""
    seconds = ran_ns / 1e9
    text = "message %s of %s was handled in %.3f s"
    facts = message_facts(delivery, "handled", seconds=round(seconds, 6))
    log.debug(text, delivery.id, delivery.queue, seconds, extra=facts)


def message_facts(delivery: Delivery, event: str, **known: Any) -> dict[str, Any]:
    """Return a log call's `extra` for an event of a message, without its payload."""
    count = delivery.receive_count
    return logs.facts(
        event, message_id=delivery.id, queue=delivery.queue, receive_count=count, **known
    )
