"""The time, as the application of a request has it."""

from __future__ import annotations

import time

from durableq.serve.context import Context


def now_ms(context: Context) -> int:
    """Return ms of the wall clock."""
    clock = context.app.clock
    return clock.wall_ms() if clock is not None else time.time_ns() // 1_000_000
