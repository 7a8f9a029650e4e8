"""Sends that join the open transaction of a caller's connection, and the checks of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy
from sqlalchemy.pool import PoolProxiedConnection

from durableq.engines.postgres.database import Database
from durableq.engines.postgres.driver import IDLE, Link, driver
from durableq.engines.postgres.errors import translate
from durableq.engines.postgres.session import Session
from durableq.engines.sql.transactions import AllOrNothing, WriteTransaction
from durableq.model.errors import Conflict, Unsupported
from durableq.model.text import shown


@contextmanager
def join(database: Database, connection: Any) -> Iterator[WriteTransaction]:
    """Take part in a caller's open transaction on this database: all of the block, or none.

    Raises:
        Unsupported: no connection, another driver's, or to another database.
        Conflict: no transaction is open on it.
    """
    raw = driver_connection(connection)
    session = Session(database, Link(raw))
    try:
        with AllOrNothing(session):
            session.join()
            yield session
            session.write_counters()
            session.check_revision()
            session.notify()
    except driver.Error as error:
        raise translate(error, database.location.shown) or error from error


def driver_connection(connection: Any) -> Any:
    """Return the driver's connection of a caller's connection, if it can carry a send.

    Raises:
        Unsupported: it is no connection, or another driver's.
        Conflict: no transaction is open on it.
    """
    raw = connection
    begun = False
    if isinstance(connection, sqlalchemy.Connection):
        begun = connection.in_transaction()
        raw = connection.connection.driver_connection
    elif isinstance(connection, PoolProxiedConnection):
        raw = connection.driver_connection
    if not isinstance(raw, driver.Connection):
        raise Unsupported(
            "connection= takes a SQLAlchemy connection or a psycopg connection, got "
            f"{shown(connection)}."
        )
    if raw.autocommit or (not begun and raw.pgconn.transaction_status == IDLE):
        raise Conflict("No transaction is open on this connection: use engine.begin().")
    return raw
