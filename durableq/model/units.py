"""Seconds in arguments, whole milliseconds in storage, and checks of numbers."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final, TypeAlias

from durableq.model.errors import InvalidInput
from durableq.model.limits import MAX_DELAY_MS
from durableq.model.text import shown

#: A length of time in arguments: seconds, or a timedelta.
Seconds: TypeAlias = float | timedelta

#: Thirty million years: a longer time is a mistake.
_LONGEST_SECONDS: Final = 1e15
_DAYS: Final = MAX_DELAY_MS // 86_400_000
_SPANS: Final = (("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1_000))


def to_ms(seconds: Seconds, what: str, most_ms: int | None = None) -> int:
    """Return a length of time as whole milliseconds.

    Args:
        seconds: the argument.
        what: the subject of the error message.
        most_ms: the maximum; None means that the caller checks it.

    Raises:
        InvalidInput: neither a timedelta nor a number, less than 0, or over the limit.
    """
    if isinstance(seconds, timedelta):
        seconds = seconds.total_seconds()
    number = isinstance(seconds, (int, float)) and not isinstance(seconds, bool)
    if not number or not 0 <= seconds <= _LONGEST_SECONDS:
        raise InvalidInput(f"{what} is a number of seconds of at least 0, got {shown(seconds)}.")
    if most_ms is not None and seconds * 1000 > most_ms:
        most = f"{most_ms / 1000:.0f}"
        raise InvalidInput(f"{what} is at most {most} seconds, got {shown(seconds)}.")
    return round(seconds * 1000)


def check_whole(number: int, what: str, least: int, most: int) -> None:
    """Check that a number is whole and from `least` to `most`.

    Raises:
        InvalidInput: it is of another type, or out of bounds.
    """
    if type(number) is not int or not least <= number <= most:
        says = f"{what} is a whole number from {least} to {most}, got {shown(number)}."
        raise InvalidInput(says)


def due_ms(delay_ms: int, at_ms: int | None, now_ms: int) -> int:
    """Return the time at which rescheduled messages are due.

    Args:
        delay_ms: the wait from now.
        at_ms: the time instead; None for `delay_ms`.
        now_ms: the clock of `at_ms`.

    Raises:
        InvalidInput: the delay is negative, or the time is more than MAX_DELAY_MS ahead.
    """
    if at_ms is None:
        check_whole(delay_ms, "The delay of a message in ms", 0, MAX_DELAY_MS)
        return now_ms + delay_ms
    if at_ms - now_ms > MAX_DELAY_MS:
        raise InvalidInput(
            f"A message can be delayed by at most {_DAYS} days: give an earlier time."
        )
    return at_ms


def wall_ms(at: datetime) -> int:
    """Return a date as milliseconds of the wall clock.

    Raises:
        InvalidInput: it is no datetime, or without a time zone.
    """
    if not isinstance(at, datetime) or at.tzinfo is None:
        raise InvalidInput(
            f"A time is a datetime with a time zone, got {shown(at)}: datetime.now(UTC) + "
            "timedelta(hours=1), or local_time.astimezone()."
        )
    return round(at.timestamp() * 1000)


def span(milliseconds: int) -> str:
    """Return a duration in its largest whole unit: 90 s is `1 min`."""
    for unit, size in _SPANS:
        if milliseconds >= size:
            return f"{milliseconds // size} {unit}"
    return f"{max(0, milliseconds)} ms"


def is_whole_span(milliseconds: int) -> bool:
    """Return whether `span` tells all of a duration: 120 s, not 90 s."""
    size = next((size for _, size in _SPANS if milliseconds >= size), 1)
    return milliseconds % size == 0
