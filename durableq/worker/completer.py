"""Settling of handled messages, in one transaction with the receive of the next ones."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Final, cast

from durableq.client import tracing
from durableq.client.delivery import Delivery
from durableq.model.errors import PASSING, DurableQError
from durableq.model.message import Completion, Failure, Gather, Outcome, Received
from durableq.model.text import visible
from durableq.runtime import logs
from durableq.runtime.outage import describe
from durableq.store.core import Answer, Call, Receive, Settle
from durableq.worker.in_flight import Work
from durableq.worker.state import WorkerState, log_success, warn

log = logging.getLogger("durableq.worker")

#: Pause before another attempt on a file that was busy or full for a whole wait.
AGAIN_SECONDS: Final = 1.0
#: Time for the last commits at the end of the worker; then the leases run out.
CLOSE_SECONDS: Final = 20.0

_Settlement = Completion | Failure
#: The last is the duration of the handler, in ns.
_Ended = tuple[Work, Delivery, _Settlement, int]


class Completer:
    """Settles messages for all executors, and receives the next ones for them.

    It is the worker's one writer of both: a receive settles in its transaction all that waits. A
    thread settles what no receive takes along: a result waits up to `settle_window_ms` for others
    to share its commit, unless its handler ran at least that long: then the wait would cost more
    than it saves.
    """

    def __init__(self, state: WorkerState) -> None:
        self._state = state
        self._store = state.store
        self._is_verbose = log.isEnabledFor(logging.DEBUG)
        self._window_ns = state.options.settle_window_ms * 1_000_000
        #: Executors append without a lock, which would cost more than the message does.
        self._pending: deque[_Ended] = deque()
        self._due: float | None = None
        #: When the thread looks again without being notified. While messages flow, it wakes once
        #: in a window, and not for each receive.
        self._wakes_at = 0.0
        self._close_by: float | None = None
        self._changed = threading.Condition()
        #: Held for a transaction: a lock wakes its next owner at once, SQLite's is waited for.
        self._writing = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="completer", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def submit(self, work: Work, delivery: Delivery, how: _Settlement, ran_ns: int) -> None:
        """Queue a delivery to be settled; it stays in flight until then.

        `ran_ns` is the duration of its handler.
        """
        self._pending.append((work, delivery, how, ran_ns))
        is_slow = ran_ns >= self._window_ns
        if self._due is None or is_slow:  # read after the append: see _take
            due = time.monotonic() + (0.0 if is_slow else self._window_ns / 1e9)
            with self._changed:
                if self._due is None or due < self._due:
                    self._due = due
                    if due < self._wakes_at:
                        self._changed.notify()

    def receive(
        self, queue: str, limit: int, *, by_group: bool = False, gather: Gather | None = None
    ) -> Received:
        """Receive messages; settle in the same transaction all that are queued.

        Raises:
            Busy, StorageFull, OutcomeUnknown: nothing is lost; the thread settles them later.
            UnknownQueue: the queue is gone; the others are settled.
        """
        owner_id = self._state.scoreboard.owner_id
        (received,) = self._write(Receive(queue, limit, None, owner_id, by_group, gather))
        return cast(Received, _result(received))

    def finish(self, ended: Sequence[tuple[Work, Delivery]], *, failed: int = 0) -> None:
        """Remove settled deliveries from those in flight, and count them."""
        for _, delivery in ended:
            delivery.settled = True
        self._state.in_flight.finish(ended, failed=failed)

    def flush(self) -> None:
        """Settle all that is queued, in the calling thread, which needs no other one then.

        Raises:
            Busy, StorageFull, OutcomeUnknown: nothing is lost, and another call tries again.
        """
        self._write()

    def close(self) -> None:
        """Settle the remaining deliveries and end the thread."""
        with self._changed:
            self._close_by = time.monotonic() + CLOSE_SECONDS
            self._due = 0.0
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        try:
            while self._wait_until_due():
                with suppress(*PASSING):
                    self._write()
        except BaseException as error:  # noqa: BLE001 - without it no message ends
            self._state.give_up(error)

    def _wait_until_due(self) -> bool:
        """Wait until deliveries are due; return False at the end, when none is left."""
        with self._changed:
            while self._due is None or (left := self._due - time.monotonic()) > 0:
                if self._close_by is not None and not self._pending:
                    return False
                self._wakes_at = math.inf if self._due is None else self._due
                self._changed.wait(None if self._due is None else left)
            self._wakes_at = 0.0
            return self._close_by is None or bool(self._pending)

    def _take(self) -> list[_Ended]:
        """Take all deliveries that are queued, completions first."""
        with self._changed:
            self._due = None  # first: what is queued from here on is due again, or is taken below
            batch = [self._pending.popleft() for _ in range(len(self._pending))]
        failed = [ended for ended in batch if isinstance(ended[2], Failure)]
        if not failed:
            return batch
        return [ended for ended in batch if not isinstance(ended[2], Failure)] + failed

    def _write(self, *others: Receive) -> list[Answer]:
        """Settle all that is queued and make other calls; return the answers of the others."""
        self._state.stopping.exit_unless_intact()
        with self._writing:
            batch = self._take()
            calls: list[Call] = [*others]
            if batch:
                calls.insert(0, _settle(batch, self._state.name))
            if not calls:  # a receive has taken them along
                return []
            began_at = time.monotonic()
            try:
                answers = self._store.together(calls)
            except BaseException as error:
                self._put_back(batch, error)
                raise
        if batch:
            if tracing.active is not None:
                settled = [delivery for _, delivery, *_ in batch]
                tracing.active.settled(settled, time.monotonic() - began_at)
            self._end(batch, cast(list[Outcome], _result(answers.pop(0))))
        return answers

    def _end(self, batch: Sequence[_Ended], outcomes: Sequence[Outcome]) -> None:
        """Read the outcomes, after the commit: until then nothing has happened."""
        failed = 0
        done = Outcome.DONE  # to look up a member takes as long as the rest of the loop
        for (_, delivery, how, ran_ns), outcome in zip(batch, outcomes, strict=True):
            if isinstance(how, Failure):
                _log_failed(delivery, how, outcome)
                failed += 1
            elif outcome is not done:
                delivery.lost = True
                warn(delivery, "lost", ": its lease was lost; %s", outcome.why)
            elif self._is_verbose:
                log_success(delivery, ran_ns)
        self.finish([(work, delivery) for work, delivery, *_ in batch], failed=failed)

    def _put_back(self, batch: Sequence[_Ended], error: BaseException) -> None:
        """Queue the deliveries again; their leases are extended meanwhile."""
        if not batch:
            return
        if isinstance(error, PASSING):
            text = "%s messages are settled later: %s"
            log.warning(text, len(batch), describe(error), extra=logs.facts("unsettled"))
        now = time.monotonic()
        with self._changed:
            if self._close_by is not None and now >= self._close_by:
                log.error("%s messages are left to the end of their leases", len(batch))
                return
            self._pending.extendleft(reversed(batch))
            self._due = now + AGAIN_SECONDS
            self._changed.notify()  # it may wait for a later one, or without end


def _result(answer: Answer) -> list[str] | Received | list[Outcome]:
    """Return what an operation returned, or raise the error that undid it."""
    if isinstance(answer, DurableQError):
        raise answer
    return answer


def _settle(batch: Sequence[_Ended], actor: str) -> Settle:
    completions = [how for _, _, how, _ in batch if isinstance(how, Completion)]
    failures = [(one.receipt, how) for _, one, how, _ in batch if isinstance(how, Failure)]
    return Settle(completions, failures, actor)


def _log_failed(delivery: Delivery, failure: Failure, outcome: Outcome) -> None:
    what_next = {
        Outcome.RETRY: "will be retried",
        Outcome.BURIED: "moved to the dead-letter queue",
        Outcome.EXPIRED: "its expires_in has ended",
    }.get(outcome, "its lease was lost")
    said = (visible(failure.error_type), visible(failure.error_message, 200))
    warn(
        delivery,
        "failed",
        " failed at receive %s: %s; %s",
        delivery.receive_count,
        ": ".join(filter(None, said)) or failure.reason.sentence,
        what_next,
        reason=failure.reason,
        outcome=outcome.value,
        key=delivery.key,
    )
