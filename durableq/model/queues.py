"""The settings of a queue with their bounds and defaults, its counters, and its name."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypedDict, Unpack

from durableq.model.arguments import check_known
from durableq.model.errors import InvalidInput
from durableq.model.limits import (
    BODY_CEILING_BYTES,
    DAY_MS,
    HOUR_MS,
    MAX_BODY_BYTES,
    MAX_DELAY_MS,
    MAX_QUEUE_NAME_CHARS,
    MAX_RECEIVES,
    MAX_VISIBILITY_MS,
    SECOND_MS,
)
from durableq.model.text import shown
from durableq.model.units import to_ms

DEAD_LETTER_SUFFIX: Final = "-dlq"
_NAME = re.compile(r"[A-Za-z0-9_.-]+")
_YEARS_MS: Final = 10 * 366 * DAY_MS


@dataclass(frozen=True, slots=True)
class QueueSettings:
    """How a queue treats its messages. Times are whole milliseconds.

    Raises:
        InvalidInput: a value is outside the bounds in BOUNDS.
    """

    #: The length of a lease (SQS: 30 s).
    visibility_timeout_ms: int = 30 * SECOND_MS
    #: The wait of a message before its first receive, unless the sender gives another.
    delay_ms: int = 0
    #: The time that an undelivered message is kept, from its arrival in this queue or its due time.
    retention_ms: int = 14 * DAY_MS
    #: After this many receives without success a message moves to the dead-letter queue.
    max_receives: int = 3
    #: After this many recoveries a dead letter is held for a person.
    max_recoveries: int = 3
    backoff_base_ms: int = 1 * SECOND_MS
    backoff_max_ms: int = 300 * SECOND_MS
    #: The lifetime of a completed idempotency record.
    idempotency_ttl_ms: int = 24 * HOUR_MS
    max_body_bytes: int = MAX_BODY_BYTES
    #: 1: messages are sent and settled as usual, but none is received.
    paused: int = 0

    def __post_init__(self) -> None:
        for name, (least, most) in BOUNDS.items():
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
                raise InvalidInput(
                    f"Queue setting {name} must be a whole number from {least} to {most}, "
                    f"got {shown(value)}."
                )

    def changed(self, changes: Mapping[str, int]) -> QueueSettings:
        """Return these settings with some replaced.

        Raises:
            InvalidInput: no such setting, or a value out of bounds.
        """
        check_known(changes, BOUNDS, "queue setting")
        return dataclasses.replace(self, **changes)

    def as_dict(self) -> dict[str, Any]:
        """Return the settings as a dictionary."""
        return dataclasses.asdict(self)


BOUNDS: Final[Mapping[str, tuple[int, int]]] = {
    "visibility_timeout_ms": (1, MAX_VISIBILITY_MS),
    "delay_ms": (0, MAX_DELAY_MS),
    "retention_ms": (1 * SECOND_MS, _YEARS_MS),
    "max_receives": (1, MAX_RECEIVES),
    "max_recoveries": (0, MAX_RECEIVES),
    "backoff_base_ms": (0, MAX_DELAY_MS),
    "backoff_max_ms": (0, MAX_DELAY_MS),
    "idempotency_ttl_ms": (1, _YEARS_MS),
    "max_body_bytes": (1, BODY_CEILING_BYTES),
    "paused": (0, 1),
}
#: The settings as users write them, with times in seconds.
OPTIONS: Final = tuple(name.removesuffix("_ms") for name in BOUNDS)


def dead_letter_name(queue: str) -> str:
    """Return the name of the dead-letter queue of `queue`."""
    return queue + DEAD_LETTER_SUFFIX


def check_new_queue_name(name: object) -> None:
    """Refuse a name that no ordinary queue may have.

    Raises:
        InvalidInput: not 1 to 80 of A-Z a-z 0-9 _ . -, or it ends in `-dlq`.
    """
    longest = MAX_QUEUE_NAME_CHARS - len(DEAD_LETTER_SUFFIX)
    if not isinstance(name, str) or not _NAME.fullmatch(name) or len(name) > longest:
        raise InvalidInput(
            f"A queue's name has 1 to {longest} characters of A-Z a-z 0-9 _ . -, got {shown(name)}."
        )
    if name.endswith(DEAD_LETTER_SUFFIX):
        raise InvalidInput(
            f"{name!r} is the name of a dead-letter queue: it is made together with "
            f"{name.removesuffix(DEAD_LETTER_SUFFIX)!r}."
        )


def check_queue_name(name: object) -> None:
    """Refuse a name that no queue may have, neither an ordinary one nor a dead-letter queue.

    Raises:
        InvalidInput: the name is not possible; see check_new_queue_name.
    """
    check_new_queue_name(name.removesuffix(DEAD_LETTER_SUFFIX) if isinstance(name, str) else name)


class QueueOptions(TypedDict, total=False):
    """The settings of a queue as users write them, with times in seconds. See QueueSettings."""

    visibility_timeout: float
    delay: float
    retention: float
    max_receives: int
    max_recoveries: int
    backoff_base: float
    backoff_max: float
    idempotency_ttl: float
    max_body_bytes: int
    paused: int


def changes_from(**options: Unpack[QueueOptions]) -> dict[str, int]:
    """Return options under the names of QueueSettings, with times in whole milliseconds.

    Raises:
        InvalidInput: no such option, or not a number of seconds.
    """
    check_known(options, OPTIONS, "queue setting")
    changes: dict[str, Any] = {}
    for name, value in options.items():
        if f"{name}_ms" in BOUNDS:
            changes[f"{name}_ms"] = to_ms(value, name)  # type: ignore[arg-type]
        else:
            changes[name] = value
    return changes


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

    @property
    def expected(self) -> int:
        """The number of messages that the queue holds if the counters reconcile."""
        return self.sent + self.moved_in - self.moved_out - self.ended

    @property
    def ended(self) -> int:
        """The number of messages that ended in this queue."""
        return self.completed + self.duplicates + self.discarded + self.expired + self.purged

    def __add__(self, other: Counters) -> Counters:
        """Return the sums of both counters."""
        pairs = zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True)
        return Counters(*(one + another for one, another in pairs))


@dataclass(frozen=True, slots=True)
class Counts:
    """The number of messages of a queue in each state."""

    ready: int = 0
    delayed: int = 0
    in_flight: int = 0
    held: int = 0

    @property
    def present(self) -> int:
        """The number of messages in the queue."""
        return self.ready + self.delayed + self.in_flight + self.held
