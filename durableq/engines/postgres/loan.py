"""A connection of the pool, for a block."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from durableq.engines.postgres.driver import Link, driver
from durableq.engines.postgres.errors import is_lost

if TYPE_CHECKING:
    from durableq.engines.postgres.database import Database


class Loan:
    """A connection of the pool, for a block; one that is lost, or in a transaction, is closed.

    It is no generator: Ctrl-C at any line of `contextlib` would leave one suspended, with the
    connection in use.

    Args:
        database: has the pool.
    """

    link: Link | None = None
    _place: Any = None

    def __init__(self, database: Database) -> None:
        self._database = database
        self._pid = os.getpid()

    def __enter__(self) -> tuple[Link, Loan]:
        return self.take(), self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, driver.Error) and is_lost(error) and self.link is not None:
            self.link.is_spent = True
        self.give_back()
        if isinstance(error, driver.Error):
            meaning = self._database.meaning(error)
            if meaning is not None:
                raise meaning from error

    def take(self) -> Link:
        """Take a connection whose server is there, as far as this end was told.

        Raises:
            Busy: none is free in time.
            DatabaseUnreachable, DatabaseUnusable: none can be opened.
        """
        pool = self._database.pool
        try:
            self._place = pool.enter()
            self.link = link = pool.take()
        except BaseException:
            self.give_back()
            raise
        return link

    @property
    def is_own(self) -> bool:
        """Whether its connection is this process's, and not a parent's."""
        return self._pid == os.getpid()

    def give_back(self) -> None:
        """Give the connection back; a second call finishes an interrupted one.

        What Ctrl-C makes this lose is closed: never is one connection given back twice.
        """
        pool = self._database.pool
        link, self.link = self.link, None
        if link is not None and self.is_own:
            pool.give_back(link)
        place, self._place = self._place, None
        if place is not None and self.is_own:
            pool.leave(place)
