"""Seconds are what people write; whole milliseconds are what is stored."""

from __future__ import annotations

import math

from durableq.errors import InvalidInput


def to_ms(seconds: float, what: str) -> int:
    """Return seconds as whole milliseconds.

    Raises:
        InvalidInput: not a finite number of at least 0.
    """
    number = isinstance(seconds, (int, float)) and not isinstance(seconds, bool)
    if not number or not math.isfinite(seconds) or seconds < 0:
        raise InvalidInput(f"{what} is a number of seconds of at least 0, got {seconds!r}.")
    return round(seconds * 1000)
