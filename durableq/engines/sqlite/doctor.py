"""The doctor's checks of a SQLite file. They change nothing, and take any file.

The checks with `stat` and /proc come first. The file is opened only if that is safe, through a
connection that cannot write.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from durableq.engines.sql import fleet, steady_time
from durableq.engines.sql.queues import all_queues
from durableq.engines.sql.schedules import all_schedules
from durableq.engines.sql.transactions import Transaction
from durableq.engines.sqlite import doctor_file
from durableq.engines.sqlite.dialect import transaction
from durableq.engines.sqlite.doctor_tables import check_content
from durableq.engines.sqlite.driver import DRIVER_TIMEOUT_SECONDS, driver
from durableq.engines.sqlite.errors import translate
from durableq.engines.sqlite.location import Location
from durableq.engines.sqlite.schema import SchemaState, estimate_upgrade, state_of
from durableq.model.errors import Busy, DurableQError, ForeignDatabase
from durableq.model.health import Finding, UpgradeEstimate, bad, is_healthy, ok, warn
from durableq.model.info import QueueInfo, WorkerInfo
from durableq.model.slots import ScheduleInfo
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
    around = [*copies, doctor_file.check_permissions(location), doctor_file.check_disk(location)]
    used = list(doctor_file.check_use(location))  # before this process itself reads
    if is_healthy(must_hold):
        inside = _inside(location, clock, deep=deep)
    else:
        advice = "First put right what is bad above."
        inside = [warn("file", "not opened: that would not be safe", advice)]
    return [*must_hold, *around, *inside, *_promises(location, clock), *used]


def _promises(location: Location, clock: Clock) -> Iterator[Finding]:
    """Judge the durability that the URL asks for, and the clock of the leases."""
    if location.synchronous == "full":
        yield ok("synchronous", "full: a commit survives power loss")
    else:
        advice = "Leave out ?synchronous=normal if that matters."
        yield warn("synchronous", "normal: power loss may undo the newest commits", advice)
    if clock.boot_id():
        yield ok("lease_clock", "leases are measured on the boot clock")
    else:
        what = "leases are measured on the wall clock: this system has no boot clock"
        yield warn("lease_clock", what, "Do not set the clock while workers run.")


def _inside(location: Location, clock: Clock, *, deep: bool) -> list[Finding]:
    try:
        while True:
            before = _stamp(location.path)
            with open_read_only(location.path) as (raw, is_still):
                in_use = not is_still
                found = list(check_content(raw, location, clock, deep=deep, in_use=in_use))
            if not is_still or _stamp(location.path) == before:
                return found  # otherwise a process began to write a file that was not open
    except driver.Error as error:
        meaning = translate(error, location.path)
        what, _, _ = str(meaning or error).partition(". ")
        if not os.access(location.path, os.R_OK):
            what = "not looked into: this user may not read it"
            return [warn("file", what, "See permissions, above.")]
        return [bad("file", what, _advice(meaning, location))]


def workers(location: Location, clock: Clock) -> list[WorkerInfo]:
    """Return the registered workers; none if the file is not a current durableq database."""
    steady = SteadyClock(clock)

    def registered(raw: Any) -> list[WorkerInfo]:
        steady.adopt(steady_time.stored(transaction(raw), clock.boot_id()))
        return steady.shown(fleet.workers(transaction(raw)))

    return _read(location, SchemaState.CURRENT, registered) or []


def queues(location: Location, clock: Clock) -> list[QueueInfo]:
    """Return the queues; none if the file is not a current durableq database."""
    question = partial(all_queues, dead_letters=True)
    return _read(location, SchemaState.CURRENT, partial(_at, clock, question)) or []


def schedules(location: Location, clock: Clock) -> list[ScheduleInfo]:
    """Return the schedules; none if the file is not a current durableq database."""
    return _read(location, SchemaState.CURRENT, partial(_at, clock, all_schedules)) or []


def _at(clock: Clock, question: Callable[[Transaction], T], raw: Any) -> T:
    """Return the answer to a question that needs the time."""
    tx, steady = transaction(raw), SteadyClock(clock)
    steady.adopt(steady_time.stored(tx, clock.boot_id()))
    tx.set_time(steady.moment())
    return question(tx)


def queue_names(location: Location) -> list[str]:
    """Return the names of the queues; none if the file is not a current durableq database.

    A file whose log was left behind by a process that is gone is not opened: to read it, SQLite
    would make an index of the log beside it.
    """
    if os.path.lexists(f"{location.path}-wal") != os.path.lexists(f"{location.path}-shm"):
        return []

    def stored(raw: Any) -> list[str]:
        tx = transaction(raw)
        return [name for (name,) in tx.run(tx.sql.QUEUE_NAMES).fetchall()]

    return _read(location, SchemaState.CURRENT, stored) or []


def upgrade_estimate(location: Location) -> UpgradeEstimate | None:
    """Return the expected cost of upgrading a file; None unless an older durableq made it."""
    return _read(location, SchemaState.OLDER, estimate_upgrade)


def _read(location: Location, wanted: SchemaState, question: Callable[[Any], T]) -> T | None:
    """Return the answer of a database in this state; None if it is in another, or damaged."""
    if doctor_file.check_path(location) is not None:
        return None
    # The command that uses the file names the error.
    with suppress(driver.Error, DurableQError), open_read_only(location.path) as (raw, _):
        if state_of(raw) is wanted:
            return question(raw)
    return None


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
        raw.text_factory = lambda stored: stored.decode("utf-8", "surrogateescape")
        try:
            raw.execute("PRAGMA mmap_size = 0")
            yield raw, is_still
        except UnicodeDecodeError as error:  # raised for SQLite's message, which quotes the text
            damage = driver.DatabaseError("the schema holds text that is not UTF-8")
            damage.sqlite_errorcode = driver.SQLITE_CORRUPT
            raise damage from error


def _stamp(path: Path) -> object:
    """Return a value that changes when a process opens or writes the file."""
    with suppress(FileNotFoundError):
        status = os.stat(path)
        return status.st_ino, status.st_size, status.st_mtime_ns, os.path.lexists(f"{path}-wal")
    return None
