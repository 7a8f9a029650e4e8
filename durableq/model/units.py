"""Seconds in arguments, whole milliseconds in storage, and checks of numbers."""

from __future__ import annotations

from typing import Final

from durableq.model.errors import InvalidInput
from durableq.model.text import shown

#: Thirty million years: a longer time is a mistake.
_LONGEST_SECONDS: Final = 1e15
_SPANS: Final = (("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1_000))


def to_ms(seconds: float, what: str, most_ms: int | None = None) -> int:
    """Return seconds as whole milliseconds.

    Args:
        seconds: the argument.
        what: the subject of the error message.
        most_ms: the maximum; None means that the caller checks it.

    Raises:
        InvalidInput: not a number of at least 0, or over the limit.
    """
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


def span(milliseconds: int) -> str:
    """Return a duration in its largest whole unit: 90 s is `1 min`."""
    for unit, size in _SPANS:
        if milliseconds >= size:
            return f"{milliseconds // size} {unit}"
    return f"{max(0, milliseconds)} ms"
