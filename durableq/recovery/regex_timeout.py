"""A time limit for patterns: some backtrack exponentially.

While a pattern is tried nothing else in the process runs, the heartbeat neither: so there is one.
"""

from __future__ import annotations

import re
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

#: Time limit for the patterns of a file, for one letter; also for one value of the file itself.
PATTERN_SECONDS: Final = 1.0


class TooLong(Exception):
    """It took longer than it may."""


_CLOCKS: Final = (
    (signal.ITIMER_REAL, signal.SIGALRM),
    (signal.ITIMER_VIRTUAL, signal.SIGVTALRM),  # of the processor's time: patterns use nothing else
    (signal.ITIMER_PROF, signal.SIGPROF),
)


@contextmanager
def regex_timeout(seconds: float) -> Iterator[None]:
    """Raise TooLong inside once `seconds` are over. In the main thread only: signals are its.

    An alarm clock of the application's is left alone, and another one used.
    """
    free = [
        (clock, number)
        for clock, number in _CLOCKS
        if signal.getsignal(number) is signal.SIG_DFL and not signal.getitimer(clock)[0]
    ]
    if not free or threading.current_thread() is not threading.main_thread():
        yield
        return
    clock, alarm = free[0]

    def over(_number: int, _frame: object) -> None:
        raise TooLong(f"it took longer than {seconds:g} s")

    signal.signal(alarm, over)
    signal.setitimer(clock, seconds)
    try:
        try:
            yield
        finally:
            signal.setitimer(clock, 0)
    finally:  # also when it was over just as the alarm was taken back
        signal.signal(alarm, signal.SIG_DFL)


_too_slow: Final[set[re.Pattern[str]]] = set()


def surely(
    question: Callable[[], bool], pattern: re.Pattern[str] | None, *, otherwise: bool
) -> bool:
    """Return the answer to a question that tries a pattern; `otherwise` if it takes too long.

    A pattern that took too long once is not tried again, so that many values cost one wait.
    """
    if pattern in _too_slow:
        return otherwise
    try:
        with regex_timeout(PATTERN_SECONDS):
            return question()
    except TooLong:
        if pattern is not None:
            _too_slow.add(pattern)
        return otherwise
