"""The lease keeper: extends leases, sends heartbeats, and notices the end of the supervisor."""

from __future__ import annotations

import logging
import math
import random
import signal
import threading
import time
from typing import Final

from durableq.client.delivery import Delivery
from durableq.model.errors import GONE_MEANWHILE, PASSING, DurableQError
from durableq.model.info import WorkerStats
from durableq.runtime import logs
from durableq.runtime.outage import Outage, describe, logged
from durableq.runtime.wakeup import WakeupEvent, wait_readable
from durableq.store.core import Capability
from durableq.worker.command import kill_group
from durableq.worker.in_flight import Work
from durableq.worker.state import WorkerState, warn

log = logging.getLogger("durableq.worker")

#: Longest interval between two checks of leases; a third of the shortest lease if that is less.
LONGEST_SECONDS: Final = 0.25
#: Shortest interval between two checks.
SHORTEST_SECONDS: Final = 0.005
#: Time, after the grace period, in which a worker without a supervisor stops its commands.
COMMANDS_SECONDS: Final = 2 * LONGEST_SECONDS
#: Messages that wait this long behind a slow one are released for other workers.
WAIT_SECONDS: Final = 0.25
#: Interval of heartbeats while the statistics change.
STATS_SECONDS: Final = 5.0
#: Interval of checks whether maintenance is due.
MAINTENANCE_SECONDS: Final = 5.0
#: Interval of heartbeats while they do not: each one wakes all waiting processes.
QUIET_SECONDS: Final = 60.0


class LeaseKeeper:
    """A thread that runs while messages are in flight, also while the worker drains.

    A lease is extended at the last check before a third of it is over. Both counts begin before a
    call of the store, whose transaction reads the clock later. So an extension has two thirds of
    the lease for the write lock, and what is left of the whole for its COMMIT.

    Args:
        state: its scoreboard gets a beat at each check; without them the supervisor extends the
            leases.
        shortest_ms: shortest lease to be expected.
    """

    def __init__(self, state: WorkerState, shortest_ms: int) -> None:
        self._state = state
        self._store = state.store
        self._in_flight = state.in_flight
        self._scoreboard = state.scoreboard
        self._stopping = state.stopping
        self._expected_ms = shortest_ms
        self._seconds = 0.0
        self._lifeline = state.options.lifeline
        self._grace = state.options.grace_ms / 1000
        self._outage = Outage(logged(log))
        self._stop_commands_at = math.inf
        self._maintain_at = time.monotonic() + random.uniform(0, MAINTENANCE_SECONDS)
        self._stats = WorkerStats()
        self._beat_at = -math.inf  # the first beat is at once
        self._done = WakeupEvent()
        self._thread = threading.Thread(target=self._run, name="lease keeper", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._set_interval()
        self._scoreboard.beat(int(self._seconds * 1000))
        self._thread.start()

    def close(self) -> None:
        """End the thread."""
        self._done.set()
        self._thread.join()
        self._done.close()

    def _run(self) -> None:
        try:
            self._keep_leases()
        except BaseException as error:  # noqa: BLE001 - without it no lease is safe
            self._state.give_up(error)

    def _keep_leases(self) -> None:
        check_at = time.monotonic() + self._seconds
        while not self._done.is_set:
            lifelines = [] if self._lifeline < 0 else [self._lifeline]
            left = check_at - time.monotonic()
            woken = wait_readable(left, self._done, self._in_flight.shorter_lease, *lifelines)
            self._stopping.exit_unless_intact()
            self._in_flight.shorter_lease.clear()
            self._set_interval()
            if woken and self._lifeline >= 0:
                self._check_supervisor()
            if time.monotonic() >= self._stop_commands_at:
                self._stop_commands()
            self._scoreboard.beat(int(self._seconds * 1000))
            # From here: a check that takes long, at the disk or the interpreter, delays no other.
            check_at = time.monotonic() + self._seconds
            self._release_waiting()
            self._extend([one for one in self._in_flight.works() if one.extend_at <= check_at])
            self._beat()
            self._maintain()

    def _set_interval(self) -> None:
        """Set the interval to a third of the shortest lease that is present or expected."""
        shortest_ms = min(self._in_flight.shortest_ms() or self._expected_ms, self._expected_ms)
        self._seconds = max(min(shortest_ms / 3000, LONGEST_SECONDS), SHORTEST_SECONDS)
        self._in_flight.covered_ms = int(self._seconds * 3000)

    def _stop_commands(self) -> None:
        """Kill the running commands: the kernel's timer ends this process only."""
        self._stop_commands_at = math.inf
        for call in self._scoreboard.calls():
            if call.group:
                kill_group(call.group)

    def _check_supervisor(self) -> None:
        """Drain if the supervisor is gone; a kernel timer ends handlers that take too long."""
        if not wait_readable(0, self._lifeline):
            return
        self._lifeline = -1
        text = "the supervisor is gone: finishing the running handlers"
        log.warning(text, extra=logs.facts("orphaned"))
        self._stop_commands_at = time.monotonic() + self._grace
        signal.setitimer(signal.ITIMER_REAL, self._grace + COMMANDS_SECONDS)
        self._stopping.set()

    def _release_waiting(self) -> None:
        since = time.monotonic() - WAIT_SECONDS
        waiting = []
        for work in self._in_flight.works():
            if work.handler.prefetch is None and work.taken_at <= since:
                waiting += self._in_flight.take_waiting(work)
        if not waiting:
            return
        try:
            self._store.release([delivery.receipt for delivery in waiting])
        except DurableQError as error:
            text = "%s messages become ready when their leases end: %s"
            log.warning(text, len(waiting), describe(error))

    def _extend(self, due: list[Work]) -> None:
        by_lease: dict[int, list[Work]] = {}
        for work in due:
            by_lease.setdefault(work.lease_ms, []).append(work)
        for lease_ms, works in by_lease.items():
            leased = [(work, one) for work in works for one in work.to_extend()]
            if not leased:
                continue
            now = time.monotonic()
            try:
                outcomes = self._store.extend([one.receipt for _, one in leased], lease_ms)
            except DurableQError as error:
                self._log_postponed(error, "unextended", "leases could not be extended")
                return
            self._outage.end()
            for work in works:
                work.extend_at = now + lease_ms / 3000
            for (work, delivery), outcome in zip(leased, outcomes, strict=True):
                if outcome.refused:
                    self._refuse(work, delivery)

    def _refuse(self, work: Work, delivery: Delivery) -> None:
        """Take a lease for lost once its extension was refused twice."""
        if delivery not in work.refused:
            work.refused.add(delivery)
            work.extend_at = 0.0  # it may have been settled just now: the next check asks again
        elif self._in_flight.drop(work, delivery):
            warn(delivery, "lost", ": its lease was lost before its handler was called")
        elif not delivery.settled:
            delivery.lost = True
            text = ": its lease was lost; further calls of its handler are refused"
            warn(delivery, "lost", text)

    def _beat(self) -> None:
        stats = self._in_flight.stats(draining=self._stopping.is_set)
        silent = time.monotonic() - self._beat_at
        if silent < (STATS_SECONDS if stats != self._stats else QUIET_SECONDS):
            return
        self._stats, self._beat_at = stats, time.monotonic()
        try:
            self._store.require(Capability.FLEET).beat(self._scoreboard.owner_id, stats)
        except GONE_MEANWHILE:
            raise  # the database was migrated or moved: nothing can be written any more
        except DurableQError as error:
            self._log_postponed(error, "unbeaten", "the heartbeat could not be written")
        else:
            self._outage.end()

    def _log_postponed(self, error: DurableQError, event: str, what: str) -> None:
        """Log why work is postponed; a transient reason at most once a minute."""
        if isinstance(error, PASSING):
            self._outage.report(error, event, what)
        else:
            log.warning("%s: %s", what, describe(error), extra=logs.facts(event))

    def _maintain(self) -> None:
        """Run a slice of maintenance when it is due, so that no cron is needed."""
        now = time.monotonic()
        if now < self._maintain_at or Capability.MAINTENANCE not in self._store.capabilities:
            return
        self._maintain_at = now + MAINTENANCE_SECONDS
        try:
            self._store.require(Capability.MAINTENANCE).maintain()
        except DurableQError as error:
            self._log_postponed(error, "untended", "maintenance is left to the next worker")
