"""The rate at which a recovery process sends messages back."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from durableq.model.errors import InvalidInput
from durableq.model.text import shown
from durableq.runtime.wakeup import WakeupEvent

#: Longest wait without a sign of life.
STEP_SECONDS: Final = 1.0


class SendRate:
    """A rate limit without bursts for messages that are sent back.

    Args:
        per_second: the limit; None means no limit.
        now: seconds, on a monotonic clock.

    Raises:
        InvalidInput: not more than 0.
    """

    def __init__(self, per_second: float | None, now: Callable[[], float] = time.monotonic) -> None:
        if per_second is not None and not 0 < per_second < float("inf"):
            raise InvalidInput(f"A rate is a number over 0, got {shown(per_second)}.")
        self._per_second = per_second
        self._now = now
        self._next_at = now()

    def batch_size(self, most: int) -> int:
        """Return the number of dead letters to lease: no more than may be sent in a second."""
        return most if self._per_second is None else max(1, min(most, int(self._per_second)))

    def wait(self, stopping: WakeupEvent, on_step: Callable[[], None] = lambda: None) -> bool:
        """Wait until one may be sent, and count it; False if told to stop meanwhile."""
        if self._per_second is None:
            return True
        while (left := self._next_at - self._now()) > 0:
            on_step()
            if stopping.wait(min(left, STEP_SECONDS)):
                return False
        self._next_at = self._now() + 1 / self._per_second
        return True
