"""A flag that a signal handler may set and that a wait on file descriptors can see.

threading.Event is neither: its lock is not to be taken by a handler that may have interrupted
the very thread that holds it, and nothing but its own wait wakes up by it.
"""

from __future__ import annotations

import os
from contextlib import suppress

from durableq.runtime.waiting import wait_readable


class WakeupEvent:
    """Set from anywhere, also from a signal handler; readable from then on, until cleared."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        for end in (self._read, self._write):
            os.set_blocking(end, False)
        self._was = os.fstat(self._write)
        self._set = False

    @property
    def is_intact(self) -> bool:
        """Whether its descriptors are still its own: nobody closed them, or put others there."""
        try:
            return all(
                os.path.samestat(os.fstat(end), self._was) for end in (self._read, self._write)
            )
        except OSError:
            return False

    @property
    def is_set(self) -> bool:
        """Whether it has been set, and not cleared since."""
        return self._set

    def set(self) -> None:
        """Set it. Waiting on it ends, now and later."""
        self._set = True
        if self.is_intact:  # else a byte could end up in somebody's file, even the database
            with suppress(BlockingIOError):  # it is full, so it is readable
                os.write(self._write, b"\0")

    def clear(self) -> None:
        """Take the flag back. What is set during this call stays set."""
        self._set = False
        with suppress(BlockingIOError):
            while os.read(self._read, 512):
                pass

    def wait(self, seconds: float) -> bool:
        """Wait until it is set, at most so long; return whether it is."""
        return self._set or wait_readable(seconds, self) or self._set

    def fileno(self) -> int:
        """Return the descriptor that is readable while it is set."""
        return self._read

    def close(self) -> None:
        """Close its descriptors."""
        os.close(self._read)
        os.close(self._write)
