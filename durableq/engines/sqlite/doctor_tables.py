"""Doctor checks of the content of a file, through a connection that changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, Final

from durableq.engines.sql import marks
from durableq.engines.sql.examining import check_boot, check_wall_clock
from durableq.engines.sqlite.dialect import transaction
from durableq.engines.sqlite.driver import dotted, driver
from durableq.engines.sqlite.errors import translate
from durableq.engines.sqlite.file_space import page_counts
from durableq.engines.sqlite.location import Location
from durableq.engines.sqlite.schema import (
    HAS_OCTET_LENGTH,
    INCREMENTAL_VACUUM,
    REVISIONS,
    SchemaState,
    lacking,
    state_of,
)
from durableq.model.health import Finding, bad, ok, warn
from durableq.runtime.clock import Clock

#: Maximum number of faults that are named.
MAX_FAULTS: Final = 3
#: Steps of SQLite's virtual machine between two looks at the bound of a check.
STEPS: Final = 10_000
#: Steps in which a check without `--deep` reads rows: some 60,000 messages.
ROW_STEPS: Final = 5_000_000


def check_content(
    raw: Any, location: Location, clock: Clock, *, deep: bool, in_use: bool
) -> Iterator[Finding]:
    """Run every check that needs a connection.

    Raises:
        driver.Error: not even the kind of the file can be read.
    """
    found = state_of(raw)
    if found is SchemaState.MARKED:
        yield marks.finding("file", raw, str(location.path))
    else:
        yield _file(found, location)
    checks: dict[str, Callable[[], Finding]] = {"journal": lambda: _journal(raw, in_use=in_use)}
    if found is SchemaState.CURRENT:
        checks["tables"] = lambda: _tables(raw, location)
        checks["boot"] = lambda: check_boot(transaction(raw), clock.host_id(), clock.boot_id())
        checks["wall_clock"] = lambda: check_wall_clock(transaction(raw), clock)
    if found in {
        SchemaState.CURRENT,
        SchemaState.OLDER,
    }:  # a file that can be backed up and restored
        checks["free_pages"] = lambda: _free_pages(raw, location)
    if found is not SchemaState.NEEDS_NEWER_SQLITE:  # it could not evaluate the CHECKs
        checks["integrity"] = lambda: _integrity(raw, location, deep=deep)
    for name, check in checks.items():
        try:
            yield check()
        except driver.Error as error:
            meaning = translate(error, location.path)
            what, _, advice = str(meaning or error).partition(". ")
            yield bad(name, what, advice or f"Restore a backup: {_restore(location)}.")


def _restore(location: Location) -> str:
    return f"durableq restore FILE --db {location.path} --replace"


def _file(found: SchemaState, location: Location) -> Finding:
    path, revision = location.path, REVISIONS[-1]
    if found is SchemaState.CURRENT:
        return ok("file", f"a durableq database, revision {revision}")
    if found is SchemaState.EMPTY:
        advice = f"The first use creates the tables; or now: durableq init --db {path}."
        return warn("file", f"{path} is empty", advice)
    what, advice = {
        SchemaState.OLDER: (
            "a durableq database that an older version made",
            f"Stop its workers, make a backup, and run: durableq migrate --db {path}.",
        ),
        SchemaState.NEWER: (
            f"made by a newer durableq; this one knows revisions up to {revision}",
            "Upgrade this installation: pip install -U durableq.",
        ),
        SchemaState.NEEDS_NEWER_SQLITE: (
            "made by durableq 0.1, whose tables need SQLite "
            f"{dotted(HAS_OCTET_LENGTH)} or newer; this is {driver.sqlite_version}",
            "Use a Python that brings a newer one, or pip install 'pysqlite3>=0.6.1'.",
        ),
        SchemaState.FOREIGN: (
            f"{path} holds another application's tables and none of durableq's",
            "Name another file with --db; or put the queue beside them: "
            f"durableq init --db {path} --beside-other-tables.",
        ),
    }[found]
    return bad("file", what, advice)


def _journal(raw: Any, *, in_use: bool) -> Finding:
    (mode,) = raw.execute("PRAGMA journal_mode").fetchone()
    if not in_use:  # the driver then names another mode than the file has
        return ok("journal", "at rest; the next opening uses a write-ahead log")
    if mode == "wal":
        return ok("journal", "a write-ahead log")
    advice = "The first command that uses the file changes it to a write-ahead log."
    return warn("journal", f"journal mode {mode}", advice)


def _tables(raw: Any, location: Location) -> Finding:
    missing = lacking(raw)
    if not missing:
        return ok("tables", "every table, column and index is there")
    advice = f"Keep a copy; restore a backup: {_restore(location)}."
    return bad("tables", f"missing: {', '.join(missing)}", advice)


def _free_pages(raw: Any, location: Location) -> Finding:
    free, pages, size, vacuum = page_counts(raw)
    share = f", {100 * free // pages} % of the file" if pages else ""
    what = f"{free * size / (1 << 20):.1f} MiB are free inside{share}"
    if vacuum == INCREMENTAL_VACUUM:
        return ok("free_pages", f"{what}; given back bit by bit")
    path = location.path
    return warn(
        "free_pages",
        f"{what}; never given back, for the file was made without incremental vacuum",
        "To have it, stop all workers, then: "
        f"durableq backup --db {path} FILE; durableq restore FILE --db {path} --replace.",
    )


def _integrity(raw: Any, location: Location, *, deep: bool) -> Finding:
    pragma = "integrity_check" if deep else "quick_check"
    with nullcontext() if deep else _bounded(raw):
        faults, ended = _faults(raw, f"PRAGMA {pragma}({MAX_FAULTS})")
    if faults not in ([], ["ok"]):
        advice = f"Keep a copy; restore a backup: {_restore(location)}."
        return bad("integrity", f"{pragma}: {format_faults(faults)}", advice)
    if ended:
        more = "" if deep else " (--deep compares the indexes too)"
        return ok("integrity", f"{pragma}: ok{more}")
    what = f"{pragma}: every page is sound; of the rows of this large file only a part was read"
    return ok("integrity", what, "To read them all, and compare the indexes: doctor --deep.")


@contextmanager
def _bounded(raw: Any) -> Iterator[None]:
    """Let SQLite check every page, a step for each, and then rows for a bounded number of steps."""
    _, pages, _, _ = page_counts(raw)
    left = pages // STEPS + ROW_STEPS // STEPS

    def step() -> bool:
        nonlocal left
        left -= 1
        return left < 0

    raw.set_progress_handler(step, STEPS)
    try:
        yield
    finally:
        raw.set_progress_handler(None, STEPS)


def _faults(raw: Any, check: str) -> tuple[list[str], bool]:
    """Return the faults that a check reported, and whether it came to its end."""
    found: list[str] = []
    try:
        for (fault,) in raw.execute(check):
            found.append(fault)
    except driver.OperationalError as error:
        if error.sqlite_errorcode != driver.SQLITE_INTERRUPT:
            raise
        return found, False
    return found, True


def format_faults(faults: list[str]) -> str:
    """Format the faults of an integrity check as one line; SQLite returns many in one row."""
    lines = [line for fault in faults for line in str(fault).splitlines()]
    told = [line for line in lines if not line.startswith("***")]
    more = f"; and {len(told) - MAX_FAULTS} more" if len(told) > MAX_FAULTS else ""
    return "; ".join(told[:MAX_FAULTS]) + more
