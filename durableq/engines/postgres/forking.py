"""Connections in a forked child: they are the parent's, and the child lets go of them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Final
from weakref import WeakSet

if TYPE_CHECKING:
    import psycopg

    from durableq.engines.postgres.database import Database

_databases: Final[WeakSet[Database]] = WeakSet()


def remember(database: Database) -> None:
    """Let a database know when this process is a forked child."""
    _databases.add(database)


def detach(connections: Iterable[psycopg.Connection]) -> None:
    """Take the sockets from connections that a forked child has inherited.

    To close such a connection would end the parent's session, and to leave it open would keep the
    session, and its locks, when the parent is dead. Their descriptors stay in use, by /dev/null:
    the driver may write a farewell to one.
    """
    nothing = os.open(os.devnull, os.O_RDWR)
    for connection in connections:
        with suppress(Exception):  # it is closed
            os.dup2(nothing, connection.pgconn.socket, inheritable=False)
    os.close(nothing)


def _let_go() -> None:
    for database in list(_databases):
        database.let_go()


os.register_at_fork(after_in_child=_let_go)
