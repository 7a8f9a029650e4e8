"""Sends that join the open transaction of a caller's connection, and the checks of it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import sqlalchemy
from sqlalchemy.pool import PoolProxiedConnection

from durableq.engines.sql import steady_time
from durableq.engines.sql.transactions import AllOrNothing, WriteTransaction
from durableq.engines.sqlite.checkpoints import guard
from durableq.engines.sqlite.database import Database
from durableq.engines.sqlite.dialect import DIALECT
from durableq.engines.sqlite.driver import driver
from durableq.engines.sqlite.errors import translate
from durableq.engines.sqlite.location import Location
from durableq.model.errors import Conflict, Unsupported
from durableq.model.text import shown, visible

_WITHOUT_ASYNCIO: Final = "a connection without asyncio, of dq.engine.begin()"
#: The object to pass instead, by the name of a type that is close to a connection.
_INSTEAD: Final = {
    "Session": "session.connection()",
    "scoped_session": "session.connection()",
    "sessionmaker": "the connection of a session: session.connection()",
    "AsyncSession": _WITHOUT_ASYNCIO,
    "AsyncConnection": _WITHOUT_ASYNCIO,
    "AsyncEngine": _WITHOUT_ASYNCIO,
    "async_sessionmaker": _WITHOUT_ASYNCIO,
    "async_scoped_session": _WITHOUT_ASYNCIO,
    "Engine": "its connection: with engine.begin() as connection",
    "Cursor": "cursor.connection",
}
_LIBRARIES: Final = ("sqlalchemy.", driver.__name__.partition(".")[0])
#: The thread that sends through a connection now, by the id of the connection.
_in_use: Final[dict[int, int]] = {}
_in_use_lock: Final = threading.Lock()


def driver_connection(connection: Any) -> Any:
    """Return the driver's connection of a caller's connection, if it can carry a send.

    Raises:
        Unsupported: it is no connection, or another driver's.
        Conflict: it is closed, invalidated, in autocommit mode, or its transaction has ended.
    """
    for kind in type(connection).__mro__:
        if kind.__name__ in _INSTEAD and kind.__module__.startswith(_LIBRARIES):
            instead = _INSTEAD[kind.__name__]
            name = f"{'an' if kind.__name__[0] in 'AEIOUaeiou' else 'a'} {kind.__name__}"
            raise Unsupported(f"connection= was given {name}. Give {instead}.")
    raw = connection
    if isinstance(connection, sqlalchemy.Connection):
        _check_usable(connection)
        raw = connection.connection.driver_connection
    elif isinstance(connection, PoolProxiedConnection):
        raw = connection.driver_connection
        if raw is None:
            raise _closed()
    if not isinstance(raw, driver.Connection):
        if not hasattr(raw, "cursor"):
            raise Unsupported(
                f"connection= takes a SQLAlchemy connection or a {driver.__name__} connection, got "
                f"{shown(connection)}."
            )
        raise Unsupported(
            f"This connection is {type(raw).__module__}'s, and durableq's is "
            f"{driver.__name__}'s: two SQLite libraries on one file in one process lose each "
            f"other's locks. Use dq.engine, or create_engine(url, module={driver.__name__})."
        )
    return raw


@contextmanager
def join(database: Database, connection: Any) -> Iterator[WriteTransaction]:
    """Take part in a caller's open transaction on this same file: all of the block, or none.

    Raises:
        Unsupported: no connection, another driver's, or on another file.
        Conflict: it cannot carry a send: no transaction is open on it, it is closed, in
            autocommit mode, another thread's, or another thread sends through it just now.
        DatabaseReplaced: the file is no longer the one that was opened.
        Busy: it is a deferred transaction that cannot begin to write.
    """
    raw = driver_connection(connection)
    begun = isinstance(connection, sqlalchemy.Connection) and connection.in_transaction()
    try:
        with alone_with(raw):
            _begin(database, raw, begun=begun)
            tx = WriteTransaction(raw, DIALECT, database.rng, free_bytes=database.free_bytes)
            with AllOrNothing(tx):
                tx.set_time(steady_time.follow(tx, database.clock))
                yield tx
                tx.write_counters()
    except driver.Error as error:
        raise translate(error, database.location.path) or error from error


def _begin(database: Database, raw: Any, *, begun: bool) -> None:
    """Refuse a connection on another file; let its transaction begin to write."""
    database.file.check()
    guard(raw)
    path = raw.execute("PRAGMA database_list").fetchone()[2]
    if not path or Location(Path(path)).identity() != database.file.database:
        raise Unsupported(
            f"This connection is open on {path or 'a database in memory'}, the queue is in "
            f"{database.location.path}: one transaction cannot hold both."
        )
    if not raw.in_transaction:
        if not begun:
            raise Conflict("No transaction is open on this connection: use engine.begin().")
        database.file.use(raw)
        database.begin_once(raw)
    check = database.revision_check
    if check is not None and not check.passes(raw):
        raise check.refusal(raw)


@contextmanager
def alone_with(raw: Any) -> Iterator[None]:
    """Reserve a caller's connection for this thread, with the driver's own row and text factories.

    Raises:
        Conflict: another thread sends through it at this moment, it is another thread's, or it
            is closed.
    """
    mine = threading.get_ident()
    with _in_use_lock:
        if _in_use.setdefault(id(raw), mine) != mine:
            raise Conflict(
                "Another thread sends through this connection at this moment, and undoing one send "
                "would undo the other. Nothing was sent; use a connection for each thread."
            )
    rows, texts = raw.row_factory, raw.text_factory
    try:
        raw.row_factory, raw.text_factory = None, str
        _probe(raw)
        yield
    finally:
        raw.row_factory, raw.text_factory = rows, texts
        with _in_use_lock:
            _in_use.pop(id(raw), None)


def _probe(raw: Any) -> None:
    try:
        raw.execute("SELECT 1").fetchone()
    except driver.ProgrammingError as error:
        raise _unusable(error) from error


def _check_usable(connection: sqlalchemy.Connection) -> None:
    if connection.closed:
        raise _closed()
    if connection.invalidated:
        raise Conflict("This connection was invalidated: its transaction is gone. Begin a new one.")
    chosen = connection.get_execution_options().get("isolation_level")
    made_with = getattr(connection.dialect, "_on_connect_isolation_level", None)
    if "AUTOCOMMIT" in {str(chosen or made_with).upper()}:
        raise Conflict(
            "This connection is in autocommit mode: each statement commits itself, so no "
            "transaction could hold your rows and the message together. Use a connection without "
            'isolation_level="AUTOCOMMIT", from engine.begin().'
        )
    transaction = connection.get_transaction()
    if transaction is not None and not transaction.is_active:
        raise Conflict(
            "The transaction of this connection failed to commit. Close the connection, and begin "
            "a new one: engine.begin()."
        )


def _closed() -> Conflict:
    return Conflict("This connection is closed. Send inside the block of its transaction.")


def _unusable(error: Exception) -> Conflict:
    """Translate the error of a connection that the driver refuses to use."""
    if "closed" in str(error):
        return _closed()
    if "thread" in str(error):
        return Conflict(
            "This connection belongs to another thread. Send in the thread that opened it, or open "
            "it with check_same_thread=False and use it in one thread at a time."
        )
    return Conflict(f"This connection cannot be used: {visible(str(error), 200)}.")
