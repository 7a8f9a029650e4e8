"""Free space of the file system of the database, asked for once a second."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

#: How long an answer is used.
KEEP_SECONDS: Final = 1.0


class FreeSpace:
    """The free space beside a file, for all threads of a process.

    Args:
        path: the database.
    """

    def __init__(self, path: Path) -> None:
        self._folder = path.parent
        self._until = 0.0
        self._bytes = 0

    def __call__(self) -> int:
        """Return the bytes that this user may write, as of the last second."""
        now = time.monotonic()
        if now >= self._until:
            with suppress(OSError):  # without its folder, the write itself fails
                found = os.statvfs(self._folder)
                self._bytes = found.f_bavail * found.f_frsize
            self._until = now + KEEP_SECONDS
        return self._bytes
