"""The connections of a process, which its threads take in turn.

Not SQLAlchemy's pool: Ctrl-C while that takes its lock leaves the lock taken, and every thread
waits for ever. Here each step is one call of C, which Ctrl-C comes before or after.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Final
from weakref import ReferenceType, ref

from durableq.engines.postgres.driver import Link
from durableq.engines.postgres.location import Location
from durableq.model.errors import Busy

#: The most connections that are not in use.
MOST_IDLE: Final = 8


class Pool:
    """Connections, opened when they are needed.

    Args:
        open_link: opens one.
        location: the database: how many connections may be in use, and how long a thread waits.
    """

    def __init__(self, open_link: Callable[[], Link], location: Location) -> None:
        self._open_link = open_link
        self._location = location
        #: Changes whenever all connections are closed: those in use are closed afterwards.
        self._generation = 0
        self.forget()

    def forget(self) -> None:
        """Begin without connections; those of a parent process are left alone."""
        self._idle: deque[Link] = deque()
        self._places: SimpleQueue[_Place] = SimpleQueue()
        for _ in range(self._location.pool_size):
            self._places.put(_Place(ref(self)))

    def enter(self) -> _Place:
        """Wait for the right to use a connection.

        Raises:
            Busy: none is free in time.
        """
        try:
            return self._places.get(timeout=self._location.busy_timeout_ms / 1000)
        except Empty as error:
            raise Busy(
                f"All {self._location.pool_size} connections of this process to "
                f"{self._location.shown} are in use. Nothing was stored; try again, use fewer "
                "threads, or write a larger pool_size=N into the URL."
            ) from error

    def leave(self, place: _Place) -> None:
        """Give the right back."""
        self._places.put(place)

    def take(self) -> Link:
        """Return a connection whose server is there, as far as this end was told.

        Raises:
            DatabaseUnreachable, DatabaseUnusable: none can be opened.
        """
        while self._idle:
            try:
                link = self._idle.pop()
            except IndexError:
                break
            if link.is_alive():
                return link
            link.connection.close()
        link = self._open_link()
        link.generation = self._generation
        return link

    def give_back(self, link: Link) -> None:
        """Take a connection back, or close it if it is not to be used again."""
        is_welcome = len(self._idle) < MOST_IDLE and link.generation == self._generation
        if is_welcome and link.is_usable:
            self._idle.append(link)
        else:
            link.connection.close()

    def close(self) -> None:
        """Close all connections; those that are in use, after their use."""
        self._generation += 1
        while self._idle:
            self._idle.pop().connection.close()

    @property
    def free(self) -> int:
        """Number of connections that may be taken now."""
        return self._places.qsize()


class _Place:
    """The right to use a connection, which comes back even if Ctrl-C makes its holder lose it."""

    __slots__ = ("_pid", "_pool")

    def __init__(self, pool: ReferenceType[Pool]) -> None:
        self._pool = pool
        self._pid = os.getpid()

    def __del__(self) -> None:
        pool = self._pool()
        if pool is not None and self._pid == os.getpid():
            pool.leave(_Place(self._pool))
