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
from durableq.model.health import Finding, bad, ok, warn

LOW_SPACE_BYTES: Final = 256 << 20
NO_SPACE_BYTES: Final = 4 << 20
LARGE_LOG_BYTES: Final = 2 * JOURNAL_SIZE_LIMIT
MIB: Final = 1 << 20
#: Looks at the locks while a process holds some: together a quarter of a second.
SAMPLES: Final = 6
SAMPLE_SECONDS: Final = 0.05


def check_sqlite() -> Finding:
    """Judge the version of the SQLite library."""
    version, module = driver.sqlite_version, driver.__name__.partition(".")[0]
    try:
        check_library(driver.sqlite_version_info)
    except UnsupportedSQLite as error:
        what, _, advice = str(error).partition(". ")
        return bad("sqlite", what, advice)
    if not IS_GUARDED:
        return ok("sqlite", f"SQLite {version} ({module}): not among those with the WAL-reset bug")
    return ok(
        "sqlite",
        f"SQLite {version} ({module}) has the WAL-reset bug: checkpoints are guarded",
        "Open the file with nothing but durableq and dq.engine while workers run: another "
        "program's automatic checkpoints could damage it. SQLite 3.51.3 or newer needs no guard.",
    )


def _problem(location: Location, name: str) -> Finding | None:
    return next((found for found in location.problems() if found.name == name), None)


def check_path(location: Location) -> Finding | None:
    """Return a finding if the path is no file; None if it is one."""
    path = location.path
    if (problem := _problem(location, "file")) or path.exists():
        return problem
    link = f", to which {location.named} leads" if path != location.named else ""
    return bad("file", f"there is no file {path}{link}", f"Create it: durableq init --db {path}.")


def check_file_system(location: Location) -> Finding:
    """Judge the file system of the file."""
    kind = location.file_system()
    if problem := _problem(location, "file_system"):
        return problem
    if is_network(kind):
        advice = "It was allowed in the URL. Let only one machine use it."
        return warn("file_system", f"on {kind}, a network file system", advice)
    return ok("file_system", f"on {kind}" if kind else "not told by this system")


def check_links(location: Location) -> Finding:
    """Judge hard links and symbolic links to the file."""
    if problem := _problem(location, "links"):
        return problem
    if location.path != location.named:
        return ok("links", f"a symbolic link leads to {location.path}, which has one name")
    return ok("links", "one name")


def check_unfinished_copy(location: Location) -> Iterator[Finding]:
    """Report a backup or restore to this path that runs or was interrupted, and its leftovers."""
    name, target = "unfinished", copy_marker.real_path(location.path)
    seen = copy_marker.read_marker(target)
    if seen is not None:
        marker, runs = seen
        doing = f"a backup or restore to {target}" if marker is None else marker.progress(target)
        if runs:
            advice = "Wait until it has ended: until then the file cannot be opened."
            yield warn(name, doing, advice)
        elif marker is None:
            advice = "The next command that opens the file clears up."
            yield warn(name, f"{doing} was interrupted at its start", advice)
        else:
            complete = copy_marker.is_complete(target, marker)
            what, _, advice = marker.outcome(target, complete=complete).partition(". ")
            yield warn(name, what, advice)
    strays = sorted(target.parent.glob(f".{glob.escape(target.name)}.*partial"))
    if strays and seen is None:
        files = " ".join(map(str, strays))
        advice = f"Unless a backup or restore of an older durableq runs: rm {files}"
        yield warn(name, f"left by a backup or restore: {files}", advice)


def check_permissions(location: Location) -> Finding:
    """Judge which users may read and write the file."""
    if problem := _problem(location, "permissions"):
        return problem
    mode = location.path.stat().st_mode
    if mode & stat.S_IWOTH:
        advice = f"Whoever writes it can forge any message: chmod o-w {location.path}."
        return warn("permissions", "everybody on this machine may write it", advice)
    return ok("permissions", f"mode {stat.S_IMODE(mode):o}")


def check_disk(location: Location) -> Finding:
    """Judge the free space on the disk."""
    status = os.statvfs(location.path.parent)
    free = status.f_bavail * status.f_frsize
    what, advice = f"{_mib(free)} MiB free", "Make room: settling a message needs some too."
    if free < NO_SPACE_BYTES:
        return bad("disk", what, advice)
    return warn("disk", what, advice) if free < LOW_SPACE_BYTES else ok("disk", what)


def check_use(location: Location) -> Iterator[Finding]:
    """Judge the size of the log, and which processes hold it back or hold the write lock."""
    size, readers, writers = log_bytes(location), set[int](), set[int]()
    listed = locks.are_listed()
    if listed:
        readers, writers = _steady_users(location)
    what = f"the write-ahead log has {_mib(size)} MiB"
    if size <= LARGE_LOG_BYTES:
        yield ok("wal", what)
    elif readers:
        yield warn("wal", what, "A reader holds it back: see oldest_reader.")
    else:
        advice = "It was held back by a long reader, and shrinks with the next commits."
        yield warn("wal", what, advice)
    if listed:
        yield _check_readers(readers, size)
        yield _check_writers(writers)
    else:
        yield ok("oldest_reader", "not told by this system")
        yield ok("write_lock", "not told by this system")


def _steady_users(location: Location) -> tuple[set[int], set[int]]:
    """Return the processes that read, and those that hold the write lock, in each of the samples.

    A process between two short transactions is in some of them only. Once none is left, further
    samples would tell nothing.
    """
    readers, writers = locks.readers(location.path), locks.writers(location.path)
    for _ in range(SAMPLES - 1):
        if not (readers or writers):
            break
        time.sleep(SAMPLE_SECONDS)
        readers &= locks.readers(location.path)
        writers &= locks.writers(location.path)
    return readers, writers


def _check_readers(pids: set[int], log_size: int) -> Finding:
    name = "oldest_reader"
    if not pids:
        return ok(name, "no process reads for long")
    what = f"{_named(pids)} read all the while"
    if log_size <= LARGE_LOG_BYTES:
        return ok(name, what)
    return warn(name, what, "Let it end its transaction: the log grows until then.")


def _check_writers(pids: set[int]) -> Finding:
    name = "write_lock"
    if not pids:
        return ok(name, "no process holds it for long")
    stopped = sorted(filter(locks.is_stopped, pids))
    if stopped:
        return bad(
            name,
            f"{locks.describe(stopped[0])} holds it and is stopped",
            f"Nobody can write: kill -CONT {stopped[0]}, or kill -KILL {stopped[0]}; its "
            "transaction is then undone.",
        )
    advice = "If it goes on: a transaction of an application is too long; others wait for it."
    return warn(name, f"{_named(pids)} held it all the while", advice)


def _named(pids: set[int]) -> str:
    return ", ".join(map(locks.describe, sorted(pids)))


def _mib(size: int) -> str:
    return f"{size / MIB:.1f}" if size < 100 * MIB else f"{size // MIB:,}".replace(",", " ")
