"""Waiting for a commit by any process, without polling the file while no process writes.

inotify reports each write to the write-ahead log, by path: nothing here opens a file of the
database. But the log is written before the commit is visible: an fsync of milliseconds lies in
between, and no event marks its end. So after an event the data version of the file is read, with
growing pauses, until no process is writing; only then does it wait for the next event.

Without inotify (another system, its limit reached, or a network file system, where it reports the
writes of this machine only) the version is polled with the same pauses.
"""

from __future__ import annotations

import time
from typing import Any, Final

from durableq.engines.sqlite import locks
from durableq.engines.sqlite.database import Database
from durableq.engines.sqlite.driver import driver
from durableq.engines.sqlite.session import BEGIN_WRITE, roll_back
from durableq.runtime.wakeup import wait_readable
from durableq.store.core import HasFileno

MODIFY: Final = 0x002
MOVED: Final = 0x800
#: The kernel's numbers: IN_MODIFY, IN_MOVE_SELF, IN_DELETE_SELF.
DELETED: Final = 0x400
#: Pauses between two looks at the file; each is longer than the one before. A commit at NORMAL is
#: visible a fraction of a millisecond after its event, at FULL on a fast disk a little later.
FIRST_SECONDS: Final = 0.0002
LONGEST_SECONDS: Final = 0.025
PAUSE_GROWTH: Final = 1.25
#: A shorter pause is slept: poll() counts in milliseconds.
POLL_SECONDS: Final = 0.001


class FileWatch:
    """Waits for commits to a SQLite file; a Watch.

    Args:
        database: the file.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._seen = database.version()  # a read: from here on there is a log to watch
        self._events = self._listen()
        #: Until the next look at the file; None: not before there is an event.
        self._pause: float | None = FIRST_SECONDS

    def wait(self, seconds: float, *others: HasFileno) -> bool:
        """Wait for a commit, one of the others, or the end of the time."""
        deadline = time.monotonic() + seconds
        while True:
            if self._told():
                self._pause = FIRST_SECONDS
            if self._pause is not None and self._look():
                return True
            left = deadline - time.monotonic()
            if left <= 0 or wait_readable(0, *others):
                return False
            self._sleep(left, others)

    def close(self) -> None:
        """Close the inotify descriptor."""
        if self._events is not None:
            self._events.close()

    def _look(self) -> bool:
        """Return whether the file has changed; stop polling when no write is under way."""
        settled = (
            self._events is not None
            and self._pause == LONGEST_SECONDS
            and has_no_writer(self._database)
        )
        if settled:
            self._pause = None
        before, self._seen = self._seen, self._database.version()
        return before != self._seen

    def _sleep(self, left: float, others: tuple[HasFileno, ...]) -> None:
        """Wait for an event, for one of the others, or for the next poll."""
        pause = left if self._pause is None else self._pause
        files = others if self._events is None else (self._events, *others)
        if pause < POLL_SECONDS:
            time.sleep(pause)
        elif wait_readable(min(pause, left), *files):
            return
        if self._pause is not None:
            self._pause = min(PAUSE_GROWTH * pause, LONGEST_SECONDS)

    def _told(self) -> bool:
        """Read the events; return whether there were any."""
        if self._events is None:
            return False
        events = self._events.read(timeout=0)
        if any(event.mask & ~MODIFY for event in events):  # this log is gone
            self._events.close()
            self._database.version()  # makes a new one, if need be
            self._events = self._listen()
        return bool(events)

    def _listen(self) -> Any:
        """Return an inotify object that watches the log; None without inotify."""
        if self._database.location.allow_network_filesystem:
            return None
        try:
            import inotify_simple

            events = inotify_simple.INotify()
        except (ImportError, OSError):
            return None
        try:
            events.add_watch(f"{self._database.location.path}-wal", MODIFY | DELETED | MOVED)
        except OSError:
            events.close()
            return None
        return events


def has_no_writer(database: Database) -> bool:
    """Return whether no write was in progress, so that all earlier writes can be read now."""
    if database.location.is_read_only:  # its BEGIN IMMEDIATE takes no lock
        return not locks.writers(database.location.path)
    raw = database.session().raw
    try:
        raw.execute(BEGIN_WRITE)
    except driver.OperationalError:
        return False
    finally:
        roll_back(raw)
    return True
