"""Schedules as applications define them, and the messages that they send.

A slot is a time on the wall clock at which a schedule sends one message.
"""

from __future__ import annotations

import enum
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Final

from durableq.model import codec
from durableq.model.codec import Json
from durableq.model.drafts import draft
from durableq.model.errors import Conflict, InvalidInput, NotFound
from durableq.model.limits import CATCH_UP, MAX_CATCH_UP
from durableq.model.message import Draft
from durableq.model.queues import check_queue_name
from durableq.model.text import shown
from durableq.model.units import Seconds, check_whole

#: The attributes of a message that tell its schedule and its slot.
SCHEDULE_ATTRIBUTE: Final = "schedule"
SLOT_ATTRIBUTE: Final = "slot"

_NAME: Final = re.compile("[A-Za-z0-9_.-]{1,76}")


class CatchUp(enum.Enum):
    """The rule about slots that no worker has sent in time."""

    #: The newest one is sent.
    LATEST = "latest"
    #: All are sent, at most `catch_up_limit`, the newest.
    ALL = "all"
    #: None is sent, if it is more than a minute late.
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Schedule:
    """A schedule, as an application defines it. See `schedule_of`."""

    name: str
    #: The queue into which it sends.
    queue: str
    #: A cron expression of five fields, or `every N s`.
    timing: str
    #: The time zone of the expression.
    tz: str = "UTC"
    catch_up: CatchUp = CatchUp.LATEST
    catch_up_limit: int = CATCH_UP
    #: JSON text.
    body: str = "null"
    #: JSON text of an object.
    attributes: str = "{}"
    priority: int = 0
    group: str | None = None
    expires_in_ms: int | None = None

    def to_json(self) -> str:
        """Return the form in which it is stored, without its name and queue."""
        values = asdict(self) | {"catch_up": self.catch_up.value}
        del values["name"], values["queue"]
        return json.dumps(values, sort_keys=True)

    @classmethod
    def from_json(cls, name: str, queue: str, text: str) -> Schedule:
        """Read a stored schedule."""
        values: dict[str, Any] = json.loads(text)
        return cls(name, queue, **values | {"catch_up": CatchUp(values["catch_up"])})

    def has_timing_of(self, other: Schedule) -> bool:
        """Whether its slots are those of another definition."""
        return (self.timing, self.tz) == (other.timing, other.tz)


def not_for_dead_letters(queue: str) -> Conflict:
    """Return the error for a schedule of a private dead-letter queue."""
    return Conflict(
        f"A schedule sends into a queue; {queue!r} is a dead-letter queue, to which only failed "
        "messages come."
    )


def schedule_of(
    name: str,
    queue: str,
    timing: str,
    tz: str,
    *,
    catch_up: str = "latest",
    catch_up_limit: int = CATCH_UP,
    body: Json = None,
    attributes: Mapping[str, str | int | float] | None = None,
    priority: int = 0,
    group: str | None = None,
    expires_in: Seconds | None = None,
) -> Schedule:
    """Return a checked schedule.

    Args:
        name: the name of the schedule.
        queue: the queue into which it sends.
        timing: a checked timing.
        tz: a checked time zone.
        catch_up: `latest`, `all` or `none`.
        catch_up_limit: for `all`.
        body: of each message, JSON.
        attributes: of each message, at most 8.
        priority: of each message.
        group: of each message.
        expires_in: of each message, from its send.

    Raises:
        InvalidBody: the body is no JSON value.
        InvalidInput: a name, a number or an option that cannot be.
    """
    check_schedule_name(name)
    check_queue_name(queue)
    if not isinstance(catch_up, str) or catch_up not in {one.value for one in CatchUp}:
        raise InvalidInput(f'catch_up is "latest", "all" or "none", got {shown(catch_up)}.')
    check_whole(catch_up_limit, "catch_up_limit", 1, MAX_CATCH_UP)
    if isinstance(body, bytes | bytearray):
        raise InvalidInput("The body of a schedule's messages is a JSON value, not bytes.")
    made = draft(body, attributes=attributes, priority=priority, group=group, expires_in=expires_in)
    given = attributes or {}
    for attribute in (SCHEDULE_ATTRIBUTE, SLOT_ATTRIBUTE):
        if attribute in given:
            raise InvalidInput(f"The attribute {attribute!r} is set by the schedule: leave it out.")
    found = Schedule(
        *(name, queue, timing, tz, CatchUp(catch_up), catch_up_limit, str(made.body)),
        attributes=json.dumps(dict(given)),
        priority=made.priority,
        group=made.flow.group if made.flow else None,
        expires_in_ms=made.flow.expires_in_ms if made.flow else None,
    )
    draft_of(found, 0)  # with the two attributes more
    return found


def check_schedule_name(name: object) -> None:
    """Check the name of a schedule.

    Raises:
        InvalidInput: it cannot be one.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InvalidInput(
            f"The name of a schedule is 1 to 76 characters of A-Z a-z 0-9 _ . -, got {shown(name)}."
        )


def slot_text(slot_ms: int) -> str:
    """Return a slot as keys and attributes have it: `2026-11-30T03:00:00Z`."""
    return f"{datetime.fromtimestamp(slot_ms / 1000, UTC):%Y-%m-%dT%H:%M:%SZ}"


def draft_of(schedule: Schedule, slot_ms: int) -> Draft:
    """Return the message of a slot; its key is that of the slot."""
    slot = slot_text(slot_ms)
    return _draft(schedule, f"{schedule.name}@{slot}", {SLOT_ATTRIBUTE: slot})


def run_draft(schedule: Schedule, token: str) -> Draft:
    """Return a message that a person asks for, under a key of its own."""
    return _draft(schedule, f"{schedule.name}@run-{token}", {})


def _draft(schedule: Schedule, key: str, attributes: dict[str, str]) -> Draft:
    expires_in_ms = schedule.expires_in_ms
    return draft(
        codec.decode(schedule.body),
        key=key,
        attributes={
            **json.loads(schedule.attributes),
            SCHEDULE_ATTRIBUTE: schedule.name,
            **attributes,
        },
        priority=schedule.priority,
        group=schedule.group,
        expires_in=None if expires_in_ms is None else expires_in_ms / 1000,
    )


def event_of(name: str, action: str, number: int = 0) -> dict[str, Any]:
    """Return the detail of an event of the history of the queue.

    Args:
        name: the schedule.
        action: added, changed, paused, resumed, run, removed, or skipped.
        number: of skipped slots.
    """
    detail: dict[str, Any] = {"schedule": name, "action": action}
    return detail | {"number": number} if number else detail


def unknown_schedule(name: str) -> NotFound:
    """Return the error for a schedule that is not stored."""
    return NotFound(
        f"There is no schedule {shown(name)}. `durableq schedule list` shows them; an application "
        "stores its schedules when it opens the database."
    )
