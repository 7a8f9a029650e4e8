"""The checks of a caller's connection, in whose open transaction a send takes part."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

import sqlalchemy
from sqlalchemy.pool import PoolProxiedConnection

from durableq.model.errors import Conflict, Unsupported
from durableq.model.text import shown, visible

_WITHOUT_ASYNCIO: Final = (
    "a Session or a connection without asyncio, of dq.engine, in a thread of its own: "
    "await asyncio.to_thread(write_and_send)"
)
#: The object to pass instead, by the name of a type that is close to a connection.
_INSTEAD: Final = {
    "sessionmaker": "one of its sessions: with factory.begin() as session",
    "AsyncSession": _WITHOUT_ASYNCIO,
    "AsyncConnection": _WITHOUT_ASYNCIO,
    "AsyncEngine": _WITHOUT_ASYNCIO,
    "async_sessionmaker": _WITHOUT_ASYNCIO,
    "async_scoped_session": _WITHOUT_ASYNCIO,
    "Engine": "its connection: with engine.begin() as connection",
    "ConnectionPool": "its connection: with pool.connection() as connection",
    "Cursor": "cursor.connection",
}
#: The thread that sends through a connection now, by the id of the connection.
_in_use: Final[dict[int, int]] = {}
_in_use_lock: Final = threading.Lock()


class Driver(NamedTuple):
    """An engine's driver, as callers meet it."""

    #: The module, and the type of its connections.
    name: str
    connection: type
    #: Why another driver's connection cannot be used, and what to do; follows a colon.
    advice: str


def of_session(given: Any) -> Any:
    """Return the connection of a SQLAlchemy Session, whose transaction begins if it has not.

    Nothing is flushed. An object that is no Session is returned as it is.

    Raises:
        Conflict: its transaction has failed, it is closed, or it begins none by itself.
        Unsupported: it commits in two phases, or has an engine for each class.
    """
    kinds = {k.__name__ for k in type(given).__mro__ if k.__module__.startswith("sqlalchemy.orm.")}
    if "scoped_session" in kinds:
        given = given()
    elif "Session" not in kinds:
        return given
    if given.twophase:
        raise _two_phases()
    try:
        return given.connection()
    except sqlalchemy.exc.UnboundExecutionError as error:
        raise Unsupported(
            "This Session has no engine for all classes. Name the class whose database the queue "
            'is in: connection=session.connection(bind_arguments={"mapper": Order}).'
        ) from error
    except sqlalchemy.exc.InvalidRequestError as error:
        says = visible(str(error).partition("(Background on")[0].strip(), 300)
        raise Conflict(f"This Session cannot carry a send. SQLAlchemy says: {says}") from error


def driver_connection(connection: Any, driver: Driver) -> Any:
    """Return the driver's connection of a caller's connection, if it can carry a send.

    Raises:
        Unsupported: it is no connection, or another driver's.
        Conflict: it is closed, invalidated, in autocommit mode, or its transaction has ended.
    """
    raw = connection
    if isinstance(connection, sqlalchemy.Connection):
        _check_usable(connection)
        raw = connection.connection.driver_connection
    elif isinstance(connection, PoolProxiedConnection):
        raw = connection.driver_connection
        if raw is None:
            raise closed()
    if not isinstance(raw, driver.connection):
        _check_kind(raw, driver)
        if not hasattr(raw, "cursor"):
            raise Unsupported(
                "connection= takes a SQLAlchemy connection or Session, or a "
                f"{driver.name} connection, got {shown(connection)}."
            )
        raise Unsupported(
            f"This connection is {type(raw).__module__}'s, and durableq's is "
            f"{driver.name}'s: {driver.advice}."
        )
    return raw


def has_begun(connection: Any) -> bool | None:
    """Return whether SQLAlchemy has begun a transaction on it, perhaps without the driver.

    None: the connection is the driver's, and not SQLAlchemy's.
    """
    if not isinstance(connection, sqlalchemy.Connection):
        return None
    return connection.in_transaction()


@contextmanager
def reserved(raw: Any) -> Iterator[None]:
    """Reserve a caller's connection for this thread.

    Raises:
        Conflict: another thread sends through it at this moment.
    """
    mine = threading.get_ident()
    with _in_use_lock:
        if _in_use.setdefault(id(raw), mine) != mine:
            raise Conflict(
                "Another thread sends through this connection at this moment, and undoing one send "
                "would undo the other. Nothing was sent; use a connection for each thread."
            )
    try:
        yield
    finally:
        with _in_use_lock:
            _in_use.pop(id(raw), None)


def closed() -> Conflict:
    """Return the refusal of a closed connection."""
    return Conflict("This connection is closed. Send inside the block of its transaction.")


def not_begun() -> Conflict:
    """Return the refusal of a connection without a transaction."""
    return Conflict("No transaction is open on this connection: use engine.begin().")


def commits_itself() -> Conflict:
    """Return the refusal of a connection in autocommit mode."""
    return Conflict(
        "This connection is in autocommit mode: each statement commits itself, so no "
        "transaction could hold your rows and the message together. Use a connection without "
        'isolation_level="AUTOCOMMIT", from engine.begin().'
    )


def _two_phases() -> Unsupported:
    return Unsupported(
        "This transaction commits in two phases, and a message becomes visible in one. Use a "
        "Session or a connection without twophase."
    )


def _check_kind(connection: Any, driver: Driver) -> None:
    libraries = ("sqlalchemy.", driver.name.partition(".")[0])
    for kind in type(connection).__mro__:
        if kind.__name__ in _INSTEAD and kind.__module__.startswith(libraries):
            instead = _INSTEAD[kind.__name__]
            name = f"{'an' if kind.__name__[0] in 'AEIOUaeiou' else 'a'} {kind.__name__}"
            raise Unsupported(f"connection= was given {name}. Give {instead}.")


def _check_usable(connection: sqlalchemy.Connection) -> None:
    if connection.closed:
        raise closed()
    if connection.invalidated:
        raise Conflict("This connection was invalidated: its transaction is gone. Begin a new one.")
    chosen = connection.get_execution_options().get("isolation_level")
    made_with = getattr(connection.dialect, "_on_connect_isolation_level", None)
    if "AUTOCOMMIT" in {str(chosen or made_with).upper()}:
        raise commits_itself()
    transaction = connection.get_transaction()
    if isinstance(transaction, sqlalchemy.TwoPhaseTransaction):
        raise _two_phases()
    if transaction is not None and not transaction.is_active:
        raise Conflict(
            "The transaction of this connection failed to commit. Close the connection, and begin "
            "a new one: engine.begin()."
        )
