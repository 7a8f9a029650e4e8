"""Guarded checkpoints: safe ones with a SQLite library that has the WAL-reset bug.

In an affected library, a checkpoint that reads the log's header while another connection's commit
starts the log afresh records a wrong position; later commits are then lost and the file is damaged
(https://sqlite.org/wal.html#walresetbug). A commit needs the write lock. So here no connection
checkpoints automatically, and a checkpoint runs only while a second connection of this process
holds the write lock: nothing can start the log afresh under it. It is PASSIVE, because the other
modes fall back to an unguarded PASSIVE one when the write lock is taken.

The checkpoint at the last close needs no guard: SQLite runs it under an exclusive lock on the file.
Recovery after a crash holds every lock of the log. docs/decisions/0016 has the measurements.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from durableq.engines.sqlite.driver import DRIVER_TIMEOUT_SECONDS, driver, is_affected
from durableq.model.errors import DurableQError

#: Whether this process needs guarded checkpoints.
IS_GUARDED: Final = is_affected(driver.sqlite_version_info)
#: A log of this size is checkpointed: about 1,000 pages, as SQLite's automatic checkpoint does.
CHECKPOINT_BYTES: Final = 4 << 20
#: `journal_size_limit` of guarded connections. It is smaller than CHECKPOINT_BYTES, so that the
#: size of the log file tells how much is in it.
GUARDED_LOG_BYTES: Final = 1_000_000
#: Pause between two attempts of one process: a reader that holds the log back costs no more.
ATTEMPT_EVERY_SECONDS: Final = 0.1


#: Guards in use. A process that is forked meanwhile keeps them here and never closes them.
_GUARDS: Final[list[Any]] = []


class Checkpointer:
    """Keeps the log of one file short if automatic checkpoints are off.

    Args:
        path: the database file.
        connect: opens another connection to it, for the guard.
    """

    def __init__(self, path: Path, connect: Callable[[], Any]) -> None:
        self._log = f"{path}-wal"
        self._connect = connect
        self._next_attempt = 0.0

    def keep_short(self, raw: Any) -> None:
        """Checkpoint if the log is large; ignore errors, because the commit before it succeeded.

        Args:
            raw: a driver connection outside a transaction.
        """
        now = time.monotonic()
        if not IS_GUARDED or now < self._next_attempt or self._log_bytes() <= CHECKPOINT_BYTES:
            return
        with suppress(driver.Error, DurableQError):
            self.run(raw)
            self._next_attempt = now + ATTEMPT_EVERY_SECONDS

    def run(self, raw: Any) -> None:
        """Checkpoint while a second connection holds the write lock.

        Raises:
            driver.Error: SQLITE_BUSY: another process holds the write lock, so nothing was done;
                otherwise, the log cannot be read or the file cannot be written.
        """
        guard = self._connect()
        _GUARDS.append(guard)
        try:
            set_pragma(guard, "busy_timeout", int(DRIVER_TIMEOUT_SECONDS * 1000))
            guard.execute("BEGIN IMMEDIATE")
            raw.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        finally:
            guard.close()  # ends its transaction, which wrote nothing
            _GUARDS.remove(guard)

    def _log_bytes(self) -> int:
        try:
            return os.stat(self._log).st_size
        except OSError:
            return 0


def guard(raw: Any) -> None:
    """Turn off automatic checkpoints on a connection of an affected library."""
    if IS_GUARDED:
        set_pragma(raw, "wal_autocheckpoint", 0)
        set_pragma(raw, "journal_size_limit", GUARDED_LOG_BYTES)


def set_pragma(raw: Any, name: str, value: str | int) -> None:
    """Set a pragma of a connection.

    The cursor is closed here, not when its last reference goes: another thread that looks through
    all objects (open_files) may hold one, and a statement that is still active keeps SQLAlchemy
    from registering its functions.
    """
    raw.execute(f"PRAGMA {name} = {value}").close()
