"""Settling of handled messages: fast handlers share a commit, slow ones get their own."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from typing import Final

from durableq.client.delivery import Delivery
from durableq.model.errors import PASSING, DurableQError
from durableq.model.message import Completion, Failure, Outcome
from durableq.model.text import visible
from durableq.runtime import logs
from durableq.runtime.outage import describe
from durableq.worker.state import WorkerState, warn

log = logging.getLogger("durableq.worker")

#: Pause before another attempt on a file that was busy or full for a whole wait.
AGAIN_SECONDS: Final = 1.0
#: Time for the last commits at the end of the worker; then the leases run out.
CLOSE_SECONDS: Final = 20.0

_Settlement = Completion | Failure


class Completer:
    """A thread that settles messages for all executors.

    A result waits up to `settle_window_ms` for others to share its commit, unless its handler ran
    at least that long: then the wait would cost more than it saves.
    """

    def __init__(self, state: WorkerState) -> None:
        self._state = state
        self._store = state.store
        self._window = state.options.settle_window_ms / 1000
        self._pending: list[tuple[Delivery, _Settlement]] = []
        self._due: float | None = None
        self._close_by: float | None = None
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="completer", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def submit(self, delivery: Delivery, how: _Settlement, ran_seconds: float) -> None:
        """Queue a delivery to be settled; it stays in flight until then.

        `ran_seconds` is the duration of its handler.
        """
        wait = 0.0 if ran_seconds >= self._window else self._window
        due = time.monotonic() + wait
        with self._changed:
            self._pending.append((delivery, how))
            if self._due is None or due < self._due:
                self._due = due
                self._changed.notify()

    def finish(self, deliveries: Sequence[Delivery], *, failed: int = 0) -> None:
        """Remove settled deliveries from those in flight, and count them."""
        for delivery in deliveries:
            delivery.settled = True
        self._state.in_flight.remove(deliveries)
        self._state.in_flight.failed += failed

    def close(self) -> None:
        """Settle the remaining deliveries and end the thread."""
        with self._changed:
            self._close_by = time.monotonic() + CLOSE_SECONDS
            self._due = 0.0
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        try:
            while (batch := self._next_batch()) is not None:
                self._commit(batch)
        except BaseException as error:  # noqa: BLE001 - without it no message ends
            self._state.give_up(error)

    def _next_batch(self) -> list[tuple[Delivery, _Settlement]] | None:
        """Wait until deliveries are due and return all that are queued; None at the end."""
        with self._changed:
            while self._due is None or (left := self._due - time.monotonic()) > 0:
                self._changed.wait(None if self._due is None else left)
            batch, self._pending, self._due = self._pending, [], None
            if self._close_by is None:
                return batch
            self._due = 0.0
            return batch or None

    def _commit(self, batch: Sequence[tuple[Delivery, _Settlement]]) -> None:
        done = [(d, how) for d, how in batch if isinstance(how, Completion)]
        failed = [(d, how) for d, how in batch if isinstance(how, Failure)]
        self._state.stopping.exit_unless_intact()
        try:
            outcomes = self._store.settle(
                [completion for _, completion in done],
                [(delivery.receipt, failure) for delivery, failure in failed],
                actor=self._state.name,
            )
        except PASSING as error:
            self._try_again([*done, *failed], error)
            return
        for (delivery, _), outcome in zip(done, outcomes[: len(done)], strict=True):
            _log_completed(delivery, outcome)
        for (delivery, failure), outcome in zip(failed, outcomes[len(done) :], strict=True):
            _log_failed(delivery, failure, outcome)
        self.finish([delivery for delivery, _ in (*done, *failed)], failed=len(failed))

    def _try_again(
        self, batch: Sequence[tuple[Delivery, _Settlement]], error: DurableQError
    ) -> None:
        """Queue the deliveries again; their leases are extended meanwhile."""
        text = "%s messages are settled later: %s"
        log.warning(text, len(batch), describe(error), extra=logs.facts("unsettled"))
        now = time.monotonic()
        with self._changed:
            if self._close_by is not None and now >= self._close_by:
                log.error("%s messages are left to the end of their leases", len(batch))
                return
            self._pending[:0] = batch
            self._due = now + AGAIN_SECONDS


def _log_completed(delivery: Delivery, outcome: Outcome) -> None:
    if outcome.refused:
        delivery.lost = True
        warn(delivery, "lost", ": its lease was lost; %s", outcome.why)


def _log_failed(delivery: Delivery, failure: Failure, outcome: Outcome) -> None:
    what_next = {
        Outcome.RETRY: "will be retried",
        Outcome.BURIED: "moved to the dead-letter queue",
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
