"""Copying a file whole while others write it, and putting a copy in its place.

A copy is made by VACUUM INTO: one read of one state, however long it takes and whoever writes
(docs/decisions/0012). It is made beside its target under another name, checked, brought to the
disk, and only then given the name: half a copy never has it.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from durableq.clock import Clock
from durableq.engines.sql import locks, schema, settling, statements, timekeeping, upkeep
from durableq.engines.sql.contents import FAULTS, in_words
from durableq.engines.sql.driver import driver
from durableq.engines.sql.examination import reading
from durableq.engines.sql.sqlite import Database, translate
from durableq.engines.sql.sqlite_file import Location
from durableq.engines.sql.unit import Unit
from durableq.errors import (
    Conflict,
    DatabaseUnusable,
    DurableQError,
    NotFound,
    StorageFull,
)
from durableq.health import Copied
from durableq.message import Receipt
from durableq.steady import SteadyClock

Progress = Callable[[int], None]
"""Told how many hundredths of a copy are made."""

STEPS: Final = 2_000
"""Of SQLite's virtual machine, between two looks at how far a copy is."""


def back_up(location: Location, to: Path, progress: Progress) -> Copied:
    """Make a consistent copy of a file while it is in use; see engines.back_up."""
    if not location.path.exists():
        raise NotFound(f"There is no database at {location.path}.")
    _check_free(to)
    database = Database(location)
    try:
        raw = database.session().raw
        _check_ours(database.retrying(lambda: schema.condition(raw)), location.path)
        with _beside(to) as partial:
            database.retrying(lambda: _copy(raw, location.path, partial, progress))
            with _opened(partial) as copy:
                upkeep.forget_boot(copy)
                _check_whole(copy, partial)
            return _put_in_place(partial, to)
    finally:
        database.close()


def restore(
    backup: Path, location: Location, clock: Clock, *, replace: bool, progress: Progress
) -> Copied:
    """Make a database of a backup; see engines.restore."""
    _check_source(backup, location.path)
    location.check()
    if location.path.exists() and not replace:
        raise Conflict(
            f"{location.path} exists. Restore under another name, or over it with --replace."
        )
    _check_unused(location.path, "Stop what uses it first.")
    with _beside(location.path) as partial:
        try:
            with reading(backup) as (raw, _):
                _check_ours(schema.condition(raw), backup)
                _check_whole(raw, backup)
                _copy(raw, backup, partial, progress)
        except driver.Error as error:
            raise translate(error, backup) or error from error
        released = _forget_holders(Location(partial), clock)
        _check_unused(location.path, "It was opened in the meantime: stop what uses it.")
        with _set_aside(location.path) as aside:
            copied = _put_in_place(partial, location.path)
    return copied._replace(released=released, set_aside=aside)


# ---- what may be copied where


def _check_free(to: Path) -> None:
    Location(to, allow_network_filesystem=True).check()  # nobody else writes it
    if to.exists():
        raise Conflict(f"{to} exists, and a backup overwrites nothing. Name another file.")


def _check_source(backup: Path, target: Path) -> None:
    if not backup.exists():
        raise NotFound(f"There is no backup {backup}.")
    if not backup.is_file():
        raise DatabaseUnusable(f"{backup} is not a file. Name the file that a backup made.")
    if target.exists() and os.path.samefile(backup, target):
        raise Conflict(f"{backup} is the database itself.")
    _check_unused(backup, "It is no backup: make one of it with `durableq backup`.")


def _check_unused(path: Path, advice: str) -> None:
    using = sorted(locks.users(path)) if path.exists() else []
    if using:
        raise Conflict(f"{path} is open in {locks.describe(using[0])}. {advice}")


def _check_ours(found: schema.Condition, path: Path) -> None:
    if found is schema.Condition.EMPTY:
        raise DatabaseUnusable(f"{path} is empty: it holds no queue.")
    refusal = schema.refuse(found, schema.Purpose.MIGRATE, path)
    if refusal is not None:
        raise refusal


def _check_whole(raw: Any, path: Path) -> None:
    faults = [row[0] for row in raw.execute(f"PRAGMA integrity_check({FAULTS})").fetchall()]
    if faults != ["ok"]:
        raise DatabaseUnusable(f"{path} is damaged ({in_words(faults)}). Use another backup.")


# ---- the copy


@contextmanager
def _beside(target: Path) -> Iterator[Path]:
    """Give an empty file in the target's directory, its owner's alone; let nothing of it stay."""
    try:
        descriptor, name = tempfile.mkstemp(
            prefix=f".{target.name}.", suffix=".partial", dir=target.parent
        )
    except OSError as error:
        raise DatabaseUnusable(f"{target} cannot be written: {error.strerror}.") from error
    os.close(descriptor)  # before SQLite has opened it: there are no locks to drop
    try:
        yield Path(name)
    finally:
        for end in ("", "-journal", "-wal", "-shm"):
            with suppress(FileNotFoundError):
                os.unlink(name + end)


def _copy(raw: Any, source: Path, partial: Path, progress: Progress) -> None:
    """Copy one state of a database, as compact as can be.

    Raises:
        StorageFull: there is no room for it.
        DatabaseUnusable: the source is damaged, or the copy cannot be written.
    """
    pages, free, size, vacuum = (
        raw.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("page_count", "freelist_count", "page_size", "auto_vacuum")
    )
    whole = max(1, (pages - free) * size)
    stopped: list[BaseException] = []

    def look() -> bool:
        try:
            progress(min(99, 100 * os.stat(partial).st_size // whole))
        except BaseException as reason:  # noqa: BLE001 - the driver would lose it: Ctrl-C too
            stopped.append(reason)
        return bool(stopped)

    if not vacuum:  # of the copy: a file that has begun without cannot be given it otherwise
        raw.execute(f"PRAGMA auto_vacuum = {schema.INCREMENTAL_VACUUM}")
    raw.set_progress_handler(look, STEPS)
    try:
        raw.execute("VACUUM INTO ?", (str(partial),))
    except driver.Error as error:
        if stopped:
            raise stopped[0] from None
        raise _meaning(error, source, partial) or error from error
    finally:
        raw.set_progress_handler(None, 0)
    progress(100)


def _meaning(error: driver.Error, source: Path, partial: Path) -> DurableQError | None:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code == driver.SQLITE_FULL:
        return StorageFull(f"There is no room for the copy in {partial.parent}. It was removed.")
    if code == driver.SQLITE_IOERR:
        return DatabaseUnusable(
            f"The copy in {partial.parent} cannot be written, or {source} cannot be read ({error})."
        )
    return translate(error, source)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open a copy that nobody else knows of."""
    raw = driver.connect(str(path), isolation_level=None)
    try:
        yield raw
    except driver.Error as error:
        raise _meaning(error, path, path) or error from error
    finally:
        raw.close()


def _forget_holders(copy: Location, clock: Clock) -> int:
    """Upgrade a copy, if need be, and give back what its workers held; return how many leases.

    None of them holds this file, and nothing is known against the messages: they do not count.
    """
    database = Database(copy)
    try:
        schema.prepare(database, schema.Purpose.MIGRATE)
        with database.write() as raw:
            steady = SteadyClock(clock)
            timekeeping.follow(raw, steady)
            unit = Unit(raw, steady, dice=lambda: 0.0)
            leases = statements.LEASES_OF_HOLDER(raw, mark=b"", length=0).fetchall()
            settling.release(unit, [_receipt(unit, lease) for lease in leases])
            upkeep.remember_boot(unit, clock.boot_id())
            unit.close_books()
    finally:
        database.close()
    return len(leases)


def _receipt(unit: Unit, lease: tuple[Any, ...]) -> Receipt:
    message_id, _, _, token, queue_id = lease
    return Receipt(unit.queue_by_id(queue_id).name, str(message_id), token.hex())


# ---- under its name


def _put_in_place(partial: Path, target: Path) -> Copied:
    """Bring a copy to the disk, then give it its name, which nobody else may have taken."""
    size = os.stat(partial).st_size
    _sync(partial)
    try:
        os.link(partial, target)
    except FileExistsError:
        raise Conflict(f"{target} has come to exist in the meantime. Nothing was done.") from None
    except OSError:  # a file system without links
        if target.exists():
            raise Conflict(f"{target} has come to exist in the meantime.") from None
        os.rename(partial, target)
    with suppress(FileNotFoundError):
        os.unlink(partial)
    _sync(target.parent)
    return Copied(str(target), size)


@contextmanager
def _set_aside(path: Path) -> Iterator[str | None]:
    """Give a database another name, with its log, unless the block fails. Nothing is removed.

    The file goes first: a log without a file is dropped by SQLite, a file with another's log
    would be spoilt by it.
    """
    if not path.exists():
        yield None
        return
    aside = f"{path}.replaced-{time.strftime('%Y%m%d-%H%M%S')}"
    if os.path.lexists(aside):
        raise Conflict(f"{aside} exists. Try again in a second.")
    _rename(str(path), aside)
    try:
        yield aside
    except BaseException:
        _rename(aside, str(path))
        raise


def _rename(before: str, after: str) -> None:
    os.rename(before, after)
    with suppress(FileNotFoundError):
        os.rename(f"{before}-wal", f"{after}-wal")
    with suppress(FileNotFoundError):
        os.unlink(f"{before}-shm")  # only an index of the log; the next opening makes it anew


def _sync(path: Path) -> None:
    """Bring a copy that nobody has open yet, or a directory, to the disk."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise DatabaseUnusable(
            f"{path} cannot be brought to the disk: {error.strerror}."
        ) from error
