"""Opening connections: options, and what each connection of ours is set to."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

from durableq.engines.postgres.driver import PREPARED, driver
from durableq.engines.postgres.errors import first_line, unconnected
from durableq.engines.postgres.location import Location
from durableq.model.errors import DatabaseUnusable, InvalidInput
from durableq.model.text import address

if TYPE_CHECKING:
    import psycopg

OLDEST_SERVER: Final = 140000
#: Options of libpq, where neither the URL nor the environment has them.
_OPTIONS: Final[dict[str, Any]] = {
    "fallback_application_name": "durableq",
    # A vanished host is noticed within half a minute; the server's defaults take two hours.
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
    "connect_timeout": 10,
}
#: The same at the server's end: what a vanished client held, locks above all, is free in time.
_OF_SERVER: Final = {
    "keepalives_idle": "tcp_keepalives_idle",
    "keepalives_interval": "tcp_keepalives_interval",
    "keepalives_count": "tcp_keepalives_count",
    "tcp_user_timeout": "tcp_user_timeout",
}
_BY_ENVIRONMENT: Final = {"connect_timeout": "PGCONNECT_TIMEOUT"}
#: The server notices within this time that the client of a running statement is gone.
_CHECK_CLIENT: Final = "SET client_connection_check_interval = 200"
#: What is acknowledged is on the disk; a stricter setting stays.
_DURABLE: Final = (
    "SELECT set_config('synchronous_commit', 'on', false) "
    "WHERE current_setting('synchronous_commit') = 'off'"
)


#: A role may have limits for the sessions of applications; not every server knows each of them.
_LIFT: Final = (
    "SELECT set_config(name, '0', false) FROM pg_settings "
    "WHERE name IN ('idle_session_timeout', 'statement_timeout', 'transaction_timeout')"
)
_PROBES: Final = (
    "SELECT pg_backend_pid() = {pid} AND pg_try_advisory_lock({key})",
    "SELECT pg_backend_pid() = {pid} AND pg_advisory_unlock({key})",
)


def connect(
    location: Location, *, autocommit: bool = True, settings: str = ""
) -> psycopg.Connection[Any]:
    """Open a connection.

    Args:
        location: of the database.
        autocommit: whether each statement commits by itself.
        settings: a statement that sets more for the session.

    Raises:
        InvalidInput: the URL has an option that libpq does not know.
        DatabaseUnreachable: no server answers, or it takes no connections just now.
        DatabaseUnusable: the server refuses the user or the database, or is too old.
    """
    try:
        options = _options(location)
        connection: psycopg.Connection[Any] = driver.connect(autocommit=True, **options)
    except driver.ProgrammingError as error:
        has_password = address(location.conninfo) != location.conninfo
        says = "" if has_password else f" ({first_line(error)})"  # it may quote the password
        raise InvalidInput(
            f"{location.shown} cannot be read by libpq{says}. Write %25 for a % in it, and options "
            "as name=value."
        ) from (None if has_password else error)
    except driver.Error as error:
        raise unconnected(error, location.shown) from error
    try:
        _check(connection, location)
        _set_up(connection, options, settings)
        connection.autocommit = autocommit
    except BaseException as error:
        connection.close()
        if isinstance(error, driver.Error):
            raise unconnected(error, location.shown) from error
        raise
    return connection


def lift_limits(connection: psycopg.Connection[Any]) -> None:
    """Let the session be idle, or blocked, for as long as it takes."""
    connection.execute(_LIFT, prepare=False)


def keeps_session(connection: psycopg.Connection[Any]) -> bool:
    """Return whether the connection is one session of the server, which keeps its locks.

    A pooler in transaction mode runs each transaction in the session that is free. It introduces
    itself with a process id of its own; one that does not may change sessions between two
    statements. Where this is not sure, sessions are not relied on.
    """
    key, pid = int.from_bytes(os.urandom(8), "big", signed=True), connection.info.backend_pid
    probes = (text.format(pid=pid, key=key).encode() for text in _PROBES)
    return all(connection.execute(probe, prepare=False).fetchone() == (True,) for probe in probes)


def _options(location: Location) -> dict[str, Any]:
    given = driver.conninfo.conninfo_to_dict(location.conninfo)
    options = {
        name: value
        for name, value in _OPTIONS.items()
        if _BY_ENVIRONMENT.get(name, "") not in os.environ
    }
    return {**options, **given, "client_encoding": "UTF8"}


def _check(connection: psycopg.Connection[Any], location: Location) -> None:
    """Refuse a server that cannot hold our tables."""
    version = connection.info.server_version
    if version < OLDEST_SERVER:
        raise DatabaseUnusable(
            f"{location.shown} is PostgreSQL {version // 10000}: durableq needs 14 or newer. "
            "Upgrade the server, or name another one."
        )
    encoding = connection.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        raise DatabaseUnusable(
            f"{location.shown} stores texts as {encoding}, which cannot hold every character. Name "
            "a database that was made with ENCODING 'UTF8'."
        )


def _set_up(connection: psycopg.Connection[Any], options: Mapping[str, Any], settings: str) -> None:
    connection.prepared_max = PREPARED
    connection.execute(_DURABLE, prepare=False)
    if settings:
        connection.execute(settings.encode(), prepare=False)
    with suppress(driver.Error):  # servers on some systems cannot check
        connection.execute(_CHECK_CLIENT, prepare=False)
    pairs = [(name, str(options[given])) for given, name in _OF_SERVER.items()]
    text = ", ".join(["set_config(%s, %s, false)"] * len(pairs))
    with suppress(driver.Error):  # the same
        connection.execute(f"SELECT {text}".encode(), [*chain(*pairs)], prepare=False)
