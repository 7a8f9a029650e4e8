"""The doctor's checks of a SQLite file. They change nothing, and take any file.

The checks with `stat` and /proc come first. The file is opened only if that is safe, through a
connection that cannot write.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from durableq.engines.sql import fleet, steady_time
from durableq.engines.sql.queues import all_queues
from durableq.engines.sqlite import doctor_file, doctor_tables
from durableq.engines.sqlite.database import DRIVER_TIMEOUT_SECONDS
from durableq.engines.sqlite.dialect import transaction
from durableq.engines.sqlite.driver import driver
from durableq.engines.sqlite.errors import translate
from durableq.engines.sqlite.location import Location
from durableq.engines.sqlite.schema import SchemaState, estimate_upgrade, state_of
from durableq.model.errors import Busy, DurableQError, ForeignDatabase
from durableq.model.health import Finding, Level, UpgradeEstimate, is_healthy
from durableq.model.info import QueueInfo, WorkerInfo
from durableq.runtime.clock import Clock, SteadyClock

T = TypeVar("T")


def examine(location: Location, clock: Clock, *, deep: bool) -> list[Finding]:
    """Check a file, its directory and the processes that use it; see Store.examine."""
    absent = doctor_file.check_path(location)
    copies = list(doctor_file.check_unfinished_copy(location))
    if absent is not None:
        return [doctor_file.check_sqlite(), absent, *copies]
    must_hold = [
        doctor_file.check_sqlite(),
        doctor_file.check_file_system(location),
        doctor_file.check_links(location),
    ]
    around = [
        *copies,
        doctor_file.check_permissions(location),
        doctor_file.check_disk(location),
    ]
    used = list(doctor_file.check_use(location))  # before this process itself reads
    if is_healthy(must_hold):
        inside = _inside(location, clock, deep=deep)
    else:
        advice = "First put right what is bad above."
        inside = [Finding("file", Level.WARN, "not opened: that would not be safe", advice)]
    return [*must_hold, *around, *inside, *_promises(location, clock), *used]


def _promises(location: Location, clock: Clock) -> Iterator[Finding]:
    """Judge the durability that the URL asks for, and the clock of the leases."""
    if location.synchronous == "full":
        yield Finding("synchronous", Level.OK, "full: a commit survives power loss")
    else:
        advice = "Leave out ?synchronous=normal if that matters."
        what = "normal: power loss may undo the newest commits"
        yield Finding("synchronous", Level.WARN, what, advice)
    if clock.boot_id():
        yield Finding("lease_clock", Level.OK, "leases are measured on the boot clock")
    else:
        advice = "Do not set the clock while workers run."
        what = "leases are measured on the wall clock: this system has no boot clock"
        yield Finding("lease_clock", Level.WARN, what, advice)


def _inside(location: Location, clock: Clock, *, deep: bool) -> list[Finding]:
    try:
        while True:
            before = _stamp(location.path)
            with open_read_only(location.path) as (raw, is_still):
                found = list(
                    doctor_tables.check_content(
                        raw, location, clock, deep=deep, in_use=not is_still
                    )
                )
            if not is_still or _stamp(location.path) == before:
                return found  # otherwise a process began to write a file that was not open
    except driver.Error as error:
        meaning = translate(error, location.path)
        what, _, _ = str(meaning or error).partition(". ")
        if not os.access(location.path, os.R_OK):
            what, advice = "not looked into: this user may not read it", "See permissions, above."
            return [Finding("file", Level.WARN, what, advice)]
        return [Finding("file", Level.BAD, what, _advice(meaning, location))]


def workers(location: Location, clock: Clock) -> list[WorkerInfo]:
    """Return the registered workers; none if the file is not a current durableq database."""
    steady = SteadyClock(clock)

    def registered(raw: Any) -> list[WorkerInfo]:
        steady.adopt(steady_time.stored(transaction(raw)))
        return steady.shown(fleet.workers(transaction(raw)))

    return _read_current(location, registered)


def queues(location: Location) -> list[QueueInfo]:
    """Return the queues; none if the file is not a current durableq database."""
    return _read_current(location, lambda raw: all_queues(transaction(raw)))


def upgrade_estimate(location: Location) -> UpgradeEstimate | None:
    """Return the expected cost of upgrading a file; None unless an older durableq made it."""
    if doctor_file.check_path(location) is not None:
        return None
    try:
        with open_read_only(location.path) as (raw, _):
            return estimate_upgrade(raw) if state_of(raw) is SchemaState.OLDER else None
    except (driver.Error, DurableQError):
        return None  # the upgrade itself names the error


def _read_current(location: Location, question: Callable[[Any], list[T]]) -> list[T]:
    """Return the answer of a current durableq database; nothing if it is another or damaged."""
    if doctor_file.check_path(location) is not None:
        return []
    try:
        with open_read_only(location.path) as (raw, _):
            return question(raw) if state_of(raw) is SchemaState.CURRENT else []
    except (driver.Error, DurableQError):
        return []


def _advice(meaning: DurableQError | None, location: Location) -> str:
    if isinstance(meaning, ForeignDatabase):
        return "Name another file with --db; or, if it was one, restore a backup in its place."
    if isinstance(meaning, Busy):
        return "Look again: another process changes the whole file."
    return f"Keep a copy; restore a backup: durableq restore FILE --db {location.path} --replace."


@contextmanager
def open_read_only(path: Path) -> Iterator[tuple[Any, bool]]:
    """Open a file without writing to it, nor, if no process has it open, beside it.

    Yields:
        The connection, and whether it takes the file as unchanging: it then locks nothing.
    """
    is_still = not os.path.lexists(f"{path}-wal")
    options = "immutable=1" if is_still else "mode=ro"
    uri = f"file:{quote(os.fsencode(path))}?{options}"
    timeout = DRIVER_TIMEOUT_SECONDS
    with closing(driver.connect(uri, uri=True, timeout=timeout, isolation_level=None)) as raw:
        raw.text_factory = _text
        try:
            raw.execute("PRAGMA mmap_size = 0")
            yield raw, is_still
        except UnicodeDecodeError as error:
            raise _undecodable() from error


def _undecodable() -> driver.Error:
    """Return the error that the driver cannot raise: SQLite's message quotes undecodable text."""
    error = driver.DatabaseError("the schema holds text that is not UTF-8")
    error.sqlite_errorcode = driver.SQLITE_CORRUPT
    return error


def _text(stored: bytes) -> str:
    return stored.decode("utf-8", "surrogateescape")


def _stamp(path: Path) -> object:
    """Return a value that changes when a process opens or writes the file."""
    with suppress(FileNotFoundError):
        status = os.stat(path)
        return status.st_ino, status.st_size, status.st_mtime_ns, os.path.lexists(f"{path}-wal")
    return None
