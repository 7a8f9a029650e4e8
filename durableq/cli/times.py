"""Times and durations as the command line takes them."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Final

from durableq.cli import output, rendering
from durableq.model.text import shown

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_DURATION: Final = re.compile(r"([0-9]{1,9}(?:[.][0-9]{1,3})?)([smhd])")


def duration_ms(text: str, option: str) -> int:
    """Return a duration such as 5m in milliseconds.

    Raises:
        Misuse: it is none.
    """
    found = _milliseconds(text)
    if found is None:
        raise output.Misuse(f"{option} is a number with s, m, h or d, such as 5m, got {text!r}.")
    return found


def time_of(text: str, option: str) -> datetime:
    """Return a time, local unless it names its zone.

    Raises:
        Misuse: it is none.
    """
    at = _time(text)
    if at is None:
        raise output.Misuse(
            f"{option} takes a time such as 2027-01-31T09:00 or 2027-01-31T09:00+01:00, got "
            f"{shown(text)}."
        )
    return at


def since_ms(text: str, option: str) -> int:
    """Return the time that a text names, or that is a duration ago, on the wall clock.

    Raises:
        Misuse: it is neither.
    """
    ago_ms, at = _milliseconds(text), _time(text)
    if ago_ms is not None:
        return max(0, rendering.now_ms() - ago_ms)
    if at is None:
        raise output.Misuse(
            f"{option} takes a duration such as 10m, or a time such as 2027-01-31T09:00, got "
            f"{shown(text)}."
        )
    return max(0, round(at.timestamp() * 1000))


def _milliseconds(text: str) -> int | None:
    found = _DURATION.fullmatch(text)
    return None if found is None else round(float(found[1]) * _UNITS[found[2]] * 1000)


def _time(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError):
        return None
