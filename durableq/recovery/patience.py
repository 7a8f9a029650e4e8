"""A limit on how long a pattern may be tried on a text. Some take longer than the world will last.

While a pattern is tried nothing else in the process runs, the heartbeat neither: so there is one.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class TooLong(Exception):
    """It took longer than it may."""


@contextmanager
def patience(seconds: float) -> Iterator[None]:
    """Raise TooLong inside, once so much time is over. In the main thread only: signals are its.

    Where somebody else uses the alarm clock, there is no limit.
    """
    free = (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGALRM) is signal.SIG_DFL
    )
    if not free:
        yield
        return

    def over(_number: int, _frame: object) -> None:
        raise TooLong(f"it took longer than {seconds:g} s")

    signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    finally:  # also when it was over just as the alarm was taken back
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
