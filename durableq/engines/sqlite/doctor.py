"""The doctor's examination of a SQLite file, whatever it is: nothing of it is changed.

What stat and the kernel can tell comes first. The file is opened only if that is safe, through a
connection that cannot write.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from durableq.engines.sql import queries, steady_time
from durableq.engines.sqlite import doctor_file, doctor_tables
from durableq.engines.sqlite.database import DRIVER_TIMEOUT_SECONDS
from durableq.engines.sqlite.dialect import transaction
from durableq.engines.sqlite.driver import driver
from durableq.engines.sqlite.errors import translate
from durableq.engines.sqlite.location import Location
from durableq.engines.sqlite.schema import Condition, condition, estimate_upgrade
from durableq.model.errors import Busy, DurableQError, ForeignDatabase
from durableq.model.health import Finding, Level, UpgradeEstimate, is_healthy
from durableq.model.info import QueueInfo, WorkerInfo
from durableq.runtime.clock import Clock
from durableq.runtime.steady_clock import SteadyClock

T = TypeVar("T")


def examine(location: Location, clock: Clock, *, deep: bool) -> list[Finding]:
    """Look at a file, its surroundings and who uses it; see Store.examine."""
    absent = doctor_file.place(location)
    unfinished = list(doctor_file.unfinished(location))
    if absent is not None:
        return [doctor_file.sqlite(), absent, *unfinished]
    must_hold = [
        doctor_file.sqlite(),
        doctor_file.file_system(location),
        doctor_file.links(location),
    ]
    around = [*unfinished, doctor_file.permissions(location), doctor_file.disk(location)]
    used = list(doctor_file.use(location))  # before this process itself reads
    if is_healthy(must_hold):
        inside = _inside(location, clock, deep=deep)
    else:
        advice = "First put right what is bad above."
        inside = [Finding("file", Level.WARN, "not opened: that would not be safe", advice)]
    return [*must_hold, *around, *inside, *_promises(location, clock), *used]


def _promises(location: Location, clock: Clock) -> Iterator[Finding]:
    """Judge what the URL and the machine allow to be promised."""
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
            with reading(location.path) as (raw, is_still):
                found = list(
                    doctor_tables.findings(raw, location, clock, deep=deep, in_use=not is_still)
                )
            if not is_still or _stamp(location.path) == before:
                return found  # else somebody began to write a file that nobody had open
    except driver.Error as error:
        meaning = translate(error, location.path)
        what, _, _ = str(meaning or error).partition(". ")
        if not os.access(location.path, os.R_OK):
            what, advice = "not looked into: this user may not read it", "See permissions, above."
            return [Finding("file", Level.WARN, what, advice)]
        return [Finding("file", Level.BAD, what, _advice(meaning, location))]


def workers(location: Location, clock: Clock) -> list[WorkerInfo]:
    """Return the registered workers of a file of ours; of anything else, none."""
    steady = SteadyClock(clock)

    def registered(raw: Any) -> list[WorkerInfo]:
        steady.adopt(steady_time.stored(transaction(raw)))
        return steady.shown(queries.workers(transaction(raw)))

    return _asked(location, registered)


def queues(location: Location) -> list[QueueInfo]:
    """Return the queues of a file of ours; of anything else, none."""
    return _asked(location, lambda raw: queries.queues(transaction(raw)))


def upgrade_estimate(location: Location) -> UpgradeEstimate | None:
    """Return the expected cost of upgrading a file; None unless an older durableq made it."""
    if doctor_file.place(location) is not None:
        return None
    try:
        with reading(location.path) as (raw, _):
            return estimate_upgrade(raw) if condition(raw) is Condition.OLDER else None
    except (driver.Error, DurableQError):
        return None  # the upgrade itself names the error


def _asked(location: Location, question: Callable[[Any], list[T]]) -> list[T]:
    """Return the answer of a file of ours; of anything else, and of a damaged one, nothing."""
    if doctor_file.place(location) is not None:
        return []
    try:
        with reading(location.path) as (raw, _):
            return question(raw) if condition(raw) is Condition.CURRENT else []
    except (driver.Error, DurableQError):
        return []


def _advice(meaning: DurableQError | None, location: Location) -> str:
    if isinstance(meaning, ForeignDatabase):
        return "Name another file with --db; or, if it was one, restore a backup in its place."
    if isinstance(meaning, Busy):
        return "Look again: somebody changes the whole file."
    return f"Keep a copy; restore a backup: durableq restore FILE --db {location.path} --replace."


@contextmanager
def reading(path: Path) -> Iterator[tuple[Any, bool]]:
    """Open a file so that nothing is written: neither to it, nor, if nobody has it open, beside it.

    Yields:
        The connection, and whether it takes the file to stand still: it then locks nothing.
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
    """Return the error that the driver fails to raise if SQLite's message quotes such a schema."""
    error = driver.DatabaseError("the schema holds text that is not UTF-8")
    error.sqlite_errorcode = driver.SQLITE_CORRUPT
    return error


def _text(stored: bytes) -> str:
    return stored.decode("utf-8", "surrogateescape")


def _stamp(path: Path) -> object:
    """Return what is another value once somebody has opened or written the file."""
    with suppress(FileNotFoundError):
        status = os.stat(path)
        return status.st_ino, status.st_size, status.st_mtime_ns, os.path.lexists(f"{path}-wal")
    return None
