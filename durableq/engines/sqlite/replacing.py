"""Giving a finished copy its name: over nothing, or in place of a database that is set aside."""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from durableq.engines.sqlite import locks
from durableq.engines.sqlite.database import DRIVER_TIMEOUT_SECONDS
from durableq.engines.sqlite.driver import driver
from durableq.engines.sqlite.errors import translate
from durableq.engines.sqlite.unfinished import ENDS, LOGS, Making, sync, worded
from durableq.model.errors import Busy, Conflict, DatabaseUnusable, DurableQError

AT_FDCWD: Final = -100
#: Both are the kernel's numbers for renameat2(2).
RENAME_NOREPLACE: Final = 1
_NO_DATABASE: Final = frozenset({driver.SQLITE_NOTADB, driver.SQLITE_CORRUPT})


def check_unused(path: Path, advice: str) -> None:
    """Refuse a file that a process has open, also one that was removed while it was open.

    Raises:
        Conflict: a process has it open.
    """
    using = sorted(locks.users(path))
    if using:
        raise Conflict(f"{path} is open in {locks.describe(using[0])}. {advice}")


def name_new(made: Making) -> None:
    """Give the copy its name, which must be free.

    Raises:
        Conflict: another process took the name in the meantime.
        DatabaseUnusable: it cannot be named, or the directory cannot be brought to the disk.
    """
    with worded(made.target):
        try:
            _name(made.partial, made.target)
        except FileExistsError:
            raise _came_to_exist(made.target) from None
    _sync_named(made)


def replace(made: Making) -> str | None:
    """Give the copy the name of a database, and that one, with its log, another name.

    While this happens the old database is held exclusively, its log folded into it and removed.

    Returns:
        The new name of the old database, or of a log alone; None if there was neither.

    Raises:
        Conflict: a process has it open.
        DatabaseUnusable, StorageFull: one of the steps failed.
    """
    target = made.target
    check_unused(target, "It was opened in the meantime: stop what uses it.")
    with _held(target), worded(target):
        ends = _set_aside(made)
        if "" not in ends:
            name_new(made)
        elif os.path.samefile(target, made.note.aside):
            os.rename(made.partial, target)
        else:
            raise _came_to_exist(target)
    _sync_named(made)
    return f"{made.note.aside}{ends[0]}" if ends else None


@contextmanager
def _held(path: Path) -> Iterator[None]:
    """Fold the log of a database into it and lock it, so that nothing is answered from it.

    A process that opened the file before, and locks it after, cannot write: SQLite finds that it
    has another name. What is no database at all cannot be locked, nor opened by a queue.
    """
    if not path.exists():
        yield
        return
    uri = f"file:{quote(os.fsencode(path))}?mode=rw"
    raw = None
    try:
        raw = driver.connect(uri, uri=True, timeout=DRIVER_TIMEOUT_SECONDS, isolation_level=None)
        _fold(raw, path)
    except driver.Error as error:
        if raw is not None:
            raw.close()
        if getattr(error, "sqlite_errorcode", 0) & 0xFF not in _NO_DATABASE:
            raise _not_held(path, error) from error
        yield
        return
    with closing(raw):
        yield


def _not_held(path: Path, error: driver.Error) -> DurableQError:
    if isinstance(translate(error, path), Busy):
        return _opened_meanwhile(path)
    return DatabaseUnusable(
        f"The log of {path} cannot be written into it ({error}), so it was not replaced; nothing "
        "was changed. Restore under another name."
    )


def _fold(raw: Any, path: Path) -> None:
    raw.execute("PRAGMA writable_schema = ON")  # only so that a damaged schema does not matter
    # Takes the lock of the only user, brings the log into the file, and fails if it cannot.
    (mode,) = raw.execute("PRAGMA journal_mode = DELETE").fetchone()
    raw.execute("BEGIN EXCLUSIVE")
    (now,) = raw.execute("PRAGMA journal_mode").fetchone()
    if {mode, now} != {"delete"}:
        raise _opened_meanwhile(path)
    for log in [f"{path}{end}" for end in LOGS]:
        if os.path.lexists(log):
            raise DatabaseUnusable(
                f"{log} cannot be removed, so {path} was not replaced; nothing was changed. Check "
                "the disk and the permissions of the directory."
            )


def _came_to_exist(path: Path) -> Conflict:
    return Conflict(f"{path} has come to exist in the meantime. Nothing was done.")


def _opened_meanwhile(path: Path) -> Conflict:
    return Conflict(f"{path} is in use by another process. Stop it first. Nothing was changed.")


def _set_aside(made: Making) -> list[str]:
    """Give the database at the target, and any log there, a second name; remove the logs' first.

    Returns:
        The ends of the names that were there: empty for the database, `-wal`, `-journal`.
    """
    target = made.target
    present = [end for end in ("", *LOGS) if os.path.lexists(f"{target}{end}")]
    if not present:
        _remove_index(target)
        return present
    if "" in present:
        _keep_permissions(made.partial, os.stat(target))
        sync(made.partial)  # the permissions: without it a power loss could undo them alone
    aside = _free_name(target)
    made.remember(aside=aside)
    for end in present:
        try:
            os.link(f"{target}{end}", f"{aside}{end}")
        except OSError as error:
            if error.errno not in {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS}:
                raise
            raise DatabaseUnusable(
                f"{target} is on a file system without hard links, where a database cannot be "
                "replaced safely. Move it and its log away, then restore without --replace."
            ) from error
    sync(target.parent)
    for end in filter(None, present):
        os.unlink(f"{target}{end}")
    _remove_index(target)
    if present != [""]:
        sync(target.parent)  # no log may be at the path when the copy gets its name
    return present


def _remove_index(target: Path) -> None:
    """Remove the index of a log; the next opening makes one."""
    with suppress(FileNotFoundError):
        os.unlink(f"{target}-shm")


def _free_name(target: Path) -> str:
    stamp = time.strftime("%Y%m%d-%H%M%S")
    name, number = f"{target}.replaced-{stamp}", 1
    while any(os.path.lexists(f"{name}{end}") for end in ENDS):
        number += 1
        name = f"{target}.replaced-{stamp}-{number}"
    return name


def _keep_permissions(copy: Path, before: os.stat_result) -> None:
    """Let the same users use the new file; only root can give it to another owner."""
    with suppress(PermissionError):
        os.chown(copy, before.st_uid, before.st_gid)
    os.chmod(copy, stat.S_IMODE(before.st_mode))


def _name(partial: Path, target: Path) -> None:
    """Rename, but never over a file."""
    try:
        os.link(partial, target)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        _rename_exclusively(partial, target)
    else:
        with suppress(OSError):
            os.unlink(partial)  # else the end of the operation does it


def _rename_exclusively(partial: Path, target: Path) -> None:
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except AttributeError:
        raise OSError(errno.EOPNOTSUPP, "this file system has no hard links", str(target)) from None
    names = (AT_FDCWD, os.fsencode(partial), AT_FDCWD, os.fsencode(target))
    if rename(*names, RENAME_NOREPLACE):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(target))


def _sync_named(made: Making) -> None:
    target = made.target
    try:
        sync(target.parent)
    except OSError as error:
        raise DatabaseUnusable(
            f"{target} is in place and whole, but its directory cannot be brought to the disk "
            f"({error.strerror}): a power loss may undo the {made.note.verb}. Check the disk, "
            "then look at the file again."
        ) from error
