"""The time that each thread has waited for its turn to write, because others wrote.

A handler that writes to the file waits as long as other processes write. That says nothing about
its own work, by which a worker decides how many messages to lease at a time.
"""

from __future__ import annotations

import threading
from typing import Final


class _Waited(threading.local):
    seconds = 0.0


_waited: Final = _Waited()


def waited_seconds() -> float:
    """Return the sum of this thread's waits; only differences mean something."""
    return _waited.seconds


def add_wait(seconds: float) -> None:
    """Add a wait of this thread that has just ended."""
    _waited.seconds += seconds
