"""Waiting for file descriptors: of any number, for any time."""

from __future__ import annotations

import math
import select

from durableq.store.core import HasFileno


def wait_readable(seconds: float, *files: int | HasFileno) -> bool:
    """Wait until one of these is readable or at its end; return whether one is."""
    poller = select.poll()  # select() cannot take a descriptor beyond 1023
    for file in files:
        poller.register(file, select.POLLIN)
    # Rounded up: whoever waits for a moment is not woken before it, to wait again for nothing.
    return bool(poller.poll(math.ceil(max(0.0, seconds) * 1000)))
