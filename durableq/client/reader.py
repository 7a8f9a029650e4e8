"""A second opening of an application's store, which only reads it."""

from __future__ import annotations

from typing import ClassVar

from durableq.client.app import DurableQ
from durableq.runtime.clock import Clock
from durableq.store.core import Store


class Reader(DurableQ):
    """An application that reads the store of another: the database refuses each write of it.

    It is closed with the other. A store in memory is in no database: it is used as it is.

    Args:
        dq: the other application.
    """

    _is_reader: ClassVar[bool] = True

    def __init__(self, dq: DurableQ) -> None:
        super().__init__()
        self._of = dq
        dq.seconds.append(self)

    @property
    def url(self) -> str:
        """URL of the store of the other application."""
        return self._of.url

    @property
    def clock(self) -> Clock | None:
        """Source of the time of the other application."""
        return self._of.clock

    @property
    def store(self) -> Store:
        """The engine, opened at the first use.

        Raises:
            DatabaseUnusable: the database is not there, or not current.
            Unsupported: the engine has no such opening.
        """
        return self._of.store if self.url.startswith("memory:") else super().store
