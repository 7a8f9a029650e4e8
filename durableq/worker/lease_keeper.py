"""The heartbeat: leases in hand are extended, and the supervisor's end is noticed."""

from __future__ import annotations

import logging
import math
import random
import signal
import threading
import time
from collections.abc import Callable
from typing import Final

from durableq.model.errors import PASSING, DurableQError, NewerDatabase, OlderDatabase
from durableq.model.info import WorkerStats
from durableq.runtime import logs
from durableq.runtime.outage import Outage, condition, logged
from durableq.runtime.wakeup import WakeupEvent, wait_readable
from durableq.store.core import Capability, HasFileno, Store
from durableq.supervisor.scoreboard import Scoreboard
from durableq.worker.command import kill_group
from durableq.worker.in_flight import InFlight, InFlightMessage, message_facts

log = logging.getLogger("durableq.worker")

#: Leases are looked at this often, or three times a lease if that is more often.
LONGEST_SECONDS: Final = 0.25
#: And not more often than this.
SHORTEST_SECONDS: Final = 0.005
#: What a worker without a supervisor has, after its grace, to stop the commands it runs.
COMMANDS_SECONDS: Final = 2 * LONGEST_SECONDS
#: What waits in hand this long behind a slow message goes back, for somebody else to handle.
WAIT_SECONDS: Final = 0.25
#: How often the file is woken how the worker does, if that has changed.
STATS_SECONDS: Final = 5.0
#: How often it is asked whether upkeep is due; the file knows who did it last.
MAINTENANCE_SECONDS: Final = 5.0
#: How often it is woken that the worker lives, if nothing has: each beat wakes all who wait.
QUIET_SECONDS: Final = 60.0


class LeaseKeeper:
    """A thread that runs as long as anything may be in hand, also while the worker drains.

    Args:
        store: where leases are extended.
        in_hand: which.
        board: woken that this worker runs; a supervisor extends for one that does not get to it.
        holder: the worker's mark.
        shortest_ms: the shortest lease to be expected.
        stopping: set when the supervisor has died.
        lifeline: what ends with the supervisor.
        grace_ms: how long the worker may then go on.
        give_up: called with an error after which no lease is extended any more.
    """

    def __init__(
        self,
        store: Store,
        in_flight: InFlight,
        scoreboard: Scoreboard,
        owner_id: int,
        *,
        shortest_ms: int,
        stopping: WakeupEvent,
        lifeline: HasFileno | int | None,
        grace_ms: int,
        give_up: Callable[[BaseException], None],
    ) -> None:
        self._store = store
        self._in_flight = in_flight
        self._scoreboard = scoreboard
        self._owner_id = owner_id
        self._expected_ms = shortest_ms
        self._seconds = 0.0
        self._stopping = stopping
        self._lifeline = lifeline
        self._grace = grace_ms / 1000
        self._outage = Outage(logged(log))
        self._give_up = give_up
        self._stop_commands_at = math.inf
        self._maintain_at = time.monotonic() + random.uniform(0, MAINTENANCE_SECONDS)
        self._stats = WorkerStats()
        self._beat_at = -math.inf  # the first beat is at once
        self._done = WakeupEvent()
        self._thread = threading.Thread(target=self._run, name="lease keeper", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._set_interval()
        self._scoreboard.beat(int(self._seconds * 1000))
        self._thread.start()

    def close(self) -> None:
        """End: nothing is in hand any more."""
        self._done.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            self._keep_leases()
        except BaseException as error:  # noqa: BLE001 - without it no lease is safe
            self._give_up(error)

    def _keep_leases(self) -> None:
        while not self._done.is_set:
            lifelines = [] if self._lifeline is None else [self._lifeline]
            woken = wait_readable(
                self._seconds, self._done, self._in_flight.shorter_lease, *lifelines
            )
            self._stopping.exit_unless_intact()
            self._in_flight.shorter_lease.clear()
            self._set_interval()
            if woken and self._lifeline is not None:
                self._check_supervisor(self._lifeline)
            if time.monotonic() >= self._stop_commands_at:
                self._stop_commands()
            self._scoreboard.beat(int(self._seconds * 1000))
            self._release_waiting()
            self._extend(self._in_flight.to_extend(time.monotonic()))
            self._beat()
            self._maintain()

    def _set_interval(self) -> None:
        """Look three times a lease, the shortest there is, or may be before the next look."""
        shortest_ms = min(self._in_flight.shortest_ms() or self._expected_ms, self._expected_ms)
        self._seconds = max(min(shortest_ms / 3000, LONGEST_SECONDS), SHORTEST_SECONDS)
        self._in_flight.covered_ms = int(self._seconds * 3000)

    def _stop_commands(self) -> None:
        """Do what the supervisor would: the kernel ends this process, not what runs for it."""
        self._stop_commands_at = math.inf
        for begun in self._scoreboard.calls():
            if begun.group:
                kill_group(begun.group)

    def _check_supervisor(self, lifeline: HasFileno | int) -> None:
        """Without one, drain; a handler that takes too long has the kernel left to stop it."""
        if not wait_readable(0, lifeline):
            return
        self._lifeline = None
        log.warning(
            "the supervisor is gone: finishing what is in hand", extra=logs.facts("orphaned")
        )
        self._stop_commands_at = time.monotonic() + self._grace
        signal.setitimer(signal.ITIMER_REAL, self._grace + COMMANDS_SECONDS)
        self._stopping.set()

    def _release_waiting(self) -> None:
        waiting = self._in_flight.remove_waiting(WAIT_SECONDS)
        if not waiting:
            return
        try:
            self._store.release([delivery.receipt for delivery in waiting])
        except DurableQError as error:
            log.warning(
                "%s messages come back when their leases end: %s", len(waiting), condition(error)
            )

    def _extend(self, due: list[InFlightMessage]) -> None:
        by_lease: dict[int, list[InFlightMessage]] = {}
        for message in due:
            by_lease.setdefault(message.lease_ms, []).append(message)
        for lease_ms, together in by_lease.items():
            now = time.monotonic()
            try:
                outcomes = self._store.extend([h.delivery.receipt for h in together], lease_ms)
            except DurableQError as error:
                self._log_postponed(error, "unextended", "leases could not be extended")
                return
            self._outage.over()
            for message, outcome in zip(together, outcomes, strict=True):
                if not outcome.refused:
                    message.extend_at = now + lease_ms / 3000
                elif message.was_refused and not message.delivery.settled:
                    self._mark_lost(message)
                message.was_refused = (
                    outcome.refused
                )  # it may have been settled just now: look again

    def _mark_lost(self, message: InFlightMessage) -> None:
        message.delivery.lost = True
        log.warning(
            "message %s of %s: its lease was lost; what its handler still does is refused",
            message.delivery.id,
            message.delivery.queue,
            extra=message_facts(message.delivery, "lost"),
        )

    def _beat(self) -> None:
        stats = self._in_flight.stats(draining=self._stopping.is_set)
        silent = time.monotonic() - self._beat_at
        if silent < (STATS_SECONDS if stats != self._stats else QUIET_SECONDS):
            return
        self._stats, self._beat_at = stats, time.monotonic()
        try:
            self._store.require(Capability.FLEET).beat(self._owner_id, stats)
        except (NewerDatabase, OlderDatabase):
            raise  # the database was migrated: nothing can be written any more
        except DurableQError as error:
            self._log_postponed(error, "unbeaten", "the heartbeat could not be written")
        else:
            self._outage.over()

    def _log_postponed(self, error: DurableQError, event: str, what: str) -> None:
        """Log why something is put off; a transient reason once, then seldom."""
        if isinstance(error, PASSING):
            self._outage.note(error, event, what)
        else:
            log.warning("%s: %s", what, error, extra=logs.facts(event))

    def _maintain(self) -> None:
        """Do a slice of the file's upkeep when it is due, so that nobody needs a cron."""
        now = time.monotonic()
        if now < self._maintain_at or Capability.MAINTENANCE not in self._store.capabilities:
            return
        self._maintain_at = now + MAINTENANCE_SECONDS
        try:
            self._store.require(Capability.MAINTENANCE).maintain()
        except DurableQError as error:
            self._log_postponed(error, "untended", "upkeep is left to the next worker")
