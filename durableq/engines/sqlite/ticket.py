"""A ticket for the write lock of one file: an advisory `flock` on its write-ahead log.

It keeps the processes that wait for the write lock in a queue of a kind, and protects nothing: a
program that knows nothing of it, or a process that cannot have it, writes all the same.

The log is the file at hand: it is there while a connection is open, with the right owner and mode,
and SQLite locks no byte of it. So closing a descriptor of it drops no lock of SQLite's, unlike one
of the database or its index. The kernel releases a `flock` at the end of its process.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path
from typing import Final

#: Descriptors of tickets in this process. Each is of a log, opened for reading.
DESCRIPTORS: Final[set[int]] = set()


class Ticket:
    """This process's descriptor of a log, and the holder of the lock on it.

    Args:
        database: the path of the database file.
    """

    def __init__(self, database: Path) -> None:
        self._log = f"{database}-wal"
        self._descriptor = -1
        #: The transaction that holds it; None: none of this process.
        self.holder: object | None = None

    def take(self, holder: object) -> bool:
        """Take the ticket, or keep it; return whether another transaction has it.

        Args:
            holder: the transaction to take it for. It also counts as the holder where the log
                cannot be locked.
        """
        if self.holder is not None:
            return self.holder is holder
        self.holder = holder  # before the call: an exception may come as soon as it returns
        try:
            fcntl.flock(self._opened(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.holder = None
            return False
        except OSError:  # no log, no descriptor left, or a file system without such locks
            return True
        return True

    def release(self, holder: object) -> None:
        """Let others take the ticket, if this is its holder."""
        if self.holder is not holder:
            return
        self.holder = None
        if self._descriptor >= 0:
            with suppress(OSError):
                fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def close(self) -> None:
        """Close the descriptor. In a forked child, the ticket stays with the parent."""
        descriptor, self._descriptor, self.holder = self._descriptor, -1, None
        if descriptor in DESCRIPTORS:
            DESCRIPTORS.discard(descriptor)
            os.close(descriptor)

    def _opened(self) -> int:
        if self._descriptor < 0:
            self._descriptor = os.open(self._log, os.O_RDONLY | os.O_CLOEXEC)
            DESCRIPTORS.add(self._descriptor)
        return self._descriptor
