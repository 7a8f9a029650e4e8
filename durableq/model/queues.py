"""The name of a queue, and its counters."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Final, NamedTuple

from durableq.model.errors import Conflict, InvalidInput
from durableq.model.limits import MAX_QUEUE_NAME_CHARS
from durableq.model.text import shown

DEAD_LETTER_SUFFIX: Final = "-dlq"
#: The option of a queue that is no setting: where its dead letters go.
DEAD_LETTER_QUEUE: Final = "dead_letter_queue"
#: Changes of a queue: settings as they are stored, and the name of a dead-letter queue or None.
Changes = Mapping[str, Any]
_NAME = re.compile(r"[A-Za-z0-9_.-]+")
#: Behind the name of a queue of the SQS endpoint, its account and region, if they are not the
#: default ones.
_PLACE = re.compile(r"[0-9]{12}\.[a-z0-9-]{1,40}")


def dead_letter_name(queue: str) -> str:
    """Return the name of the dead-letter queue of `queue`."""
    return queue + DEAD_LETTER_SUFFIX


def check_new_queue_name(name: object) -> None:
    """Refuse a name that no queue of its own may have.

    Raises:
        InvalidInput: not 1 to 80 of A-Z a-z 0-9 _ . -.
    """
    plain, at, place = name.partition("@") if isinstance(name, str) else ("", "", "")
    is_possible = _NAME.fullmatch(plain) and len(plain) <= MAX_QUEUE_NAME_CHARS
    if not (is_possible and isinstance(name, str)) or (at and not _PLACE.fullmatch(place)):
        raise InvalidInput(
            f"A queue's name has 1 to {MAX_QUEUE_NAME_CHARS} characters of A-Z a-z 0-9 _ . -, "
            f"got {shown(name)}."
        )


def check_queue_name(name: object) -> None:
    """Refuse a name that no queue may have, neither its own nor a private dead-letter queue.

    Raises:
        InvalidInput: the name is not possible; see check_new_queue_name.
    """
    check_new_queue_name(name.removesuffix(DEAD_LETTER_SUFFIX) if isinstance(name, str) else name)


def checked_dead_letter_queue(value: object) -> str | None:
    """Return the name of a dead-letter queue, or None.

    Raises:
        InvalidInput: no queue can have that name.
    """
    if value is not None:
        check_queue_name(value)
    return None if value is None else str(value)


def settings_of_changes(changes: Changes) -> dict[str, Any]:
    """Return the settings among the changes of a queue."""
    return {name: value for name, value in changes.items() if name != DEAD_LETTER_QUEUE}


def check_dead_letter_queue(name: str, wanted: str | None) -> None:
    """Refuse a dead-letter queue that a queue cannot have.

    Raises:
        InvalidInput: the queue itself.
    """
    if wanted == name:
        raise InvalidInput(f"Queue {name!r} cannot be its own dead-letter queue: name another one.")


def still_served(name: str, others: Sequence[str]) -> Conflict:
    """Return the error for a queue that is the dead-letter queue of others."""
    names = ", ".join(map(repr, others))
    return Conflict(
        f"Queue {name!r} is the dead-letter queue of {names}, so it was not deleted. Give them "
        "another one, or force it: then each has its own again."
    )


#: The counters of messages that ended in a queue.
ENDS: Final = (
    "completed",
    "duplicates",
    "discarded",
    "expired",
    "purged",
    "cancelled",
    "replaced",
)


@dataclass(frozen=True, slots=True)
class Counters:
    """The counters of a queue since it was created."""

    sent: int = 0
    moved_in: int = 0
    moved_out: int = 0
    completed: int = 0
    duplicates: int = 0
    discarded: int = 0
    expired: int = 0
    purged: int = 0
    #: Ended by a person or a program before their success.
    cancelled: int = 0
    #: Ended because a newer message with the same replace_key was sent.
    replaced: int = 0
    #: Never stored: dropped at send because the queue was full.
    shed: int = 0
    #: Never stored: another message with the same deduplication id was sent before.
    deduplicated: int = 0

    @property
    def expected(self) -> int:
        """The number of messages that the queue holds if the counters reconcile."""
        return self.sent + self.moved_in - self.moved_out - self.ended

    @property
    def ended(self) -> int:
        """The number of messages that ended in this queue."""
        number: int = sum(attrgetter(*ENDS)(self))
        return number

    def __add__(self, other: Counters) -> Counters:
        """Return the sums of both counters."""
        pairs = zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True)
        return Counters(*(one + another for one, another in pairs))

    def __sub__(self, other: Counters) -> Counters:
        """Return the differences: what was counted since the other."""
        pairs = zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True)
        return Counters(*(one - another for one, another in pairs))


class ApproximateCounts(NamedTuple):
    """The messages of a queue as they stand now, as SQS counts them."""

    #: A receive may find them, now or when others of their group have gone.
    visible: int
    in_flight: int
    #: Not due yet; held dead letters are among them.
    delayed: int


@dataclass(frozen=True, slots=True)
class Counts:
    """The number of messages of a queue in each state."""

    ready: int = 0
    delayed: int = 0
    in_flight: int = 0
    held: int = 0
    #: Behind the head of their group.
    blocked: int = 0

    @property
    def present(self) -> int:
        """The number of messages in the queue."""
        return self.ready + self.delayed + self.in_flight + self.held + self.blocked
