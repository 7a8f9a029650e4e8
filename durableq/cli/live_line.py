"""A line at the bottom of a terminal that is renewed in place, with all other output above it."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

import typer

from durableq.cli.screen import moves_cursor
from durableq.model.text import visible

#: A line that is older is not shown again below others: its numbers may have changed.
FRESH_SECONDS: Final = 0.2
_ERASE: Final = "\r\x1b[2K"


def is_possible() -> bool:
    """Return whether stderr is a terminal on which a line can be renewed."""
    return moves_cursor(sys.stderr)


class LiveLine:
    """A line on stderr, which is a terminal. Thread-safe.

    It is a stream too, for lines above it.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._shown = ""
        self._shown_at = 0.0
        #: Called when other lines were written above it, to show it with new numbers.
        self.renew: Callable[[], None] = lambda: None

    def show(self, text: str) -> None:
        """Show a text in place of the last one."""
        with self._lock:
            self._shown = visible(text, typer.get_terminal_size().columns - 1)
            self._shown_at = time.monotonic()
            self._put(f"{_ERASE}{self._shown}")

    @contextmanager
    def above(self) -> Iterator[None]:
        """Take the line away for a block that writes to the terminal whole lines."""
        with self._lock:
            if self._shown:
                self._put(_ERASE)
            try:
                yield
            finally:
                if self._shown:
                    self._show_again()

    def _show_again(self) -> None:
        if time.monotonic() - self._shown_at < FRESH_SECONDS:
            self._put(self._shown)
        else:
            self._shown = ""
        self.renew()

    def end(self) -> None:
        """Take the line away."""
        with self._lock:
            if self._shown:
                self._put(_ERASE)
            self._shown = ""

    def write(self, text: str) -> int:
        """Write lines above it."""
        with self.above():
            return sys.stderr.write(text)

    def flush(self) -> None:
        """Do nothing: each write is flushed."""

    def _put(self, text: str) -> None:
        with suppress(OSError):  # the terminal is gone
            sys.stderr.write(text)
            sys.stderr.flush()
