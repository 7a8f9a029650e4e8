"""The database files that this process has open, their connections, and a guard around them.

POSIX locks belong to a process and a file, not to a descriptor. When this process closes any other
descriptor of a database or of its -shm file (a plain `open()`, another SQLite library), it loses
the locks of all its connections: other processes write in the middle of its transactions, and the
last to close deletes the log that the others go on writing to. An audit hook refuses such an
opening while a connection is open. It cannot see an ATTACH of another library, nor C code.
"""

from __future__ import annotations

import fcntl
import gc
import io
import os
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from durableq.engines.sqlite import locks
from durableq.engines.sqlite.driver import driver
from durableq.engines.sqlite.errors import code_of, read_only
from durableq.engines.sqlite.location import Location
from durableq.engines.sqlite.ticket import DESCRIPTORS, Ticket
from durableq.model.errors import Busy, Conflict, DatabaseReplaced, DatabaseUnusable, Unsupported

#: Device and inode of a file.
Identity = tuple[int, int]
#: A folder's last change must be older than this: then the next one surely has another time. It is
#: ten ticks of the slowest kernel's clock.
SETTLED_NS: Final = 100_000_000
#: The files are compared this often in an unchanged folder too: a mount over a file changes none.
LOOK_EVERY_SECONDS: Final = 1.0

_WRITES: Final = os.O_WRONLY | os.O_RDWR | os.O_TRUNC
_NEW_ONLY: Final = os.O_CREAT | os.O_EXCL
_PROBE: Final = "file:durableq-probe?mode=memory"


@dataclass(slots=True)
class Connection:
    """An open connection of this process, and the thread that uses it."""

    raw: Any
    thread: threading.Thread = field(default_factory=threading.current_thread)

    @property
    def is_inside(self) -> bool:
        """Whether a transaction is open on it."""
        try:
            return bool(self.raw.in_transaction)
        except driver.Error:  # a user has closed it
            return False


class OpenFile:
    """A database file with the connections that this process has open on it.

    The log and the index keep their identities as long as one of the connections is open:
    SQLite removes them only with the last connection of all processes.

    Args:
        location: the file.
    """

    def __init__(self, location: Location) -> None:
        self._location = location
        self.path = location.path
        self.database: Identity | None = None
        # The path as it was given: a link that leads to another file by now is noticed.
        self._paths = str(location.named), f"{location.path}-wal", f"{location.path}-shm"
        self._log: Identity | None = None
        self._index: Identity | None = None
        #: Path, device and inode of those that were there.
        self._known: list[tuple[str, int, int]] = []
        # Behind a link, names in other folders count; a network's answers may be old.
        is_here = location.named == location.path and not location.allow_network_filesystem
        self._folder = str(location.path.parent) if is_here else ""
        #: The last change of the folder in which the files were compared, and its identity.
        self._settled: tuple[int, Identity] = 0, (0, 0)
        #: When they are compared again, even if the folder has not changed.
        self._look_at = 0.0
        self.ticket = Ticket(location.path)
        self._connections: dict[int, Connection] = {}
        self._open_before: set[int] = set()

    def check_before_open(self) -> None:
        """Refuse to open a connection that would not share its files with the others.

        Raises:
            DatabaseReplaced: the file, its log or its index is not the one that was opened.
            DatabaseUnusable: another process uses the file, and its log was removed.
            Unsupported: this process has the file open in another way.
        """
        if self._connections:
            self.check()
            return
        self._open_before = self._descriptors()
        if self._open_before and (owner := _other_owner(self._open_before, self.path)):
            raise Unsupported(
                f"{self.path} is open in this process already ({owner}). Closing that would "
                "drop the locks of SQLite, so that answered work is lost. Close it first, or "
                f"use {driver.__name__}, the same library."
            )
        self._check_database()
        if _identity(f"{self.path}-wal") or not _identity(f"{self.path}-shm"):
            return
        others = sorted(locks.users(self.path) - {os.getpid()})
        # SQLite creates the log before its index: one that came meanwhile was not removed.
        if others and _identity(f"{self.path}-wal") is None:
            raise DatabaseUnusable(
                f"The write-ahead log of {self.path} was removed while "
                f"{locks.describe(others[0])} uses it: another log would lose commits. Stop "
                "every process that uses the file, then start again."
            )

    def check(self) -> None:
        """Compare the file, its log and its index with the ones that were opened.

        A name cannot point to another file unless its folder changes. So while the folder is
        unchanged, the three are not looked at: 10 microseconds less in each commit.

        Raises:
            DatabaseReplaced: one of them was removed or replaced.
        """
        seen = 0, (0, 0)
        try:
            folder = os.stat(self._folder)
            seen = folder.st_ctime_ns, (folder.st_dev, folder.st_ino)
        except OSError:
            pass
        if seen == self._settled and time.monotonic() < self._look_at:
            return
        if self._log is None or self._index is None:  # SQLite makes them at the first use
            self._check_database()
            self.remember()
            return
        for path, device, inode in self._known:
            try:
                status = os.stat(path)
            except OSError:
                status = None
            if status is None or status.st_ino != inode or status.st_dev != device:
                raise replaced(self.path, "" if path == self._paths[0] else path)
        # The kernel's clock for files advances in ticks, so two changes in a row may have the same
        # time. A time in whole seconds may come from a file system with longer ticks.
        if seen[0] % 1_000_000_000 and seen[0] + SETTLED_NS < time.time_ns():
            self._settled = seen
            self._look_at = time.monotonic() + LOOK_EVERY_SECONDS

    def _check_database(self) -> None:
        if self.database is not None and self._location.identity() != self.database:
            raise replaced(self.path)

    def log_is_missing(self) -> bool:
        """Return whether the log was removed, and no other stands in its place."""
        return self._log is not None and _identity(f"{self.path}-wal") is None

    def remember(self) -> None:
        """Remember the identities of the files, and check them from now on."""
        self.database = self.database or self._location.identity()
        self._log = self._log or _identity(f"{self.path}-wal")
        self._index = self._index or _identity(f"{self.path}-shm")
        known = zip(self._paths, (self.database, self._log, self._index), strict=True)
        self._known = [(path, *identity) for path, identity in known if identity is not None]

    def add(self, raw: Any) -> None:
        """Register a connection; from now on the file is guarded.

        Raises:
            DatabaseUnusable: SQLite could open a file only for reading, and would leave it so.
        """
        self.remember()
        if not (self._connections or self._location.is_read_only):
            new = self._descriptors() - self._open_before
            reads = [fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY for fd in new]
            if any(reads) and _cannot_write(raw):
                raise read_only(self.path)
        self._connections[id(raw)] = Connection(raw)
        _guard(self)
        _count_connections()

    def remove(self, raw: Any) -> None:
        """Unregister a connection that is about to be closed."""
        self._connections.pop(id(raw), None)
        if not self._connections:
            self.forget()
        _count_connections()

    def forget(self) -> None:
        """Forget the connections, and the identities of log and index, which may change now."""
        global _open_files  # noqa: PLW0603 - one guard for the process
        self._connections.clear()
        self.ticket.close()  # of this log
        self._log = self._index = None
        with _changing:
            _open_files = tuple(file for file in _open_files if file is not self)

    def use(self, raw: Any) -> None:
        """Register that this thread begins a transaction on a connection.

        Args:
            raw: the connection; None: another thread writes for this one.

        Raises:
            Conflict: this thread has another write transaction open on the same file.
        """
        this = threading.current_thread()
        for other in self._all_connections():
            if other.raw is raw:
                other.thread = this
            elif other.thread is this and other.is_inside:
                raise Conflict(
                    f"This thread has an open write transaction on {self.path}: inside it pass "
                    "connection=… to send, or use the tx of message.transaction(); make other "
                    "calls before or after it. Nothing was stored."
                )

    def _all_connections(self) -> list[Connection]:
        """Return this process's connections to the database, through any object."""
        files = [file for file in _open_files if file.database == self.database]
        return [each for file in files for each in tuple(file._connections.values())]

    def part(self, identity: Identity) -> str:
        """Return which of the files this is: `database`, `log`, `index`; empty for none."""
        parts = {self._log: "log", self._index: "index", self.database: "database"}
        return parts.get(identity, "")

    def _descriptors(self) -> set[int]:
        """Return SQLite's descriptors of the file, its log and its index, where listed."""
        ends = ("", "-wal", "-shm")
        files = {_identity(f"{self.path}{end}") for end in ends} - {None}
        try:
            listed = {int(name) for name in os.listdir("/proc/self/fd")} - DESCRIPTORS
        except OSError:
            return set()
        return {fd for fd in listed if _identity(f"/proc/self/fd/{fd}") in files}

    def check_deadlock(self) -> None:
        """Refuse to wait for a lock that only this thread could release.

        Raises:
            Conflict: this process holds the lock, and has no other thread.
        """
        if threading.active_count() == 1 and os.getpid() in locks.writers(self.path):
            raise Conflict(
                f"This process has an open write transaction on {self.path}, on another "
                "connection, and no other thread to end it. End it first, or pass that connection "
                "to send: connection=…. Nothing was stored."
            )

    def busy(self) -> Busy:
        """Return the error after a whole wait; it names the holder of the lock, if known."""
        writers = locks.writers(self.path)
        if os.getpid() in writers:
            this = threading.current_thread()
            inside = [each for each in self._all_connections() if each.is_inside]
            names = sorted(each.thread.name for each in inside if each.thread is not this)
            threads = ", ".join(names) or "a connection that durableq did not open"
            holder = f"this process itself has an open write transaction ({threads})"
        elif writers:
            holder = f"{locks.describe(min(writers))} is writing"
        else:
            holder = "other processes are writing"
        return Busy(f"{self.path} is busy: {holder}. Nothing was stored; try again.")


def create(path: Path) -> None:
    """Create an empty database file for its owner alone, unless there is one.

    SQLite would create it with the umask's mode; the log and its index get the mode of the file.
    """
    with _creating:  # no thread of this process has it open when the descriptor is closed
        try:
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError:  # it is there; or it cannot be created, and SQLite says so
            return
        try:
            with suppress(OSError):  # a file system without modes; doctor reports it
                os.fchmod(descriptor, 0o600)  # in spite of the umask
        finally:
            os.close(descriptor)


def _cannot_write(raw: Any) -> bool:
    """Return whether a connection cannot write.

    A descriptor for reading may also be that of doctor, which has the file open in another thread.
    """
    raw.execute("BEGIN")
    try:
        raw.execute("PRAGMA user_version = 1")  # BEGIN IMMEDIATE does not tell
    except driver.Error as error:  # of a busy file, if it can write
        return code_of(error) == driver.SQLITE_READONLY
    finally:
        if raw.in_transaction:
            raw.execute("ROLLBACK")
    return False


def replaced(path: object, part: str = "") -> DatabaseReplaced:
    """Return the refusal for a file that is no longer the one that was opened."""
    if not part:
        return DatabaseReplaced(
            f"{path} was deleted or replaced while it was open. Nothing was written. Restart this "
            "process to use the file that is there now."
        )
    return DatabaseReplaced(
        f"{part} was deleted or replaced while {path} was open: commits would go into nothing. "
        "Nothing was written by this call. Stop every process that uses the file, then start again."
    )


def _identity(path: str) -> Identity | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


# ---- other openings in this process


def _other_owner(descriptors: set[int], path: Path) -> str:
    """Describe the object, not the driver's, that holds a descriptor; empty if none is found.

    It finds neither a connection of the standard library in another thread, which does not answer,
    nor the descriptor of a bare `os.open`, which has no object.
    """
    library: Any = getattr(sys.modules.get("sqlite3"), "Connection", driver.Connection)
    for thing in gc.get_objects():
        kind = type(thing)
        if issubclass(kind, io.FileIO):
            if not thing.closed and thing.fileno() in descriptors:
                return f"{thing.name!r}, opened as a plain file"
        elif library is not driver.Connection and issubclass(kind, library) and _is_on(thing, path):
            return "a connection of the standard library's sqlite3"
    return ""


def _is_on(connection: Any, path: Path) -> bool:
    try:
        listed = connection.cursor().execute("PRAGMA database_list").fetchall()
        return any(file and os.path.samefile(file, path) for _, _, file, *_ in map(tuple, listed))
    except Exception:  # noqa: BLE001 - closed, another thread's, or with a row factory of its own
        return False


# ---- the guard

_open_files: tuple[OpenFile, ...] = ()
#: Whether this process has more than one connection open: only then can one wait for another.
are_several_open = False
_changing = threading.Lock()
_creating = threading.Lock()
_is_installed = False
#: Whether the driver raises the audit event too: then another library looks the same.
_driver_is_audited = False


def _guard(file: OpenFile) -> None:
    global _open_files, _is_installed  # noqa: PLW0603 - one guard for the process
    with _changing:
        if not _is_installed:
            _is_installed = True
            sys.addaudithook(_audit)
            driver.connect(_PROBE, uri=True).close()
            os.register_at_fork(after_in_child=_after_fork)
        if file not in _open_files:
            _open_files = (*_open_files, file)


def _count_connections() -> None:
    global are_several_open  # noqa: PLW0603 - one guard for the process
    with _changing:
        are_several_open = sum(len(file._connections) for file in _open_files) > 1


def _after_fork() -> None:
    """Forget the parent's connections: this process has none of its locks."""
    global _changing, _creating  # another thread may have held them
    _changing, _creating = threading.Lock(), threading.Lock()
    for file in _open_files:
        file.forget()
    _count_connections()


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    """Audit hook, called for every opening of a file: refuse those that drop our locks."""
    global _driver_is_audited  # noqa: PLW0603 - found out once
    if event == "open":
        if _open_files:
            _check_opening(arguments[0], arguments[2])
    elif event == "sqlite3.connect":
        if arguments[0] == _PROBE:
            _driver_is_audited = True
        elif _open_files and not _driver_is_audited:
            _check_connecting(arguments[0])


def _check_opening(path: Any, flags: Any) -> None:
    flags = flags if isinstance(flags, int) else 0
    if flags & _NEW_ONLY == _NEW_ONLY:  # it fails where there is a file
        return
    file, part = _find(path)
    if file is None or (part == "log" and not flags & _WRITES):
        return
    raise Unsupported(
        f"{os.fsdecode(path)} was not opened: this process uses {file.path} as a database, and "
        "closing another descriptor of it drops SQLite's locks, so that other processes undo its "
        "commits. Read it through dq.engine, copy it with `durableq backup`, or open it in "
        "another process."
    )


def _check_connecting(database: Any) -> None:
    if isinstance(database, str) and database.startswith("file:"):
        database = unquote(urlsplit(database).path)
    file, _ = _find(database)
    if file is None:
        return
    raise Unsupported(
        f"{os.fsdecode(database)} was not opened: this process uses {file.path} through "
        f"{driver.__name__.partition('.')[0]}, and two SQLite libraries on one file in one process "
        "drop each other's locks, so that answered work is lost. Use dq.engine, "
        f"message.transaction(), or the same library, {driver.__name__}."
    )


def _find(path: Any) -> tuple[OpenFile | None, str]:
    """Return the open database that a path belongs to, and as which part of it."""
    if isinstance(path, int):
        return None, ""
    try:
        status = os.stat(path)
    except (OSError, TypeError, ValueError):
        return None, ""
    identity = status.st_dev, status.st_ino
    for file in _open_files:
        if part := file.part(identity):
            return file, part
    return None, ""
