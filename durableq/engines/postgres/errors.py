"""Translation of PostgreSQL's errors into durableq's, by their SQLSTATE.

https://www.postgresql.org/docs/current/errcodes-appendix.html
"""

from __future__ import annotations

import re
from typing import Final

from durableq.engines.postgres.driver import driver
from durableq.model.errors import (
    Busy,
    Conflict,
    DatabaseUnreachable,
    DatabaseUnusable,
    DurableQError,
    InvalidInput,
    StorageFull,
)

#: A transaction that was undone because of others, and may be run again.
UNDONE: Final = {"40001", "40P01"}
#: The server ended the connection because it was idle: it ran nothing.
IDLE_TOO_LONG: Final = {"57P05"}
READ_ONLY: Final = "25006"
_LOCKED: Final = {"55P03", "57014"}
_FULL: Final = {"53000", "53100", "53200", "53400"}
_FAILED: Final = {"25P02"}
_MISSING: Final = {"42P01", "42703", "42883"}
_REFUSED: Final = {"42501", "28000", "28P01", "3D000", "3F000", "42939"}
_LOST: Final = ("08", "57P")
_TIMED_OUT: Final = {"25P03", "25P04"}
#: A server that refuses a connection says why in words only. These mean the URL, the grants or the
#: server's configuration; other reasons pass by themselves, such as a start, or a full server.
_CONFIGURATION: Final = re.compile(
    r"authentication failed|no password supplied|no pg_hba\.conf entry|pg_hba\.conf rejects"
    r"|(database|role) .* does not exist|not permitted to log in|permission denied"
    r"|not currently accepting connections|certificate|private key|does not support SSL"
    r"|server does not support|unsupported (startup|frontend)|SSL error|requires (SSL|encryption)"
    r"|invalid (connection option|port|integer|sslmode|\w+ value)"
    r"|service file|definition of service"
)
_FULL_SERVER: Final = re.compile(r"too many (clients|connections)|connection slots are reserved")
_WRONG_KIND: Final = re.compile(r"session is (not )?read-only|server is (not )?in hot standby")


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text, which says what happened."""
    return str(error).strip().partition("\n")[0].rstrip(".")


def is_lost(error: BaseException | None) -> bool:
    """Return whether an error says that the connection, or the server, is gone."""
    if not isinstance(error, driver.OperationalError | driver.InterfaceError):
        return isinstance(error, driver.Error) and error.sqlstate in _TIMED_OUT
    state = error.sqlstate
    return state is None or state.startswith(_LOST)


def unconnected(error: Exception, place: str) -> DurableQError:
    """Return the durableq error for a connection that was not opened.

    Args:
        error: raised by the driver.
        place: the database, for the message.
    """
    says = first_line(error)
    if _FULL_SERVER.search(says):
        return DatabaseUnreachable(
            f"The server of {place} takes no more connections ({says}). Nothing was stored; try "
            "again. If it stays so, raise max_connections, or use fewer workers."
        )
    if _WRONG_KIND.search(says):
        return DatabaseUnreachable(
            f"No server of {place} is of the kind that target_session_attrs asks for ({says}). "
            "Nothing was stored; try again, after the failover."
        )
    if _CONFIGURATION.search(says):
        return DatabaseUnusable(
            f"{place} refuses the connection ({says}). Check user, password and database in the "
            "URL, and the server's pg_hba.conf."
        )
    return DatabaseUnreachable(
        f"{place} cannot be reached ({says}). Nothing was stored; try again. If it stays so, check "
        "host and port in the URL, and whether the server runs."
    )


def translate(
    error: BaseException | None, place: str, *, in_own_statement: bool = True
) -> DurableQError | None:
    """Return the durableq error for a driver's error; None for an error of the statement.

    Args:
        error: raised by the driver.
        place: the database, for the message.
        in_own_statement: the statement is durableq's, so a missing table is damage.
    """
    if error is None or not isinstance(error, driver.Error):
        return None
    state, says = error.sqlstate or "", first_line(error)
    if state in UNDONE:
        return Busy(f"{place} is busy ({says}). Nothing was stored; try again.")
    if state in _FULL:
        return StorageFull(
            f"The server of {place} has no room ({says}). Nothing was lost; make room, try again."
        )
    if state == READ_ONLY:
        return read_only(place, says)
    if is_lost(error):
        return DatabaseUnreachable(
            f"The connection to {place} is lost ({says}). Nothing of this call was stored; try "
            "again."
        )
    if state in _FAILED:
        return Conflict(
            "A statement of this transaction has failed, and PostgreSQL takes no more of them, so "
            "nothing is written in it and the message is not settled. Let the error end the block, "
            "or set a SAVEPOINT before the statement and ROLLBACK TO it."
        )
    return _of_our_statement(error, state, says, place) if in_own_statement else None


def read_only(place: str, says: str) -> DatabaseUnusable:
    """Return the refusal of a server that does not write."""
    return DatabaseUnusable(
        f"{place} is read-only ({says}): a standby, or default_transaction_read_only. Nothing was "
        "stored. Name the primary server, or several hosts and target_session_attrs=read-write."
    )


def _of_our_statement(
    error: BaseException, state: str, says: str, place: str
) -> DurableQError | None:
    if not state and "NUL" in says:  # the driver's own, before anything is sent
        return InvalidInput(
            "A text has the character U+0000, which PostgreSQL cannot store. Nothing was stored; "
            "leave it out of keys, groups and names."
        )
    if state in _LOCKED:
        return Busy(f"{place} is busy ({says}). Nothing was stored; try again.")
    if state in _MISSING:
        return DatabaseUnusable(
            f"{place} lacks a part of durableq's tables ({says}): its schema was changed or "
            "damaged. Restore it from a backup."
        )
    if state in _REFUSED:
        return DatabaseUnusable(
            f"{place} cannot be used ({says}). Check the URL, and the grants of its user: it needs "
            "CREATE on the database or the schema once, then USAGE and the tables."
        )
    return None
