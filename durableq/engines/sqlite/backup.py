"""Backup of a file while other processes write it, and restore.

VACUUM INTO makes the copy: it reads one state, however long it takes and however many processes
write (docs/decisions/0012). The copy is made beside its target under another name, with a rollback
journal so that no log is beside it. It is synced, checked, and only then renamed in one step: half
a copy never has the final name (docs/decisions/0014).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace as changed
from pathlib import Path
from typing import Any, Final

from durableq.engines.sql import hosts, releasing, steady_time
from durableq.engines.sqlite import copy_install, copy_marker, schema
from durableq.engines.sqlite.copy_marker import LOG_SUFFIXES, os_errors_translated
from durableq.engines.sqlite.database import Database
from durableq.engines.sqlite.dialect import transaction
from durableq.engines.sqlite.doctor import open_read_only
from durableq.engines.sqlite.doctor_tables import MAX_FAULTS, format_faults
from durableq.engines.sqlite.driver import driver
from durableq.engines.sqlite.errors import code_of, translate
from durableq.engines.sqlite.file_space import page_counts
from durableq.engines.sqlite.location import Location
from durableq.model.errors import (
    Conflict,
    DatabaseUnusable,
    DurableQError,
    NotFound,
    StorageFull,
    Unsupported,
)
from durableq.model.health import Copied
from durableq.model.text import is_storable
from durableq.runtime.clock import Clock

#: Called with the percentage of a copy that is made.
Progress = Callable[[int], None]

_COPY_ERRORS: Final = frozenset(
    (driver.SQLITE_IOERR, driver.SQLITE_READONLY, driver.SQLITE_CANTOPEN, driver.SQLITE_PERM)
)
#: Steps of SQLite's virtual machine between two reports of progress.
STEPS: Final = 2_000


def back_up(location: Location, to: Path, progress: Progress) -> Copied:
    """Make a consistent copy of a file while it is in use; see engines.back_up."""
    with os_errors_translated(location.path):
        if not location.path.exists():
            raise NotFound(f"There is no database at {location.path}.")
    target = copy_marker.real_path(to)
    copy_marker.recover(target, starts_copy=True)
    _check_free(to, target)
    database = Database(location)
    try:
        raw = database.session().raw
        _check_ours(database.lock.retrying(lambda: schema.state_of(raw)), location.path)
        with copy_marker.copy_in_progress(target, "backup", location.path) as copy:
            with _written(copy.partial, location.path):
                database.lock.retrying(lambda: _copy(raw, copy.partial, progress))
                with closing(driver.connect(str(copy.partial), isolation_level=None)) as raw_copy:
                    hosts.forget_boots(transaction(raw_copy))
                size = _finish(copy.partial)
            copy_install.install_new(copy)
        return Copied(str(target), size)
    finally:
        database.close()


def restore(
    backup: Path, location: Location, clock: Clock, *, replace: bool, progress: Progress
) -> Copied:
    """Make a database of a backup; see engines.restore."""
    location = changed(location, path=copy_marker.real_path(location.path))
    target = location.path
    _check_source(backup, target)
    copy_marker.recover(target, starts_copy=True)
    location.check()
    if target.exists() and not replace:
        raise Conflict(f"{target} exists. Restore under another name, or over it with --replace.")
    copy_install.check_not_open(target, "Stop what uses it first.")
    with copy_marker.copy_in_progress(target, "restore", backup) as copy:
        with _written(copy.partial, backup):
            with open_read_only(backup) as (raw, _):
                _check_ours(schema.state_of(raw), backup)
                _check_whole(raw, backup)
                _copy(raw, copy.partial, progress)
            released = _release_leases(changed(location, path=copy.partial), clock)
            size = _finish(copy.partial)
        if target.exists() and not replace:
            raise copy_install.appeared(target)
        aside = copy_install.install_over(copy)
    return Copied(str(target), size, released, aside)


# ---- checks of source and target


def _check_free(to: Path, target: Path) -> None:
    Location(to, allow_network_filesystem=True).check()  # only this process writes it
    if target.exists():
        raise Conflict(f"{to} exists, and a backup overwrites nothing. Name another file.")
    for end in LOG_SUFFIXES:
        if os.path.lexists(f"{target}{end}"):
            raise Conflict(
                f"{target}{end} exists: SQLite would apply that log of another file to the "
                "backup. Move it away, or name another file."
            )


def _check_source(backup: Path, target: Path) -> None:
    with os_errors_translated(backup):
        if not backup.exists():
            raise NotFound(f"There is no backup {backup}.")
        if not backup.is_file():
            raise DatabaseUnusable(f"{backup} is not a file. Name the file that a backup made.")
        if target.exists() and os.path.samefile(backup, target):
            raise Conflict(f"{backup} is the database itself.")
    file = copy_marker.real_path(backup)
    copy_install.check_not_open(file, "It is no backup: make one of it with `durableq backup`.")
    for log in [f"{file}{end}" for end in LOG_SUFFIXES]:
        if os.path.lexists(log) and os.stat(log).st_size:
            raise Conflict(
                f"{log} exists. It holds newer commits of {backup}, which is then no backup: make "
                f"one of it with `durableq backup FILE --db {backup}`. Or it is the log of another "
                "file: move it away."
            )


def _check_ours(found: schema.SchemaState, path: Path) -> None:
    if found is schema.SchemaState.EMPTY:
        raise DatabaseUnusable(f"{path} is empty: it holds no queue.")
    refusal = schema.refuse(found, schema.Purpose.MIGRATE, path)
    if refusal is not None:
        raise refusal


def _check_whole(raw: Any, path: Path) -> None:
    faults = [row[0] for row in raw.execute(f"PRAGMA integrity_check({MAX_FAULTS})").fetchall()]
    if faults != ["ok"]:
        raise DatabaseUnusable(f"{path} is damaged ({format_faults(faults)}). Use another backup.")
    if schema.state_of(raw) is schema.SchemaState.CURRENT and (missing := schema.lacking(raw)):
        raise DatabaseUnusable(
            f"{path} is damaged: it lacks {', '.join(missing[:MAX_FAULTS])}. Use another backup."
        )


# ---- the copy


@contextmanager
def _written(partial: Path, source: Path) -> Iterator[None]:
    """Translate an error of the block to a sentence about the copy or its source."""
    try:
        with os_errors_translated(partial):
            yield
    except (driver.Error, DurableQError) as error:
        cause = error if isinstance(error, driver.Error) else error.__cause__
        if not isinstance(cause, driver.Error):
            raise
        code = code_of(cause)
        if code == driver.SQLITE_FULL:
            raise StorageFull(
                f"There is no room for the copy in {partial.parent}. It was removed."
            ) from cause
        if code in _COPY_ERRORS:
            raise DatabaseUnusable(
                f"The copy in {partial.parent} cannot be written, or {source} cannot be read "
                f"({cause})."
            ) from cause
        raise translate(cause, source) or cause from cause


def _finish(partial: Path) -> int:
    """Sync a finished copy and check it; return its size in bytes."""
    copy_marker.fsync(partial)
    for end in LOG_SUFFIXES:
        if os.path.lexists(f"{partial}{end}"):
            raise DatabaseUnusable(
                f"The copy in {partial.parent} was not written whole: a part of it is still in a "
                "log. It was removed; run it again."
            )
    with open_read_only(partial) as (raw, _):
        _check_whole(raw, partial)
    return os.stat(partial).st_size


def _copy(raw: Any, partial: Path, progress: Progress) -> None:
    """Copy one state of a database, without its free pages."""
    free, pages, size, vacuum = page_counts(raw)
    whole = max(1, (pages - free) * size)
    stopped: list[BaseException] = []

    def look() -> bool:
        try:
            progress(min(99, 100 * os.stat(partial).st_size // whole))
        except BaseException as reason:  # noqa: BLE001 - the driver would lose it: Ctrl-C too
            stopped.append(reason)
        return bool(stopped)

    if not vacuum:  # of the copy: an existing file cannot be given it in another way
        raw.execute(f"PRAGMA auto_vacuum = {schema.INCREMENTAL_VACUUM}")
    raw.set_progress_handler(look, STEPS)
    try:
        raw.execute("VACUUM INTO CAST(? AS TEXT)", (_path_parameter(raw, partial),))
    except driver.Error:
        if stopped:
            raise stopped[0] from None
        raise
    finally:
        raw.set_progress_handler(None, 0)
    progress(100)


def _path_parameter(raw: Any, path: Path) -> str | bytes:
    """Return a path as a parameter: as bytes if it is not UTF-8, which cannot be bound as text."""
    if is_storable(str(path)):
        return str(path)
    if raw.execute("PRAGMA encoding").fetchone()[0] != "UTF-8":  # bytes would be another name
        raise Unsupported(f"{path} is not UTF-8. Name the copy otherwise.")
    return os.fsencode(path)


def _release_leases(copy: Location, clock: Clock) -> int:
    """Upgrade a copy if necessary and release the leases in it; return their number.

    The receives do not count: no worker of the source uses the copy.
    """
    database = Database(copy, clock)
    try:
        raw = database.session().raw
        found = schema.state_of(raw)
        if found is not schema.SchemaState.CURRENT:
            schema.upgrade(database, found)
        with database.write() as tx:
            tx.set_time(steady_time.follow(tx, database.clock))
            released = releasing.release_all(tx)
            hosts.start_anew(tx, clock.host_id(), clock.boot_id())
    finally:
        database.close()
    return released
