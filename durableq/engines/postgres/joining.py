"""Sends that join the open transaction of a caller's connection."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

from durableq.engines.postgres.database import Database
from durableq.engines.postgres.driver import IDLE, Link, driver, pq
from durableq.engines.postgres.errors import READ_ONLY
from durableq.engines.postgres.session import Session, values_of
from durableq.engines.sql import joining
from durableq.engines.sql.open_transaction import INSIDE
from durableq.engines.sql.transactions import AllOrNothing, WriteTransaction
from durableq.model.errors import Conflict, Unsupported

_DRIVER: Final = joining.Driver(
    driver.__name__,
    driver.Connection,
    "a send needs the same driver. Use dq.engine, or create_engine('postgresql+psycopg://…')",
)
#: A server is known by the moment of its start, and a database on it by the number of our table.
_IDENTITY: Final = (
    "SELECT extract(epoch FROM pg_postmaster_start_time())::text, d.oid::bigint, "
    "coalesce(to_regclass($1)::oid::bigint, 0), current_database()::text "
    "FROM pg_database AS d WHERE d.datname = current_database()"
)


class _Identity(NamedTuple):
    """The table of messages that a connection sees."""

    started_at: str
    database: int
    table: int
    name: str


@contextmanager
def join(database: Database, connection: Any) -> Iterator[WriteTransaction]:
    """Take part in a caller's open transaction on this database: all of the block, or none.

    Raises:
        Unsupported: no connection, another driver's, or to another database.
        Conflict: it cannot carry a send: no transaction is open on it, the one that is has failed
            or only reads, it is closed, in autocommit mode, or another thread sends through it.
        Busy: others wrote for the whole wait, or the transaction has read an older state.
    """
    connection = joining.of_session(connection)
    raw = joining.driver_connection(connection, _DRIVER)
    # The driver begins a transaction by itself, and leaves its end to the caller.
    _check(database, raw, begun=joining.has_begun(connection) is not False)
    session = Session(database, Link(raw, prepare=None))
    try:
        with joining.reserved(raw), AllOrNothing(session):
            _check_identity(database, session.link)
            text = database.lock_in_transaction
            _, now_ms = values_of(session.link.execute_text(text, prepare=False))
            session.set_moment(now_ms)
            yield session
            session.write_counters()
            session.check_revision()
            session.execute(database.notify)
    except driver.Error as error:
        if error.sqlstate == READ_ONLY:
            raise Conflict(
                "The transaction of this connection only reads, so it can send nothing. Begin one "
                "that writes: engine.begin()."
            ) from error
        raise database.meaning(error) or error from error


def _check(database: Database, raw: Any, *, begun: bool) -> None:
    """Refuse a connection that cannot carry a send.

    Args:
        database: of the queue.
        raw: the driver's connection.
        begun: a transaction begins with the first statement, and ends with the caller's.

    Raises:
        Conflict, Unsupported: as for `join`.
    """
    if raw.closed:
        raise joining.closed()
    inside = database.inside
    if inside is not None and (inside.link.connection is raw or inside.has_lock):
        raise Conflict(INSIDE)
    status = raw.pgconn.transaction_status
    if status == pq.TransactionStatus.INERROR:
        raise Conflict(
            "The transaction of this connection has failed, and PostgreSQL takes no more "
            "statements in it. Nothing was sent; roll back, or set a SAVEPOINT before a statement "
            "that may fail."
        )
    if status == IDLE and raw.autocommit:
        raise joining.commits_itself()
    if status == IDLE and not begun:
        raise joining.not_begun()
    if raw.pgconn.pipeline_status != pq.PipelineStatus.OFF:
        raise Conflict("This connection is in pipeline mode. Send outside the pipeline's block.")
    if raw.info.encoding != "utf-8":
        raise Unsupported(
            f"This connection has the client_encoding {raw.info.encoding}, which cannot carry "
            "every text. Set client_encoding to UTF8."
        )


def _check_identity(database: Database, link: Link) -> None:
    """Refuse a connection to another database.

    Raises:
        Unsupported: it is one.
    """
    table = (f"{database.quoted_schema}.durableq_message",)
    theirs = _Identity(*link.execute(_IDENTITY, table).fetchone())
    if theirs == database.identity:
        return
    with database.connected() as (own, _):  # the server may have been started again
        database.identity = _Identity(*own.execute(_IDENTITY, table).fetchone())
    if theirs != database.identity:
        raise Unsupported(
            f"This connection is to another database ({theirs.name}), the queue is in "
            f"{database.location.shown}: one transaction cannot hold both."
        )
