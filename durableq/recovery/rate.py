"""How fast letters go back: a bucket of one token, filled so many times a second."""

from __future__ import annotations

import time
from collections.abc import Callable

from durableq.model.errors import InvalidInput
from durableq.model.text import shown
from durableq.runtime.wakeup import WakeupEvent


class Rate:
    """At most so many turns a second, evenly.

    Args:
        per_second: how many; None means as many as come.
        now: seconds, on a clock that only goes forward.

    Raises:
        InvalidInput: not more than 0.
    """

    def __init__(self, per_second: float | None, now: Callable[[], float] = time.monotonic) -> None:
        if per_second is not None and not 0 < per_second < float("inf"):
            raise InvalidInput(f"A rate is a number over 0, got {shown(per_second)}.")
        self._per_second = per_second
        self._now = now
        self._full_at = now()

    def at_once(self, most: int) -> int:
        """Return how many letters to lease at a time: not more than go within a second."""
        return most if self._per_second is None else max(1, min(most, int(self._per_second)))

    def wait(self, stopping: WakeupEvent) -> bool:
        """Wait for a turn and take it; False if it was stopped while waiting."""
        if self._per_second is None:
            return True
        while (left := self._full_at - self._now()) > 0:
            if stopping.wait(left):
                return False
        self._full_at = self._now() + 1 / self._per_second
        return True
