"""Waiting for a commit by any process, without asking the file again and again.

The kernel tells of each write to the write-ahead log (inotify), by path: nothing here opens a
file of the database. But the log is written before the commit can be seen: in between lies an
fsync of milliseconds, and nothing tells of its end. So after an event the file's data version is
read, after growing pauses, until nobody is writing any more; only then is an event waited for.

Without inotify (another system, its limit reached, a network file system, where only this
machine's writes would be told) the version is read all the time, after pauses as long.
"""

from __future__ import annotations

import time
from typing import Any, Final

from durableq.engines.sqlite.database import Database
from durableq.runtime.wakeup import wait_readable
from durableq.store.core import HasFileno

MODIFY: Final = 0x002
MOVED: Final = 0x800
#: The kernel's numbers: IN_MODIFY, IN_MOVE_SELF, IN_DELETE_SELF.
DELETED: Final = 0x400
FIRST_SECONDS: Final = 0.001
#: Pauses between two looks at the file; each is twice the one before.
LONGEST_SECONDS: Final = 0.025


class FileWatch:
    """A Watch of a SQLite file.

    Args:
        database: the file.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._seen = database.version()  # a read: from here on there is a log to watch
        self._events = self._listen()
        self._pause: float | None = FIRST_SECONDS
        """Until the next look at the file; None: not before there is an event."""

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
        """Watch no longer."""
        if self._events is not None:
            self._events.close()

    def _look(self) -> bool:
        """Return whether the file has changed; stop looking when nothing more can come."""
        settled = (
            self._events is not None
            and self._pause == LONGEST_SECONDS
            and self._database.nobody_writes()
        )
        if settled:
            self._pause = None
        before, self._seen = self._seen, self._database.version()
        return before != self._seen

    def _sleep(self, left: float, others: tuple[HasFileno, ...]) -> None:
        """Wait for an event, for one of the others, or until it is time to look."""
        pause = left if self._pause is None else self._pause
        files = others if self._events is None else (self._events, *others)
        if not wait_readable(min(pause, left), *files) and self._pause is not None:
            self._pause = min(2 * pause, LONGEST_SECONDS)

    def _told(self) -> bool:
        """Return whether there was an event, and forget it."""
        if self._events is None:
            return False
        events = self._events.read(timeout=0)
        if any(event.mask & ~MODIFY for event in events):  # this log is gone
            self._events.close()
            self._database.version()  # makes a new one, if need be
            self._events = self._listen()
        return bool(events)

    def _listen(self) -> Any:
        """Return an inotify descriptor that watches the log, or None if it cannot be had."""
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
