"""Doctor checks that do not open the file: library, path, file system, locks."""

from __future__ import annotations

import glob
import os
import stat
import time
from collections.abc import Iterator
from typing import Final

from durableq.engines.sqlite import copy_marker, locks
from durableq.engines.sqlite.checkpoints import IS_GUARDED
from durableq.engines.sqlite.database import JOURNAL_SIZE_LIMIT
from durableq.engines.sqlite.driver import check_library, driver
from durableq.engines.sqlite.location import Location, is_network, log_bytes
from durableq.model.errors import UnsupportedSQLite
from durableq.model.health import Finding, Level

LOW_SPACE_BYTES: Final = 256 << 20
NO_SPACE_BYTES: Final = 4 << 20
LARGE_LOG_BYTES: Final = 2 * JOURNAL_SIZE_LIMIT
MIB: Final = 1 << 20
#: Looks at the locks: together a quarter of a second.
SAMPLES: Final = 6
SAMPLE_SECONDS: Final = 0.05


def check_sqlite() -> Finding:
    """Judge the version of the SQLite library."""
    version, module = driver.sqlite_version, driver.__name__.partition(".")[0]
    try:
        check_library(driver.sqlite_version_info)
    except UnsupportedSQLite as error:
        what, _, advice = str(error).partition(". ")
        return Finding("sqlite", Level.BAD, what, advice)
    if not IS_GUARDED:
        what = f"SQLite {version} ({module}): not among those with the WAL-reset bug"
        return Finding("sqlite", Level.OK, what)
    return Finding(
        "sqlite",
        Level.OK,
        f"SQLite {version} ({module}) has the WAL-reset bug: checkpoints are guarded",
        "Open the file with nothing but durableq and dq.engine while workers run: another "
        "program's automatic checkpoints could damage it. SQLite 3.51.3 or newer needs no guard.",
    )


def check_path(location: Location) -> Finding | None:
    """Return a finding if the path is no file; None if it is one."""
    path = location.path
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        link = f", to which {location.named} leads" if path != location.named else ""
        what = f"there is no file {path}{link}"
        return _bad("file", what, f"Create it: durableq init --db {path}.")
    except OSError as error:
        return _bad("file", f"{path}: {error.strerror}", "Check the path and its permissions.")
    if stat.S_ISDIR(mode):
        return _bad("file", f"{path} is a directory", f"Name a file: {path}/durableq.db.")
    if not stat.S_ISREG(mode):
        return _bad("file", f"{path} is not a regular file", "Name a database file.")
    return None


def check_file_system(location: Location) -> Finding:
    """Judge the file system of the file."""
    name, kind = "file_system", location.file_system()
    if location.is_mounted_alone():
        return _bad(
            name,
            f"{location.path} is mounted as a single file, apart from its write-ahead log",
            "Mount its directory instead: commits would be lost.",
        )
    if is_network(kind) and not location.allow_network_filesystem:
        advice = "Move it to a local disk: locks between machines cannot be trusted."
        return _bad(name, f"{location.path} is on {kind}, a network file system", advice)
    if is_network(kind):
        advice = "It was allowed in the URL. Let only one machine use it."
        return Finding(name, Level.WARN, f"on {kind}, a network file system", advice)
    return Finding(name, Level.OK, f"on {kind}" if kind else "not told by this system")


def check_links(location: Location) -> Finding:
    """Judge hard links and symbolic links to the file."""
    number = location.path.stat().st_nlink
    if number > 1:
        return _bad(
            "links",
            f"{location.path} has {number} hard links",
            f"Keep one name; find them: find DIRECTORY -samefile {location.path}. Through another "
            "name another process uses another write-ahead log and loses commits.",
        )
    if location.path != location.named:
        what = f"a symbolic link leads to {location.path}, which has one name"
        return Finding("links", Level.OK, what)
    return Finding("links", Level.OK, "one name")


def check_unfinished_copy(location: Location) -> Iterator[Finding]:
    """Report a backup or restore to this path that runs or was interrupted, and its leftovers."""
    name, target = "unfinished", copy_marker.real_path(location.path)
    seen = copy_marker.read_marker(target)
    if seen is not None:
        marker, runs = seen
        doing = f"a backup or restore to {target}" if marker is None else marker.progress(target)
        if runs:
            advice = "Wait until it has ended: until then the file cannot be opened."
            yield Finding(name, Level.WARN, doing, advice)
        elif marker is None:
            advice = "The next command that opens the file clears up."
            yield Finding(name, Level.WARN, f"{doing} was interrupted at its start", advice)
        else:
            complete = copy_marker.is_complete(target, marker)
            what, _, advice = marker.outcome(target, complete=complete).partition(". ")
            yield Finding(name, Level.WARN, what, advice)
    strays = sorted(target.parent.glob(f".{glob.escape(target.name)}.*partial"))
    if strays and seen is None:
        files = " ".join(map(str, strays))
        advice = f"Unless a backup or restore of an older durableq runs: rm {files}"
        yield Finding(name, Level.WARN, f"left by a backup or restore: {files}", advice)


def check_permissions(location: Location) -> Finding:
    """Judge which users may read and write the file."""
    name, path = "permissions", location.path
    mode = path.stat().st_mode
    if not mode & 0o222:
        advice = f"A queue's readers write too: chmod u+w {path}."
        return _bad(name, f"{path} is read-only", advice)
    if not os.access(path, os.R_OK | os.W_OK):
        advice = "Run this as its owner, or let this user read and write it and its directory."
        return _bad(name, f"{path} is not for this user to read and write", advice)
    if not os.access(path.parent, os.W_OK):
        advice = "SQLite keeps its write-ahead log beside the file: make the directory writable."
        return _bad(name, f"the directory {path.parent} is read-only", advice)
    if mode & stat.S_IWOTH:
        advice = f"Whoever writes it can forge any message: chmod o-w {path}."
        return Finding(name, Level.WARN, "everybody on this machine may write it", advice)
    return Finding(name, Level.OK, f"mode {stat.S_IMODE(mode):o}")


def check_disk(location: Location) -> Finding:
    """Judge the free space on the disk."""
    status = os.statvfs(location.path.parent)
    free = status.f_bavail * status.f_frsize
    level = Level.OK if free >= LOW_SPACE_BYTES else Level.WARN
    if free < NO_SPACE_BYTES:
        level = Level.BAD
    advice = "" if level is Level.OK else "Make room: settling a message needs some too."
    return Finding("disk", level, f"{_mib(free)} MiB free", advice)


def check_use(location: Location) -> Iterator[Finding]:
    """Judge the size of the log, and which processes hold it back or hold the write lock."""
    size = log_bytes(location)
    if not locks.are_listed():
        yield _log(size, set())
        for name in ("oldest_reader", "write_lock"):
            yield Finding(name, Level.OK, "not told by this system")
        return
    readers, writers = _steady_users(location)
    yield _log(size, readers)
    yield _readers(readers, size)
    yield _writers(writers)


def _steady_users(location: Location) -> tuple[set[int], set[int]]:
    """Return the processes that read, and those that hold the write lock, in each of the samples.

    A process between two short transactions is in some of them only.
    """
    readers, writers = locks.readers(location.path), locks.writers(location.path)
    for _ in range(SAMPLES - 1):
        time.sleep(SAMPLE_SECONDS)
        readers &= locks.readers(location.path)
        writers &= locks.writers(location.path)
    return readers, writers


def _log(size: int, readers: set[int]) -> Finding:
    what = f"the write-ahead log has {_mib(size)} MiB"
    if size <= LARGE_LOG_BYTES:
        return Finding("wal", Level.OK, what)
    advice = (
        "A reader holds it back: see oldest_reader."
        if readers
        else "It was held back by a long reader, and shrinks with the next commits."
    )
    return Finding("wal", Level.WARN, what, advice)


def _readers(pids: set[int], log_size: int) -> Finding:
    name = "oldest_reader"
    if not pids:
        return Finding(name, Level.OK, "no process reads for long")
    what = f"{_named(pids)} read all the while"
    if log_size <= LARGE_LOG_BYTES:
        return Finding(name, Level.OK, what)
    advice = "Let it end its transaction: the log grows until then."
    return Finding(name, Level.WARN, what, advice)


def _writers(pids: set[int]) -> Finding:
    name = "write_lock"
    if not pids:
        return Finding(name, Level.OK, "no process holds it for long")
    stopped = sorted(filter(locks.is_stopped, pids))
    if stopped:
        return _bad(
            name,
            f"{locks.describe(stopped[0])} holds it and is stopped",
            f"Nobody can write: kill -CONT {stopped[0]}, or kill -KILL {stopped[0]}; its "
            "transaction is then undone.",
        )
    advice = "If it goes on: a transaction of an application is too long; others wait for it."
    return Finding(name, Level.WARN, f"{_named(pids)} held it all the while", advice)


def _named(pids: set[int]) -> str:
    return ", ".join(map(locks.describe, sorted(pids)))


def _mib(size: int) -> str:
    return f"{size / MIB:.1f}" if size < 100 * MIB else f"{size // MIB:,}".replace(",", " ")


def _bad(name: str, what: str, advice: str) -> Finding:
    return Finding(name, Level.BAD, what, advice)
