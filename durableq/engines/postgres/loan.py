"""A connection of the pool, for a block."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from durableq.engines.postgres.driver import Link

if TYPE_CHECKING:
    from durableq.engines.postgres.database import Database


class Loan:
    """A connection of the pool, for a block; one that is lost, or in a transaction, is closed.

    It is no generator: Ctrl-C at any line of `contextlib` would leave one suspended, with the
    connection in use.

    Args:
        database: has the pool.
    """

    __slots__ = ("_database", "_generation", "_pid", "_pooled", "link")

    link: Link

    def __init__(self, database: Database) -> None:
        self._database = database
        self._pooled: Any = None

    def __enter__(self) -> tuple[Link, Any]:
        return self.take(), self._pooled

    def __exit__(self, *_: object) -> None:
        self.give_back()

    def take(self) -> Link:
        """Take a connection whose server is there, as far as this end was told.

        Raises:
            Busy: none is free in time.
            DatabaseUnreachable, DatabaseUnusable: none can be opened.
        """
        database = self._database
        self._pid = os.getpid()
        while True:
            self._generation = database.generation
            self._pooled = pooled = database.borrow()
            info = pooled.info
            link: Link | None = info.get("link")
            if link is None:
                self.link = info["link"] = Link(
                    pooled.driver_connection, prepare=database.keeps_sessions
                )
                return self.link
            self.link = link
            if link.is_alive():
                return link
            link.is_spent = True
            self.give_back()

    @property
    def info(self) -> dict[str, Any]:
        """Objects that are kept with the connection."""
        kept: dict[str, Any] = self._pooled.info
        return kept

    @property
    def pooled(self) -> Any:
        """The connection as the pool's, which SQLAlchemy can use."""
        return self._pooled

    @property
    def is_lent(self) -> bool:
        """Whether it has a connection of this process, which is to be given back."""
        return self._pooled is not None and self._pid == os.getpid()

    def give_back(self) -> None:
        """Give the connection back; a second call finishes an interrupted one."""
        pooled = self._pooled
        if self.is_lent and pooled.dbapi_connection is not None:
            if self._is_reusable:
                pooled.close()
            else:
                pooled.invalidate()
        self._pooled = None

    @property
    def _is_reusable(self) -> bool:
        return (
            getattr(self, "link", None) is not None
            and self.link.is_usable
            and self._generation == self._database.generation
        )
