"""A clock that stands still until a test advances it."""

from __future__ import annotations

import time
from typing import Final

from durableq.model.errors import InvalidInput
from durableq.model.text import shown
from durableq.model.units import Seconds, to_ms
from durableq.testing.fakes import FakeClock

_SECONDS: Final = {"minutes": 60, "hours": 3600, "days": 86_400}


class Clock(FakeClock):
    """The clock of a fresh store. It begins at the present time and stands still.

    Delays, the backoff of retries, leases, retention, times to live and rates follow it.
    """

    def __init__(self) -> None:
        super().__init__(wall_ms=time.time_ns() // 1_000_000)

    def advance(
        self, seconds: Seconds = 0, *, minutes: float = 0, hours: float = 0, days: float = 0
    ) -> None:
        """Let time pass: `clock.advance(minutes=5)`, or a timedelta.

        Raises:
            InvalidInput: the time is no timedelta or number, or negative.
        """
        total_ms = to_ms(seconds, "seconds")
        for name, number in {"minutes": minutes, "hours": hours, "days": days}.items():
            if isinstance(number, bool) or not isinstance(number, int | float):
                raise InvalidInput(f"{name} is a number, got {shown(number)}.")
            total_ms += to_ms(number * _SECONDS[name], f"{name}, in seconds,")
        super().advance(total_ms / 1000)
