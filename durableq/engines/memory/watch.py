"""Waiting for writes of this process."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from durableq.runtime.wakeup import wait_readable
from durableq.store.core import HasFileno

#: The capacity of a pipe.
_PIPE_BYTES: Final = 1 << 16


class MemoryWatch:
    """A Watch: a pipe, and a byte in it for each operation that commits.

    Args:
        on_close: called when the watch closes.
    """

    def __init__(self, on_close: Callable[[MemoryWatch], None]) -> None:
        self._on_close = on_close
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._reader, False)
        os.set_blocking(self._writer, False)
        self._closed = False

    def wait(self, seconds: float, *others: HasFileno) -> bool:
        """Wait for a write, one of the others, or the end of the time."""
        wait_readable(seconds, self._reader, *others)
        with suppress(BlockingIOError):
            return bool(os.read(self._reader, _PIPE_BYTES))
        return False

    def ring(self) -> None:
        """End a wait: there was a write."""
        with suppress(BlockingIOError):  # a full pipe ends it already
            os.write(self._writer, b"\0")

    def close(self) -> None:
        """Stop watching."""
        if not self._closed:
            self._closed = True
            self._on_close(self)  # no writer sends to the pipe from here on
            os.close(self._reader)
            os.close(self._writer)
