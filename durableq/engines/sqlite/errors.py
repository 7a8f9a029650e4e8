"""Translation of the driver's errors into durableq's. The driver gives only primary codes.

SQLite reports a write that failed for lack of space as an I/O error, unless the cause was ENOSPC
in the database or its log. A write to an unnamed file beside the database finds the cause.
"""

from __future__ import annotations

import errno
import os
import re
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Final

from durableq.engines.sqlite.driver import driver
from durableq.model.errors import (
    Busy,
    DatabaseUnusable,
    DurableQError,
    ForeignDatabase,
    StorageFull,
)

#: More than SQLite adds to a file at a time: a page, or 32 KiB of the index of its log.
PROBE_BYTES: Final = 1 << 16

_LACKS: Final = re.compile(
    r"no such (table|column): (main\.)?durableq_|table durableq_\w+ has no column|"
    r"no such column: version_num"
)
_BUSY: Final = {driver.SQLITE_BUSY, driver.SQLITE_LOCKED, driver.SQLITE_PROTOCOL}
_NO_ROOM: Final = {
    errno.ENOSPC: "The disk of {} is full.",
    errno.EDQUOT: "The disk quota of {} is used up.",
    errno.EFBIG: "A file of {} may not become larger (see ulimit -f).",
}


def code_of(error: BaseException | None) -> int:
    """Return the primary result code of a driver's error; 0 for any other error."""
    code: int = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return code


def translate(
    error: BaseException | None,
    path: object,
    *,
    undone: bool = False,
    in_own_statement: bool = True,
) -> DurableQError | None:
    """Return the durableq error for a driver's error; None for an error of the statement.

    Args:
        error: raised by the driver.
        path: of the database.
        undone: the error rolled back a write transaction.
        in_own_statement: the statement is durableq's, so a missing table is damage.
    """
    if isinstance(error, UnicodeDecodeError):  # raised by the driver for SQLite's error message
        return DatabaseUnusable(
            f"{path} is damaged (its schema holds text that is not UTF-8). Restore it from a "
            "backup."
        )
    code = code_of(error)
    if code in _BUSY:
        return Busy(f"{path} is busy: another process is writing. Nothing was stored; try again.")
    if code == driver.SQLITE_FULL:
        return StorageFull(_no_room(errno.ENOSPC, path))
    if code in {driver.SQLITE_IOERR, driver.SQLITE_CANTOPEN}:
        return _failed(error, path, undone=undone)
    if code == driver.SQLITE_READONLY:
        return read_only(Path(str(path)))
    if code in {driver.SQLITE_PERM, driver.SQLITE_AUTH}:
        return DatabaseUnusable(f"{path} cannot be opened. Check the path and its permissions.")
    if code == driver.SQLITE_NOTADB:
        return ForeignDatabase(f"{path} is not a SQLite database. It was left untouched.")
    if code == driver.SQLITE_CORRUPT:
        return DatabaseUnusable(f"{path} is damaged ({error}). Restore it from a backup.")
    if code == driver.SQLITE_ERROR and in_own_statement and _LACKS.match(str(error)):
        return DatabaseUnusable(
            f"{path} lacks a part of durableq's tables ({error}): its schema was changed or "
            "damaged. Restore it from a backup."
        )
    return None


def _failed(error: BaseException | None, path: object, *, undone: bool) -> DurableQError:
    """Translate an I/O error, or a failed opening, by its cause."""
    cause = _cause(Path(str(path)))
    if cause in _NO_ROOM:
        return StorageFull(_no_room(cause, path))
    if cause in {errno.EMFILE, errno.ENFILE}:
        return DatabaseUnusable(
            f"{path} cannot be opened: too many files are open in this process (ulimit -n), or in "
            "the system. Close some, or raise the limit."
        )
    if code_of(error) == driver.SQLITE_CANTOPEN:
        return DatabaseUnusable(f"{path} cannot be opened. Check the path and its permissions.")
    outcome = "The write was undone. " if undone else ""
    return DatabaseUnusable(
        f"The disk under {path} failed ({error}). {outcome}See the system's log, then run "
        f"`durableq doctor --db {path}`."
    )


def _no_room(cause: int, path: object) -> str:
    return f"{_NO_ROOM[cause].format(path)} Nothing was lost; make room, try again."


def read_only(path: Path) -> DatabaseUnusable:
    """Return the refusal of a connection that cannot write."""
    if not (os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)):
        return DatabaseUnusable(f"{path} is read-only. Make it and its directory writable.")
    return DatabaseUnusable(
        f"{path} was opened for reading only, although it may be written: too many files were "
        "open, or it was read-only then. Nothing was written; the next call opens it again."
    )


def reader_writes(path: object) -> DatabaseUnusable:
    """Return the refusal of a write by a store that was opened to read."""
    return DatabaseUnusable(
        f"{path} is opened for reading only, so that nothing can be changed here. Nothing was "
        "stored."
    )


def _cause(path: Path) -> int:
    """Return the errno of a write beside the database; 0 if that succeeds."""
    sizes = [0]
    for end in ("", "-wal", "-shm"):
        with suppress(OSError):
            sizes.append(os.stat(f"{os.path.realpath(path)}{end}").st_size)
    try:
        with tempfile.TemporaryFile(dir=os.path.realpath(path.parent), buffering=0) as probe:
            probe.seek(max(sizes))
            left = PROBE_BYTES
            while left > 0:
                left -= probe.write(bytes(left))
    except OSError as error:
        return error.errno or 0
    return 0
