"""Translation of PostgreSQL's errors into durableq's, by their SQLSTATE.

https://www.postgresql.org/docs/current/errcodes-appendix.html
"""

from __future__ import annotations

from typing import Final

from durableq.engines.postgres.driver import driver
from durableq.model.errors import (
    Busy,
    DatabaseUnusable,
    DurableQError,
    InvalidInput,
    StorageFull,
)

#: A transaction that was undone because of others, and may be run again.
UNDONE: Final = {"40001", "40P01"}
_LOCKED: Final = {"55P03", "57014"}
_FULL: Final = {"53100", "53200"}
_TOO_MANY: Final = {"53300"}
_READ_ONLY: Final = {"25006"}
_MISSING: Final = {"42P01", "42703", "42883"}
_REFUSED: Final = {"42501", "28000", "28P01", "3D000", "3F000"}


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text, which says what happened."""
    return str(error).strip().partition("\n")[0]


def is_lost(error: BaseException | None) -> bool:
    """Return whether an error says that the connection, or the server, is gone."""
    if not isinstance(error, driver.OperationalError | driver.InterfaceError):
        return False
    state = getattr(error, "sqlstate", None)
    return state is None or state.startswith(("08", "57P"))


def translate(error: BaseException | None, place: str) -> DurableQError | None:
    """Return the durableq error for a driver's error; None for an error of the statement.

    Args:
        error: raised by the driver.
        place: the database, for the message.
    """
    state = getattr(error, "sqlstate", None) or ""
    if error is None or not isinstance(error, driver.Error):
        return None
    says = first_line(error)
    if not state and "NUL" in says:  # the driver's own, before anything is sent
        return InvalidInput(
            "A text has the character U+0000, which PostgreSQL cannot store. Nothing was stored; "
            "leave it out of keys, groups and names."
        )
    if state in UNDONE or state in _LOCKED:
        return Busy(f"{place} is busy ({says}). Nothing was stored; try again.")
    if state in _FULL:
        return StorageFull(
            f"The server of {place} has no room ({says}). Nothing was lost; make room, try again."
        )
    if state in _TOO_MANY:
        return Busy(
            f"The server of {place} takes no more connections ({says}). Nothing was stored. Raise "
            "max_connections, or use fewer workers."
        )
    if state in _READ_ONLY:
        return DatabaseUnusable(
            f"{place} is read-only ({says}): a standby, or default_transaction_read_only. Nothing "
            "was stored. Name the primary server, or add target_session_attrs=read-write."
        )
    if state in _MISSING:
        return DatabaseUnusable(
            f"{place} lacks a part of durableq's tables ({says}): its schema was changed or "
            "damaged. Restore it from a backup."
        )
    if state in _REFUSED:
        return DatabaseUnusable(f"{place} cannot be used ({says}). Check the URL and the grants.")
    if is_lost(error):
        return Busy(
            f"The connection to {place} is lost ({says}). Nothing of this call was stored; try "
            "again."
        )
    return None
