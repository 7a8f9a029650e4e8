"""SQLAlchemy on the file, for an application's own statements and for Alembic.

No operation of durableq needs SQLAlchemy, and its import takes longer than most commands. So this
module is imported when an application asks for it.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import sqlalchemy
from sqlalchemy import event
from sqlalchemy.pool import NullPool

from durableq.engines.sqlite.driver import driver

if TYPE_CHECKING:
    from durableq.engines.sqlite.database import Database


class SQLAlchemyAdapter:
    """An engine on one file, each transaction BEGIN IMMEDIATE, and views of open connections.

    Args:
        database: opens the connections, and is told of their transactions and their ends.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._handed = threading.local()
        self.engine = sqlalchemy.create_engine(
            "sqlite://", module=driver, creator=self._connect, poolclass=NullPool
        )
        # SQLAlchemy tries its first connection out, and rolls back: not the file's.
        self.view(driver.connect(":memory:", isolation_level=None)).close()
        event.listen(self.engine, "begin", database._on_begin)
        event.listen(self.engine, "commit", database._on_commit)
        for closing in ("close", "close_detached"):
            event.listen(self.engine, closing, database._on_close)

    def view(self, raw: Any) -> sqlalchemy.Connection:
        """Return an open connection of the driver as SQLAlchemy's, which closes both."""
        self._handed.raw = raw
        try:
            return self.engine.connect()
        finally:
            self._handed.raw = None

    def _connect(self) -> Any:
        handed = getattr(self._handed, "raw", None)
        return self._database._connect() if handed is None else handed
