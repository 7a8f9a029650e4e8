"""Installation of a finished copy: under a free name, or over a database that is set aside."""

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
from durableq.engines.sqlite.copy_marker import (
    AT_FDCWD,
    LOG_SUFFIXES,
    SUFFIXES,
    CopyInProgress,
    fsync,
    os_errors_translated,
)
from durableq.engines.sqlite.driver import DRIVER_TIMEOUT_SECONDS, driver
from durableq.engines.sqlite.errors import code_of, translate
from durableq.model.errors import Busy, Conflict, DatabaseUnusable

_RENAME_NOREPLACE: Final = 1
_NO_DATABASE: Final = frozenset({driver.SQLITE_NOTADB, driver.SQLITE_CORRUPT})


def check_not_open(path: Path, advice: str) -> None:
    """Raise Conflict if a process has the file open, also if it was removed meanwhile."""
    using = sorted(locks.users(path))
    if using:
        raise Conflict(f"{path} is open in {locks.describe(using[0])}. {advice}")


def install_new(copy: CopyInProgress) -> None:
    """Give the copy its final name, which must be free.

    Raises:
        Conflict: another process took the name in the meantime.
        DatabaseUnusable: the copy cannot be renamed, or the directory cannot be synced.
    """
    with os_errors_translated(copy.target):
        try:
            _link_or_rename(copy.partial, copy.target)
        except FileExistsError:
            raise appeared(copy.target) from None
    _fsync_directory(copy)


def install_over(copy: CopyInProgress) -> str | None:
    """Give the copy the name of an existing database, and rename that one together with its log.

    Meanwhile the old database is locked exclusively; its log was merged into it and removed.

    Returns:
        The new name of the old database, or of a log alone; None if there was neither.

    Raises:
        Conflict: a process has the old database open.
        DatabaseUnusable, StorageFull: one of the steps failed.
    """
    target = copy.target
    check_not_open(target, "It was opened in the meantime: stop what uses it.")
    with _exclusively_locked(target), os_errors_translated(target):
        suffixes = _set_aside(copy)
        if "" not in suffixes:
            install_new(copy)
        elif os.path.samefile(target, copy.marker.aside):
            os.rename(copy.partial, target)
        else:
            raise appeared(target)
    _fsync_directory(copy)
    return f"{copy.marker.aside}{suffixes[0]}" if suffixes else None


@contextmanager
def _exclusively_locked(path: Path) -> Iterator[None]:
    """Merge the log of a database into it and lock it, so that no process can use it.

    A process that opened the file earlier and locks it later cannot write: SQLite notices the new
    name. A file that is no database cannot be locked; no queue can open it either.
    """
    if not path.exists():
        yield
        return
    uri = f"file:{quote(os.fsencode(path))}?mode=rw"
    raw = None
    try:
        raw = driver.connect(uri, uri=True, timeout=DRIVER_TIMEOUT_SECONDS, isolation_level=None)
        _merge_log(raw, path)
    except driver.Error as error:
        if raw is not None:
            raw.close()
        if code_of(error) not in _NO_DATABASE:
            if isinstance(translate(error, path), Busy):
                raise _in_use(path) from error
            raise DatabaseUnusable(
                f"The log of {path} cannot be written into it ({error}), so it was not replaced; "
                "nothing was changed. Restore under another name."
            ) from error
        yield
        return
    with closing(raw):
        yield


def _merge_log(raw: Any, path: Path) -> None:
    raw.execute("PRAGMA writable_schema = ON")  # only so that a damaged schema does not matter
    # Takes the lock of the only user, brings the log into the file, and fails if it cannot.
    (mode,) = raw.execute("PRAGMA journal_mode = DELETE").fetchone()
    raw.execute("BEGIN EXCLUSIVE")
    (now,) = raw.execute("PRAGMA journal_mode").fetchone()
    if {mode, now} != {"delete"}:
        raise _in_use(path)
    for log in [f"{path}{suffix}" for suffix in LOG_SUFFIXES]:
        if os.path.lexists(log):
            raise DatabaseUnusable(
                f"{log} cannot be removed, so {path} was not replaced; nothing was changed. Check "
                "the disk and the permissions of the directory."
            )


def appeared(path: Path) -> Conflict:
    """Return the refusal to replace a file that was not there at the start."""
    return Conflict(f"{path} has come to exist in the meantime. Nothing was done.")


def _in_use(path: Path) -> Conflict:
    return Conflict(f"{path} is in use by another process. Stop it first. Nothing was changed.")


def _set_aside(copy: CopyInProgress) -> list[str]:
    """Give the database at the target and its logs a second name; remove the logs' first names.

    Returns:
        The suffixes of the files that were there: empty for the database, `-wal`, `-journal`.
    """
    target = copy.target
    present = [suffix for suffix in ("", *LOG_SUFFIXES) if os.path.lexists(f"{target}{suffix}")]
    if not present:
        _remove_index(target)
        return present
    if "" in present:  # keep owner (only root can), group and mode
        before = os.stat(target)
        with suppress(PermissionError):
            os.chown(copy.partial, before.st_uid, before.st_gid)
        os.chmod(copy.partial, stat.S_IMODE(before.st_mode))
        fsync(copy.partial)  # the permissions: without it a power loss could undo them alone
    aside = _free_name(target)
    copy.set_aside_as(aside)
    for suffix in present:
        try:
            os.link(f"{target}{suffix}", f"{aside}{suffix}")
        except OSError as error:
            if error.errno not in {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS}:
                raise
            raise DatabaseUnusable(
                f"{target} is on a file system without hard links, where a database cannot be "
                "replaced safely. Move it and its log away, then restore without --replace."
            ) from error
    fsync(target.parent)
    for suffix in filter(None, present):
        os.unlink(f"{target}{suffix}")
    _remove_index(target)
    if present != [""]:
        fsync(target.parent)  # no log may be at the path when the copy gets its name
    return present


def _remove_index(target: Path) -> None:
    """Remove the index of a log; SQLite creates it when the file is opened."""
    with suppress(FileNotFoundError):
        os.unlink(f"{target}-shm")


def _free_name(target: Path) -> str:
    stamp = time.strftime("%Y%m%d-%H%M%S")
    name, number = f"{target}.replaced-{stamp}", 1
    while any(os.path.lexists(f"{name}{suffix}") for suffix in SUFFIXES):
        number += 1
        name = f"{target}.replaced-{stamp}-{number}"
    return name


def _link_or_rename(partial: Path, target: Path) -> None:
    """Rename without replacing a file; raise FileExistsError if the target exists."""
    try:
        os.link(partial, target)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    else:
        with suppress(OSError):
            os.unlink(partial)  # if this fails, the end of the operation removes it
        return
    if rename is None:
        raise OSError(errno.EOPNOTSUPP, "this file system has no hard links", str(target))
    names = (AT_FDCWD, os.fsencode(partial), AT_FDCWD, os.fsencode(target))
    if rename(*names, _RENAME_NOREPLACE):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(target))


def _fsync_directory(copy: CopyInProgress) -> None:
    target = copy.target
    try:
        fsync(target.parent)
    except OSError as error:
        raise DatabaseUnusable(
            f"{target} is in place and whole, but its directory cannot be brought to the disk "
            f"({error.strerror}): a power loss may undo the {copy.marker.operation}. Check "
            "the disk, then look at the file again."
        ) from error
