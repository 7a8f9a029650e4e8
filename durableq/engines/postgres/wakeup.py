"""Waiting for writes: the server notifies, and a look from time to time makes up for the rest."""

from __future__ import annotations

import select
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from durableq.runtime.wakeup import WakeupEvent
from durableq.store.core import HasFileno

if TYPE_CHECKING:
    from durableq.engines.postgres.database import Database

#: Longest wait without a look, in case a notification was missed.
LOOK_SECONDS: Final = 5.0
#: The same through a pooler of transactions, which brings no notifications.
LOOK_WITHOUT_SECONDS: Final = 1.0


class NotifyWatch:
    """A wait for writes. The connection that listens is the process's; see `presence`.

    Args:
        database: the tables.

    Raises:
        Busy, DatabaseUnusable: the server cannot be reached, or refuses.
    """

    def __init__(self, database: Database) -> None:
        self._presence = database.presence
        self._event = WakeupEvent()
        self._is_closed = False
        self._look_seconds = LOOK_SECONDS if self._presence else LOOK_WITHOUT_SECONDS
        if self._presence is not None:
            try:
                self._presence.listen(self._event)
            except BaseException:
                self._event.close()
                raise

    def wait(self, seconds: float, *others: HasFileno) -> bool:
        """Wait for a write, for one of the others, or until the time is over; see Watch.wait."""
        if self._presence is None:
            return self._wait(seconds, others)
        try:
            return not self._presence.begin_wait() or self._wait(seconds, others)
        finally:
            self._presence.end_wait()

    def _wait(self, seconds: float, others: Sequence[HasFileno]) -> bool:
        deadline = time.monotonic() + seconds
        look_at = time.monotonic() + self._look_seconds
        poll = select.poll()
        for file in (self._event, *others):
            poll.register(file, select.POLLIN)
        while not self._event.is_set:
            now = time.monotonic()
            if now >= look_at:
                return True
            if now >= deadline:
                return False
            ready = {fileno for fileno, _ in poll.poll((min(deadline, look_at) - now) * 1000)}
            if self._event.fileno() in ready:
                break
            if ready:
                return False
        self._event.clear()
        return True

    def close(self) -> None:
        """Stop watching; a second call does nothing."""
        if self._is_closed:
            return
        self._is_closed = True
        if self._presence is not None:
            self._presence.ignore(self._event)
        self._event.close()
