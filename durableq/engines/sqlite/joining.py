"""Sends that join the open transaction of a caller's connection, and the checks of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from durableq.engines.sql import joining, steady_time
from durableq.engines.sql.transactions import AllOrNothing, WriteTransaction
from durableq.engines.sqlite.checkpoints import guard
from durableq.engines.sqlite.database import Database
from durableq.engines.sqlite.dialect import DIALECT
from durableq.engines.sqlite.driver import driver
from durableq.engines.sqlite.errors import translate
from durableq.engines.sqlite.location import Location
from durableq.model.errors import Conflict, Unsupported
from durableq.model.text import visible

_DRIVER: Final = joining.Driver(
    driver.__name__,
    driver.Connection,
    "two SQLite libraries on one file in one process lose each other's locks. Use dq.engine, or "
    f"create_engine(url, module={driver.__name__})",
)


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
    connection = joining.of_session(connection)
    raw = joining.driver_connection(connection, _DRIVER)
    begun = bool(joining.has_begun(connection))
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
            raise joining.not_begun()
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
    with joining.reserved(raw):
        rows, texts = raw.row_factory, raw.text_factory
        try:
            raw.row_factory, raw.text_factory = None, str
            _probe(raw)
            yield
        finally:
            raw.row_factory, raw.text_factory = rows, texts


def _probe(raw: Any) -> None:
    try:
        raw.execute("SELECT 1").fetchone()
    except driver.ProgrammingError as error:
        raise _unusable(error) from error


def _unusable(error: Exception) -> Conflict:
    """Translate the error of a connection that the driver refuses to use."""
    if "closed" in str(error):
        return joining.closed()
    if "thread" in str(error):
        return Conflict(
            "This connection belongs to another thread. Send in the thread that opened it, or open "
            "it with check_same_thread=False and use it in one thread at a time."
        )
    return Conflict(f"This connection cannot be used: {visible(str(error), 200)}.")
