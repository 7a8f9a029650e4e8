"""The slots of cron expressions, of their short names and of intervals.

cronsim reads the expressions, as Debian's cron does, with its rules for daylight saving time. An
expression that names minutes and hours means local times: one that the clocks leave out comes at
the end of the gap, one that they show twice comes the first time. With a star in front of minutes
or hours it means intervals, which go on in real time.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from itertools import islice
from typing import Final
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from durableq.model.errors import InvalidInput
from durableq.model.limits import MAX_INTERVAL_MS, MIN_INTERVAL_MS
from durableq.model.slots import Timing
from durableq.model.text import shown
from durableq.model.units import to_ms

_SHORT: Final = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_INTERVAL: Final = re.compile("every ([0-9]{1,9}) s")
_FIELDS: Final = 5
#: Any time, from which the first slot is looked for.
_SOME_MS: Final = 1_700_000_000_000


class CronTiming:
    """The slots of a cron expression.

    Args:
        expression: five fields, read by cronsim.
        zone: the time zone of the expression.
    """

    def __init__(self, expression: str, zone: tzinfo) -> None:
        self._expression = expression
        self._zone = zone

    def _all_after(self, wall_ms: int) -> Iterator[int]:
        """Yield the slots after a time, in order, without an end."""
        local = datetime.fromtimestamp(wall_ms // 1000, self._zone)
        last_ms = wall_ms
        for slot in CronSim(self._expression, local):
            slot_ms = round(slot.timestamp()) * 1000
            # Two local times that the clocks leave out are one slot; the first of two equal ones
            # may be in the past.
            if slot_ms > last_ms:
                last_ms = slot_ms
                yield slot_ms

    def after(self, wall_ms: int) -> int:
        """Return the first slot after a time."""
        return next(self._all_after(wall_ms))

    def newest(self, after_ms: int, until_ms: int, limit: int) -> list[int]:
        """Return the slots after a time, up to another, in order: the newest, at most `limit`.

        After a year of silence the many that are not asked for are not walked through.
        """
        if after_ms >= until_ms or limit < 1:
            return []
        first = [*islice(self._until(after_ms, until_ms), limit + 1)]
        if len(first) <= limit:
            return first
        width_ms = first[-1] - after_ms
        while True:
            start_ms = max(after_ms, until_ms - width_ms)
            found = [*self._until(start_ms, until_ms)]
            if len(found) >= limit or start_ms == after_ms:
                return found[-limit:]
            width_ms *= 2

    def _until(self, after_ms: int, until_ms: int) -> Iterator[int]:
        for slot_ms in self._all_after(after_ms):
            if slot_ms > until_ms:
                return
            yield slot_ms


class IntervalTiming:
    """Slots at the whole multiples of an interval since 1970, in UTC.

    Args:
        interval_ms: the interval.
    """

    def __init__(self, interval_ms: int) -> None:
        self._interval_ms = interval_ms

    def after(self, wall_ms: int) -> int:
        """Return the first slot after a time."""
        return (wall_ms // self._interval_ms + 1) * self._interval_ms

    def newest(self, after_ms: int, until_ms: int, limit: int) -> list[int]:
        """Return the slots after a time, up to another, in order: the newest, at most `limit`."""
        first, last = after_ms // self._interval_ms + 1, until_ms // self._interval_ms
        return [slot * self._interval_ms for slot in range(max(first, last - limit + 1), last + 1)]


def checked_timing(every: str | timedelta, tz: str | None) -> tuple[str, str]:
    """Return a timing and its time zone in the form in which they are stored.

    Args:
        every: a cron expression of five fields, a short name such as `@hourly`, or an interval.
        tz: the name of a time zone; None for UTC.

    Raises:
        InvalidInput: no expression, one that never comes, or a time zone that does not exist.
    """
    if isinstance(every, timedelta):
        if tz is not None:
            raise InvalidInput("An interval has no time zone: leave tz out, or give an expression.")
        return _interval(every), "UTC"
    if not isinstance(every, str):
        raise InvalidInput(
            'A schedule is a cron expression, as in "0 3 * * *", or a timedelta, got '
            f"{shown(every)}."
        )
    zone = "UTC" if tz is None else tz
    if not isinstance(zone, str):
        raise InvalidInput(f"tz is the name of a time zone, got {shown(zone)}.")
    text = " ".join(every.split())
    expression = _SHORT.get(text.lower(), text)
    if _INTERVAL.fullmatch(text):
        raise InvalidInput(
            f"For an interval give a timedelta, as in timedelta(seconds=10), got {shown(every)}."
        )
    timing_of(expression, zone)
    return expression, zone


def _interval(every: timedelta) -> str:
    interval_ms = to_ms(every, "The interval of a schedule")
    if interval_ms % 1000 or not MIN_INTERVAL_MS <= interval_ms <= MAX_INTERVAL_MS:
        raise InvalidInput(
            "The interval of a schedule is whole seconds, from one second to "
            f"{MAX_INTERVAL_MS // 86_400_000} days, got {shown(every)}."
        )
    return f"every {interval_ms // 1000} s"


@lru_cache(maxsize=1_000)
def timing_of(text: str, tz: str) -> Timing:
    """Return the slots of a timing.

    Raises:
        InvalidInput: it is none, it never comes, or this machine does not know the time zone.
    """
    if found := _INTERVAL.fullmatch(text):
        return IntervalTiming(int(found[1]) * 1000)
    if text.startswith("@"):
        raise InvalidInput(
            f"There is no schedule {shown(text)}. There are {', '.join(sorted(_SHORT))}."
        )
    if len(text.split()) != _FIELDS:
        raise InvalidInput(
            f"A cron expression has five fields (minute, hour, day of the month, month, day of the "
            f"week), got {shown(text)}. For seconds give an interval: timedelta(seconds=10)."
        )
    timing = CronTiming(text, _zone(tz))
    try:
        timing.after(_SOME_MS)
    except CronSimError as error:
        raise InvalidInput(f"{shown(text)} is no cron expression: {error}.") from None
    except (StopIteration, OverflowError, ValueError):
        raise InvalidInput(f"{shown(text)} names a time that never comes.") from None
    return timing


def in_zone(slot_ms: int, tz: str) -> datetime:
    """Return a slot as a local time.

    Raises:
        InvalidInput: this machine does not know the time zone.
    """
    return datetime.fromtimestamp(slot_ms / 1000, _zone(tz))


def _zone(name: str) -> tzinfo:
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (OSError, LookupError, ValueError, TypeError):
        raise InvalidInput(
            f"There is no time zone {shown(name)} on this machine. Names are as in "
            '"Europe/Berlin"; where the system has none at all, install tzdata.'
        ) from None
