"""The marker file beside the target of a backup or restore, and recovery after an interruption.

`FILE.copying` names the operation and its source. The process that copies holds a lock on it
(flock), which the kernel drops when the process ends, however it ends. The copy is made at
`.FILE.partial`. One step gives it the final name: before that step nothing has happened, after it
everything has. Recovery therefore asks one question: is the file at the path the copy
(docs/decisions/0014)?
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import logging
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from durableq.model.errors import Busy, DatabaseUnusable, DurableQError, StorageFull
from durableq.runtime.outage import describe

#: Suffixes of files that SQLite applies to any database of that name.
LOG_SUFFIXES: Final = ("-wal", "-journal")
SUFFIXES: Final = ("", *LOG_SUFFIXES, "-shm")
READ_BYTES: Final = 1 << 16
NO_SPACE: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
AT_FDCWD: Final = -100
_NO_LOCKS: Final = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL})
# statx(2): the flag of the birth time, the size of the answer, and its fields: the mask of valid
# fields, seconds, nanoseconds.
_STATX_BTIME: Final = 0x800
_STATX_BYTES: Final = 256
_STATX_BIRTH: Final = struct.Struct("=I76xqI")

log = logging.getLogger("durableq.copies")


@dataclass(frozen=True, slots=True)
class Marker:
    """The content of FILE.copying: one JSON line for each version; the last whole line counts."""

    #: `backup` or `restore`.
    operation: str
    source: str
    pid: int
    #: Of the copy; 0 before it is created.
    inode: int = 0
    #: Birth time of the copy; 0 where the system does not tell. After a power cut that lost the
    #: copy, another file may have its inode number, but not its birth time.
    born_ns: int = 0
    #: New name of the replaced database and its log; empty if nothing is replaced.
    aside: str = ""

    def progress(self, target: Path) -> str:
        """Return the activity of the running process, as a sentence without its period."""
        doing = "restored from" if self.operation == "restore" else "made as a backup of"
        return f"{target} is being {doing} {self.source} by process {self.pid}"

    def outcome(self, target: Path, *, complete: bool) -> str:
        """Return how an interrupted operation ended, and the next step, as sentences."""
        begin = f"A {self.operation} of {self.source} to {target} was interrupted. "
        if complete and self.operation == "backup":
            return f"{begin}{target} is whole: it had been checked before it was given the name."
        if complete:
            before = f" The one before is now {self.aside}." if self.aside else ""
            return f"{begin}{target} is the restored database, whole.{before}"
        if not target.exists():
            return (
                f"{begin}There is no {target}. Run it again: {self.command(target)}; or, to begin "
                f"with an empty queue, remove {marker_path(target)}."
            )
        return (
            f"{begin}{target} is the database of before, unchanged. To restore, run it again: "
            f"{self.command(target)}."
        )

    def command(self, target: Path) -> str:
        """Return the command that repeats the operation."""
        if self.operation == "backup":
            return f"`durableq backup {target} --db {self.source}`"
        over = " --replace" if target.exists() else ""
        return f"`durableq restore {self.source} --db {target}{over}`"


def marker_path(target: Path) -> Path:
    """Return the path of the marker beside a target."""
    return Path(f"{target}.copying")


def partial_path(target: Path) -> Path:
    """Return the path of the copy until it has its final name."""
    return target.with_name(f".{target.name}.partial")


def real_path(path: Path) -> Path:
    """Return the file behind symbolic links: SQLite keeps its logs beside that one."""
    return Path(os.path.realpath(path))


def recover(path: Path, *, starts_copy: bool = False) -> None:
    """Clean up after an interrupted backup or restore, and log which database is at the path.

    A database must be there, unless the caller starts a backup or restore to this path.

    Raises:
        Busy: the backup or restore is still running.
        DatabaseUnusable: it was interrupted and there is no database, or the cleanup failed.
    """
    target = real_path(path)
    if not os.path.lexists(marker_path(target)):
        return
    with os_errors_translated(marker_path(target)):
        descriptor = _open_locked(target, os.O_RDWR)
        if descriptor is None:
            return
        try:
            marker = _last_line(descriptor)
            complete = _finish(target, marker)
            if marker is not None:
                outcome = marker.outcome(target, complete=complete)
                if not (starts_copy or target.exists()):
                    raise DatabaseUnusable(outcome)
                log.warning("%s", outcome)
            _remove_marker(target)
        finally:
            os.close(descriptor)


def read_marker(path: Path) -> tuple[Marker | None, bool] | None:
    """Read the marker beside a path without changing anything; None if there is none.

    Returns:
        The marker, or None if it cannot be read; and whether its process still runs.
    """
    target = real_path(path)
    try:
        descriptor = os.open(marker_path(target), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError:
        return None, False
    try:
        return _last_line(descriptor), not _try_lock(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


def is_complete(target: Path, marker: Marker) -> bool:
    """Return whether the file at the path is the copy."""
    try:
        if marker.inode == 0 or os.stat(target).st_ino != marker.inode:
            return False
    except FileNotFoundError:
        return False
    born_ns = birth_time_ns(target)
    return 0 in {born_ns, marker.born_ns} or born_ns == marker.born_ns


def birth_time_ns(path: Path) -> int:
    """Return the birth time of a file, which survives all changes; 0 where there is none."""
    born: Any = getattr(os.stat(path), "st_birthtime", None)  # not on Linux
    if born is not None:
        return int(born * 1_000_000_000)
    statx = getattr(ctypes.CDLL(None), "statx", None)
    answer = ctypes.create_string_buffer(_STATX_BYTES)
    if statx is None or statx(AT_FDCWD, os.fsencode(path), 0, _STATX_BTIME, answer) != 0:
        return 0
    mask, seconds, nanoseconds = _STATX_BIRTH.unpack_from(answer)
    return int(seconds * 1_000_000_000 + nanoseconds) if mask & _STATX_BTIME else 0


class CopyInProgress:
    """A running backup or restore: it holds the locked marker, and an empty file for the copy."""

    def __init__(self, target: Path, marker: Marker, descriptor: int) -> None:
        self.target = target
        self.partial = partial_path(target)
        self.marker = marker
        self._descriptor = descriptor
        self._write()
        _remove(self.partial, *SUFFIXES)
        created = os.open(self.partial, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            inode = os.fstat(created).st_ino
        finally:
            os.close(created)  # before SQLite opens it: there are no locks to drop
        self.marker = replace(self.marker, inode=inode, born_ns=birth_time_ns(self.partial))
        self._write()

    def set_aside_as(self, aside: str) -> None:
        """Write the new name of the replaced database to the marker, and the marker to the disk."""
        self.marker = replace(self.marker, aside=aside)
        self._write()

    def _write(self) -> None:
        line = json.dumps(asdict(self.marker)).encode() + b"\n"
        if os.write(self._descriptor, line) != len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(marker_path(self.target)))
        os.fsync(self._descriptor)
        fsync(self.target.parent)


@contextmanager
def copy_in_progress(target: Path, operation: str, source: Path) -> Iterator[CopyInProgress]:
    """Start a `backup` or `restore` to a real path; after the block only its outcome remains.

    Raises:
        Busy: another copy to this target is running.
        DatabaseUnusable, StorageFull: the marker or the copy cannot be written.
    """
    with os_errors_translated(target):
        descriptor = _open_locked(target, os.O_RDWR | os.O_CREAT | os.O_APPEND)
    assert descriptor is not None  # noqa: S101 - it was created
    copy: CopyInProgress | None = None
    marker = _last_line(descriptor)
    try:
        with os_errors_translated(target):
            if os.fstat(descriptor).st_size:
                _finish(target, marker)
            copy = CopyInProgress(target, Marker(operation, str(source), os.getpid()), descriptor)
        yield copy
    finally:
        try:
            _finish(target, marker if copy is None else copy.marker)
            _remove_marker(target)
        except (OSError, DurableQError) as error:
            text = "%s is not cleared up yet; the next command does it: %s"
            log.warning(text, target, describe(error))
        finally:
            os.close(descriptor)


def _remove_marker(target: Path) -> None:
    os.unlink(marker_path(target))
    fsync(target.parent)


def _finish(target: Path, marker: Marker | None) -> bool:
    """Bring the directory to the old state or the new one; return whether it is the new one.

    Each step can be repeated: after an interruption the next call continues.
    """
    complete = marker is not None and is_complete(target, marker)
    if marker is not None and marker.aside and not complete:
        _put_back(target, Path(marker.aside))
    _remove(partial_path(target), *SUFFIXES)
    fsync(target.parent)
    return complete


def _put_back(target: Path, aside: Path) -> None:
    """Undo setting aside: first the logs, then the second name of the database."""
    there, kept = target.exists(), aside.exists()
    if there != kept or (there and not os.path.samefile(aside, target)):
        return  # another file came to be there, to which these logs do not belong
    for suffix in LOG_SUFFIXES:
        before, now = f"{aside}{suffix}", f"{target}{suffix}"
        if not os.path.lexists(before):
            continue
        if not os.path.lexists(now):
            os.rename(before, now)
        elif os.path.samefile(before, now):
            os.unlink(before)
    fsync(target.parent)
    _remove(aside, "")


def _remove(path: Path, *suffixes: str) -> None:
    for suffix in suffixes:
        with suppress(FileNotFoundError):
            os.unlink(f"{path}{suffix}")


# ---- the marker's lock and content


def _open_locked(target: Path, flags: int) -> int | None:
    """Open and lock the marker; None if it was removed.

    Raises:
        Busy: the process that copies is running.
    """
    path = marker_path(target)
    while True:
        try:
            descriptor = os.open(path, flags | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            if flags & os.O_CREAT:
                raise
            return None
        try:
            if not _try_lock(descriptor, fcntl.LOCK_EX):
                marker = _last_line(descriptor)
                running = marker.progress(target) if marker else f"{target} is being written"
                raise Busy(f"{running}. Try again when that has ended.")
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                    return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # the other process removed it before we had the lock


def _try_lock(descriptor: int, kind: int) -> bool:
    """Return whether the lock was free; without locks it counts as free."""
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
    return True


def _last_line(descriptor: int) -> Marker | None:
    """Return the last whole line of a marker; None while there is none."""
    whole, _, _ = os.pread(descriptor, READ_BYTES, 0).rpartition(b"\n")
    for line in reversed(whole.splitlines()):
        with suppress(ValueError, TypeError):
            return Marker(**json.loads(line))
    return None


# ---- the disk


@contextmanager
def os_errors_translated(path: Path) -> Iterator[None]:
    """Translate an OSError of the block; `path` is named if the error names no file.

    Raises:
        StorageFull: there is no space.
        DatabaseUnusable: any other error of the file system.
    """
    try:
        yield
    except OSError as error:
        where = error.filename or path
        if error.errno in NO_SPACE:
            raise StorageFull(
                f"There is no room for {where} ({error.strerror}). Nothing was put in place; make "
                "room, and run it again."
            ) from error
        raise DatabaseUnusable(
            f"{where} cannot be used: {error.strerror or error}. Nothing was put in place. Check "
            "the path, its permissions and the disk."
        ) from error


def fsync(path: Path) -> None:
    """Write a directory, or a file that no connection has open, to the disk.

    An OSError names the path.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        os.close(descriptor)
