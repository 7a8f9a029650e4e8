"""Waiting for SQLite's write lock, which other processes hold.

SQLite has no queue: each waiting process asks again after a pause, and the first to ask after a
COMMIT goes on. The driver's own pauses grow to 100 ms, while nobody uses the lock, so the driver
does not wait here at all. Our pauses grow with the wait at first: among many writers, one that
commits several times in a row takes less processor time than as many that take turns, and each
question takes time from the one that writes. From 30 ms on they are short again: the oldest waiter
asks most often.

While there is contention, a transaction takes a ticket first, and keeps it to its end. Only the
holder of the ticket asks SQLite, which is dear; the others ask for the ticket, which is cheap. The
ticket is a courtesy: a waiter asks SQLite now and then without it, because its holder may have been
stopped. docs/decisions/0034 and 0035 have the measurements.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any, Final, TypeVar

from durableq.engines.sqlite.driver import driver
from durableq.engines.sqlite.errors import translate
from durableq.engines.sqlite.location import Location
from durableq.engines.sqlite.open_files import OpenFile
from durableq.model.errors import Busy
from durableq.runtime.waits import add_wait

#: The wait of a caller who would rather do without.
IMPATIENT_SECONDS: Final = 0.1
#: A pause is as long as the wait until then, within these bounds, until the wait is old.
SHORT_SECONDS: Final = 0.001
PATIENT_SECONDS: Final = 0.005
#: From this age on pauses are short.
OLD_SECONDS: Final = 0.030
#: They grow again with a wait that is longer than any queue: a holder may have been stopped.
PART_OF_AGE: Final = 1 / 200
LONGEST_SECONDS: Final = 0.010
#: Interval at which a waiter without a ticket asks SQLite.
WITHOUT_TICKET_SECONDS: Final = 0.010
#: Transactions take tickets until so long after the last one that had to wait.
CONTENDED_SECONDS: Final = 1.0

_T = TypeVar("_T")


class WriteLock:
    """The write lock of one file, as this process waits for it.

    Args:
        location: the file, with its busy timeout.
        file: its connections in this process.
    """

    def __init__(self, location: Location, file: OpenFile) -> None:
        self._location = location
        self._file = file
        self.ticket = file.ticket
        self._uses_tickets = not location.allow_network_filesystem
        self._contended_until = 0.0
        #: Whether a transaction begins with `begin` instead of the statement itself.
        self.is_contended = False

    def begin(
        self,
        begin: Callable[[], object],
        holder: object,
        *,
        failed: Exception | None = None,
        patient: bool = True,
    ) -> None:
        """Begin a write transaction, after a wait for other processes if need be.

        Args:
            begin: executes BEGIN IMMEDIATE.
            holder: keeps the ticket; it releases it at the end of its transaction.
            failed: the error of the first attempt, if the caller has made it.
            patient: wait up to the busy timeout; otherwise up to IMPATIENT_SECONDS.

        Raises:
            Busy: the lock was not free in time.
            Conflict: the lock is this process's own, and no other thread could release it.
        """
        wait = self._wait(patient=patient)
        if failed is not None:
            wait.check(failed)
            self._note_contention()
        elif wait.began > self._contended_until:
            self.is_contended = False
        try:
            while not self._may_begin(begin, holder, wait):
                self._note_contention()
                wait.pause()
        except BaseException:
            self.ticket.release(holder)
            raise
        finally:
            add_wait(time.monotonic() - wait.began)

    def take_ticket(self, holder: object) -> bool:
        """Take the ticket without a wait; return whether to begin, also if none is needed now.

        Args:
            holder: releases it at the end of its transaction.
        """
        if time.monotonic() > self._contended_until:
            self.is_contended = False
            return True
        return self.ticket.take(holder)

    def retrying(self, call: Callable[[], _T]) -> _T:
        """Repeat a call that meets another process's lock, up to the location's busy timeout.

        Raises:
            Busy: it never got through.
            Conflict: the lock is this process's own, and no other thread could release it.
        """
        wait = None
        while True:
            try:
                return call()
            except (driver.Error, UnicodeDecodeError) as error:
                wait = wait or self._wait()
                wait.check(error)
            wait.pause()

    def _may_begin(self, begin: Callable[[], object], holder: object, wait: _Wait) -> bool:
        """Make an attempt if it is this transaction's turn; return whether it has begun."""
        has_turn = not self.is_contended or self.ticket.take(holder)
        if not (has_turn or wait.is_attempt_due):
            return False
        try:
            begin()
        except (driver.Error, UnicodeDecodeError) as error:
            wait.check(error)
            return False
        if not has_turn:  # the holder of the ticket is not writing: do without for a while
            self.is_contended = False
        return True

    def _note_contention(self) -> None:
        self._contended_until = time.monotonic() + CONTENDED_SECONDS
        self.is_contended = self._uses_tickets

    def _wait(self, *, patient: bool = True) -> _Wait:
        seconds = self._location.busy_timeout_ms / 1000
        return _Wait(self._file, seconds if patient else min(seconds, IMPATIENT_SECONDS))


class _Wait:
    """One wait: its age, its pauses, and its end.

    Args:
        file: names the holder of the lock.
        seconds: longest wait.
    """

    def __init__(self, file: OpenFile, seconds: float) -> None:
        self._file = file
        self.began = time.monotonic()
        self._deadline = self.began + seconds
        self._attempt_at = min(self.began + WITHOUT_TICKET_SECONDS, self._deadline)
        self._is_first = True

    @property
    def is_attempt_due(self) -> bool:
        """Whether to make an attempt without a ticket; at the end of the wait there is one."""
        return time.monotonic() >= self._attempt_at

    def check(self, error: Exception) -> None:
        """Return after an attempt that met a lock, unless the wait is over.

        Raises:
            Busy, Conflict: it is over.
            DurableQError: the attempt failed for another reason.
        """
        meaning: Any = translate(error, self._file.path)
        if not isinstance(meaning, Busy):
            raise meaning or error from error
        now = time.monotonic()
        if now >= self._deadline:
            raise self._file.busy() from error
        if self._is_first:
            self._file.check_deadlock()
            self._is_first = False
        self._attempt_at = min(now + WITHOUT_TICKET_SECONDS, self._deadline)

    def pause(self) -> None:
        """Sleep before the next attempt; with jitter, so that processes do not keep in step."""
        age = time.monotonic() - self.began
        if age < OLD_SECONDS:
            seconds = min(max(age, SHORT_SECONDS), PATIENT_SECONDS)
        else:
            seconds = min(max(age * PART_OF_AGE, SHORT_SECONDS), LONGEST_SECONDS)
        time.sleep(random.uniform(0.5, 1.5) * seconds)
