"""The places where receives begin to look for messages.

While a long transaction runs, an index keeps the entries of messages that are gone. A look from the
start passes all of them: after ten minutes, hundreds of thousands. So where a look from the start
was slow, the next ones of this process begin at the first message that it found, and behind the
time at which no delayed message was due and no lease had ended. That can miss a message that came
before the place: one of a higher priority, one that was returned, one with a lower id whose sender
committed later. The next look from the start finds it. That comes when a look finds nothing, and
otherwise so soon that looks from the start take a twentieth of the time. The order is strict again
from there.

A look is slow by the pages of the index that it reads, not by its time: a busy machine is not this.
"""

from __future__ import annotations

import time
from typing import Final, NamedTuple

_LOWEST: Final = -1 << 63
#: Pages of an index that a look reads in vain before it counts as slow.
SLOW_PAGES: Final = 64
#: Time between looks from the start: at least so long, and so many times the time that they take.
_SECONDS: Final = 0.25
_TIMES: Final = 20


class Look(NamedTuple):
    """The place where a look begins."""

    #: Of the first ready message.
    rank: int = _LOWEST
    message_id: int = _LOWEST
    #: No delayed message was due by this steady time, and no lease had ended by this lease time.
    due_ms: int = _LOWEST
    ended_ms: int = _LOWEST


FROM_THE_START: Final = Look()


class Looks:
    """The places where the next looks begin, by queue. Threads may share it: each place serves."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[Look, float]] = {}

    def next(self, queue: str) -> Look:
        """Return where the next look begins."""
        known = self._known.get(queue)
        if known is None or time.monotonic() >= known[1]:
            return FROM_THE_START
        return known[0]

    def note(self, queue: str, begun: Look, found: Look, pages: int, seconds: float) -> None:
        """Take notice of a look.

        Args:
            queue: its queue.
            begun: where it began.
            found: where it found the first message, and the times at which nothing was to be done.
            pages: the pages of the index that it has read.
            seconds: the time that it took.
        """
        if begun != FROM_THE_START:
            known = self._known.get(queue)
            if known is not None:
                self._known[queue] = found, known[1]
        elif pages > SLOW_PAGES:
            again = time.monotonic() + max(_SECONDS, _TIMES * seconds)
            self._known[queue] = found, again
        else:
            self._known.pop(queue, None)

    def forget(self, queue: str) -> None:
        """Let the next look begin at the start."""
        self._known.pop(queue, None)
