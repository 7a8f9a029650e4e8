"""The note beside the target of a backup or restore, and clearing up after an interrupted one.

`FILE.copying` says what is being made and from what. Its maker holds a lock on it (flock), which
the kernel drops when the process ends, however it ends. The copy is made at `.FILE.partial`.
One step gives it the name: before that step nothing has happened, after it everything has. So
recovery asks one question, whether the file at the path is the copy (docs/decisions/0014).
"""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

from durableq.model.errors import Busy, DatabaseUnusable, DurableQError, StorageFull

#: Files beside a database that SQLite applies to any file of that name.
LOGS: Final = ("-wal", "-journal")
ENDS: Final = ("", *LOGS, "-shm")
READ_BYTES: Final = 1 << 16
FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_NO_LOCKS: Final = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL})

log = logging.getLogger("durableq.copies")


@dataclass(frozen=True, slots=True)
class Note:
    """The content of FILE.copying: one JSON line a version, of which the last whole one counts."""

    #: `backup` or `restore`.
    verb: str
    source: str
    pid: int
    #: Of the copy; 0 while there is none.
    inode: int = 0
    #: New name of the replaced database and its log; empty if nothing is replaced.
    aside: str = ""

    def doing(self, target: Path) -> str:
        """Return what the living maker does, as a sentence without its end."""
        doing = "restored from" if self.verb == "restore" else "made as a backup of"
        return f"{target} is being {doing} {self.source} by process {self.pid}"

    def outcome(self, target: Path, *, done: bool) -> str:
        """Return how an interrupted operation ended, and the next step, as sentences."""
        begin = f"A {self.verb} of {self.source} to {target} was interrupted. "
        if done and self.verb == "backup":
            return f"{begin}{target} is whole: it had been checked before it was given the name."
        if done:
            before = f" The one before is now {self.aside}." if self.aside else ""
            return f"{begin}{target} is the restored database, whole.{before}"
        if not target.exists():
            return (
                f"{begin}There is no {target}. Run it again: {self.command(target)}; or, to begin "
                f"with an empty queue, remove {note_of(target)}."
            )
        return (
            f"{begin}{target} is the database of before, unchanged. To restore, run it again: "
            f"{self.command(target)}."
        )

    def command(self, target: Path) -> str:
        """Return the command that does it once more."""
        if self.verb == "backup":
            return f"`durableq backup {target} --db {self.source}`"
        over = " --replace" if target.exists() else ""
        return f"`durableq restore {self.source} --db {target}{over}`"


def note_of(target: Path) -> Path:
    """Return the path of the note beside a target."""
    return Path(f"{target}.copying")


def partial_of(target: Path) -> Path:
    """Return the path of the copy until it has its name."""
    return target.with_name(f".{target.name}.partial")


def resolved(path: Path) -> Path:
    """Return the file behind symbolic links: SQLite keeps its logs beside that one."""
    return Path(os.path.realpath(path))


def settle(path: Path, *, begins_anew: bool = False) -> None:
    """Clear up after an interrupted backup or restore, and log which database is at the path.

    Args:
        path: of the database that is about to be opened.
        begins_anew: a backup or restore of this path begins: no database need be there.

    Raises:
        Busy: the backup or restore is still running.
        DatabaseUnusable: it was interrupted and there is no database, or it cannot be cleared up.
    """
    target = resolved(path)
    if not os.path.lexists(note_of(target)):
        return
    with worded(note_of(target)):
        descriptor = _locked(target, os.O_RDWR)
        if descriptor is None:
            return
        try:
            _clear(target, descriptor, begins_anew=begins_anew)
        finally:
            os.close(descriptor)


def found(path: Path) -> tuple[Note | None, bool] | None:
    """Read the note beside a path without changing anything; None if there is none.

    Returns:
        The note, if it can be read, and whether its maker still runs.
    """
    target = resolved(path)
    try:
        descriptor = os.open(note_of(target), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError:
        return None, False
    try:
        return _read(descriptor), not _lock(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


def is_done(target: Path, note: Note) -> bool:
    """Return whether the file at the path is the copy."""
    with suppress(FileNotFoundError):
        return note.inode != 0 and os.stat(target).st_ino == note.inode
    return False


class Making:
    """A backup or restore that runs: it holds the note, and an empty file for the copy.

    Args:
        target: the path that the copy is to have, without symbolic links.
        note: its verb, source and process.
        descriptor: of the locked note.
    """

    def __init__(self, target: Path, note: Note, descriptor: int) -> None:
        self.target = target
        self.partial = partial_of(target)
        self.note = note
        self._descriptor = descriptor
        self._write()
        _remove(self.partial, *ENDS)
        created = os.open(self.partial, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            inode = os.fstat(created).st_ino
        finally:
            os.close(created)  # before SQLite opens it: there are no locks to drop
        self.remember(inode=inode)

    def remember(self, *, inode: int | None = None, aside: str | None = None) -> None:
        """Write to the disk how the copy can be recognised, or where the replaced file will be."""
        inode = self.note.inode if inode is None else inode
        aside = self.note.aside if aside is None else aside
        self.note = replace(self.note, inode=inode, aside=aside)
        self._write()

    def _write(self) -> None:
        line = json.dumps(asdict(self.note)).encode() + b"\n"
        if os.write(self._descriptor, line) != len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(note_of(self.target)))
        os.fsync(self._descriptor)
        sync(self.target.parent)


@contextmanager
def making(target: Path, verb: str, source: Path) -> Iterator[Making]:
    """Begin a backup or restore; at the end of the block nothing but its outcome stays.

    Args:
        target: the path that the copy is to have, without symbolic links.
        verb: `backup` or `restore`.
        source: the file that is copied.

    Raises:
        Busy: another one to this target is running.
        DatabaseUnusable, StorageFull: the note or the copy cannot be written.
    """
    with worded(target):
        descriptor = _locked(target, os.O_RDWR | os.O_CREAT | os.O_APPEND)
    assert descriptor is not None  # noqa: S101 - it was created
    made: Making | None = None
    note = _read(descriptor)
    try:
        with worded(target):
            if os.fstat(descriptor).st_size:
                _finish(target, note)
            made = Making(target, Note(verb, str(source), os.getpid()), descriptor)
        yield made
    finally:
        _end(target, note if made is None else made.note, descriptor)


def _end(target: Path, note: Note | None, descriptor: int) -> None:
    """Leave one of the two states; if that fails, the next command will."""
    try:
        _finish(target, note)
        os.unlink(note_of(target))
        sync(target.parent)
    except (OSError, DurableQError) as error:
        log.warning("%s is not cleared up yet; the next command does it: %s", target, error)
    finally:
        os.close(descriptor)


def _clear(target: Path, descriptor: int, *, begins_anew: bool) -> None:
    note = _read(descriptor)
    done = _finish(target, note)
    if note is not None:
        outcome = note.outcome(target, done=done)
        if not (begins_anew or target.exists()):
            raise DatabaseUnusable(outcome)
        log.warning("%s", outcome)
    os.unlink(note_of(target))
    sync(target.parent)


def _finish(target: Path, note: Note | None) -> bool:
    """Bring the directory to one of its two states, and return whether it is that of success.

    Each step can be repeated: whichever of them dies, the next call goes on from there.
    """
    done = note is not None and is_done(target, note)
    if note is not None and note.aside and not done:
        _put_back(target, Path(note.aside))
    _remove(partial_of(target), *ENDS)
    sync(target.parent)
    return done


def _put_back(target: Path, aside: Path) -> None:
    """Undo setting aside: first the logs, then the second name of the database."""
    there, kept = target.exists(), aside.exists()
    if there != kept or (there and not os.path.samefile(aside, target)):
        return  # another file came to be there, to which these logs do not belong
    for end in LOGS:
        before, now = f"{aside}{end}", f"{target}{end}"
        if not os.path.lexists(before):
            continue
        if not os.path.lexists(now):
            os.rename(before, now)
        elif os.path.samefile(before, now):
            os.unlink(before)
    sync(target.parent)
    _remove(aside, "")


def _remove(path: Path, *ends: str) -> None:
    for end in ends:
        with suppress(FileNotFoundError):
            os.unlink(f"{path}{end}")


# ---- the note's lock and content


def _locked(target: Path, flags: int) -> int | None:
    """Open and lock the note; None if it has gone.

    Raises:
        Busy: its maker runs.
    """
    path = note_of(target)
    while True:
        try:
            descriptor = os.open(path, flags | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            if flags & os.O_CREAT:
                raise
            return None
        try:
            if not _lock(descriptor, fcntl.LOCK_EX):
                note = _read(descriptor)
                running = f"{target} is being written" if note is None else note.doing(target)
                raise Busy(f"{running}. Try again when that has ended.")
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                    return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # its maker removed it before we had the lock


def _lock(descriptor: int, kind: int) -> bool:
    """Return whether the lock was free. A file system without locks has one maker at a time."""
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
    return True


def _read(descriptor: int) -> Note | None:
    """Return the last whole line; None while there is none."""
    whole, _, _ = os.pread(descriptor, READ_BYTES, 0).rpartition(b"\n")
    for line in reversed(whole.splitlines()):
        with suppress(ValueError, TypeError):
            return Note(**json.loads(line))
    return None


# ---- the disk


@contextmanager
def worded(path: Path) -> Iterator[None]:
    """Raise an error of the file system as a sentence.

    Args:
        path: named if the error itself names no file.
    """
    try:
        yield
    except OSError as error:
        where = error.filename or path
        if error.errno in FULL:
            raise StorageFull(
                f"There is no room for {where} ({error.strerror}). Nothing was put in place; make "
                "room, and run it again."
            ) from error
        raise DatabaseUnusable(
            f"{where} cannot be used: {error.strerror or error}. Nothing was put in place. Check "
            "the path, its permissions and the disk."
        ) from error


def sync(path: Path) -> None:
    """Bring a directory, or a file that no connection has open, to the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        os.close(descriptor)
