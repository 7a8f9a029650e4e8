"""Space of the file: giving free pages back, and keeping the write-ahead log short."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import Any, Final

from durableq.engines.sql.transactions import Transaction
from durableq.engines.sqlite import checkpoints, locks
from durableq.engines.sqlite.database import JOURNAL_SIZE_LIMIT, Database
from durableq.engines.sqlite.driver import driver
from durableq.engines.sqlite.errors import translate
from durableq.engines.sqlite.location import log_bytes
from durableq.engines.sqlite.schema import INCREMENTAL_VACUUM
from durableq.model.errors import Busy

#: A log longer than this is cut once no process has written it for IDLE_SECONDS.
IDLE_LOG_BYTES: Final = 1_000_000
IDLE_SECONDS: Final = 0.5
#: Pages given back in one slice of maintenance.
FREE_PAGES: Final = 64
#: Free pages that stay in the file, because the next messages would take them again.
SPARE_PAGES: Final = 1_000


def page_counts(raw: Any) -> tuple[int, int, int, int]:
    """Return the free pages of a file, all its pages, their size, and its vacuum mode."""
    names = ("freelist_count", "page_count", "page_size", "auto_vacuum")
    free, pages, size, vacuum = (raw.execute(f"PRAGMA {name}").fetchone()[0] for name in names)
    return free, pages, size, vacuum


def free_pages(tx: Transaction) -> int:
    """Give a few pages back to the file system if many are free; return their bytes."""
    raw = tx.raw
    free, pages, size, vacuum = page_counts(raw)
    if vacuum != INCREMENTAL_VACUUM or free - FREE_PAGES < max(SPARE_PAGES, pages // 4):
        return 0
    for _ in range(FREE_PAGES):  # one at a time: not every driver steps this pragma to its end
        raw.execute("PRAGMA incremental_vacuum(1)").fetchall()
    left: int = raw.execute("PRAGMA freelist_count").fetchone()[0]
    freed: int = (free - left) * size
    return freed


def checkpoint(database: Database) -> None:
    """Copy the log into the file; truncate the log only if it is large and has no reader."""
    _checkpoint(database, JOURNAL_SIZE_LIMIT)


def cut_idle_log(database: Database) -> None:
    """Truncate a log that no process writes: otherwise it keeps the size that it grew to.

    Any worker may do it. A reader costs it an attempt, which returns at once; so does another
    process that makes one at the same time.
    """
    path = database.location.path
    try:
        log = os.stat(f"{path}-wal")
    except OSError:  # no connection has written since the last one closed
        return
    idle_seconds = time.time() - log.st_mtime
    if log.st_size <= IDLE_LOG_BYTES or 0 <= idle_seconds < IDLE_SECONDS:
        return
    if not checkpoints.IS_GUARDED:
        _checkpoint(database, IDLE_LOG_BYTES)
    elif not locks.readers(path):
        checkpoint(database)
        with suppress(Busy), database.write(patient=False) as tx:
            (version,) = tx.raw.execute("PRAGMA user_version").fetchone()
            # SQLite writes the page even so, and the commit cuts the log to GUARDED_LOG_BYTES.
            tx.raw.execute(f"PRAGMA user_version = {version}")


def _checkpoint(database: Database, longest_bytes: int) -> None:
    raw = database.session().raw
    try:
        if checkpoints.IS_GUARDED:
            database.checkpointer.run(raw)
            return
        _, frames, copied = raw.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        if frames == copied and log_bytes(database.location) > longest_bytes:
            raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    except driver.Error as error:
        meaning = translate(error, database.location.path)
        if not isinstance(meaning, Busy):
            raise meaning or error from error
