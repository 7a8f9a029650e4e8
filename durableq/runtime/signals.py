"""Handlers of signals, and requests to stop: one delivered twice within a second counts once."""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Final

from durableq.runtime import startup

Handler = Callable[[int, FrameType | None], None]

#: A further SIGTERM or SIGINT within this time of the last request is the same request. coreutils
#: timeout, dumb-init and shells that forward a signal send it to the process and to its group: it
#: then arrives twice within milliseconds.
REPEAT_SECONDS: Final = 1.0


class StopRequests:
    """Counts the requests to stop. `note` may be called from a signal handler."""

    def __init__(self) -> None:
        #: Number of separate requests so far.
        self.count = 0
        #: Signal of the newest request.
        self.last: signal.Signals | None = None
        self._counted_at = -math.inf

    def note(self, number: int) -> None:
        """Count a signal, unless it repeats the last request."""
        now = time.monotonic()
        if now - self._counted_at < REPEAT_SECONDS:
            return
        self._counted_at = now
        self.last = signal.Signals(number)
        self.count += 1


@contextmanager
def handling(handlers: Mapping[signal.Signals, Handler]) -> Iterator[None]:
    """Handle signals inside the block, in place of the handlers of the start-up."""
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    startup.finish()
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def has_terminal() -> bool:
    """Return whether this process has a controlling terminal that is still there."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True
