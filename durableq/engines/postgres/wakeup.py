"""Waiting for writes: the server notifies, and a look from time to time makes up for the rest."""

from __future__ import annotations

import select
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from durableq.engines.postgres.driver import driver
from durableq.model.errors import DurableQError
from durableq.store.core import HasFileno

if TYPE_CHECKING:
    from durableq.engines.postgres.database import Database

#: Longest wait without a look: a pooler in transaction mode loses notifications.
LOOK_SECONDS: Final = 5.0
#: Time between attempts to reach a server that is gone.
AGAIN_SECONDS: Final = 0.5


class NotifyWatch:
    """A wait for writes, on a connection of its own that listens.

    Args:
        database: the tables.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._connection = database.listen()

    def wait(self, seconds: float, *others: HasFileno) -> bool:
        """Wait for a write, for one of the others, or until the time is over; see Watch.wait."""
        deadline = time.monotonic() + seconds
        look_at = time.monotonic() + LOOK_SECONDS
        poll = select.poll()
        for other in others:
            poll.register(other, select.POLLIN)
        fileno = self._connection.fileno()
        poll.register(fileno, select.POLLIN)
        while True:
            if self._was_notified():
                return True
            now = time.monotonic()
            if now >= look_at:
                return True
            if now >= deadline:
                return False
            ready = poll.poll(max(0.0, min(deadline, look_at) - now) * 1000)
            if any(descriptor != fileno for descriptor, _ in ready):
                return self._was_notified()

    def _was_notified(self) -> bool:
        """Read what the server sent; a lost connection is replaced, and counts as a write."""
        pgconn = self._connection.pgconn
        try:
            pgconn.consume_input()
            found = False
            while pgconn.notifies() is not None:
                found = True
        except driver.Error:
            self._reconnect()
            return True
        return found

    def _reconnect(self) -> None:
        with suppress(driver.Error):
            self._connection.close()
        with suppress(DurableQError):
            self._connection = self._database.listen()
            return
        time.sleep(AGAIN_SECONDS)

    def close(self) -> None:
        """Stop watching."""
        self._connection.close()
