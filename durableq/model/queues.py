"""A queue's settings: what they are, what they may be, and what they are when nobody says."""

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

    #: How long a receive leases a message (SQS: 30 s).
    visibility_timeout_ms: int = 30 * SECOND_MS
    #: How long a message waits before its first receive, unless it says otherwise.
    delay_ms: int = 0
    #: How long an undelivered message is kept, counted from its arrival in this queue.
    retention_ms: int = 14 * DAY_MS
    #: After this many receives without success a message moves to the dead-letter queue.
    max_receives: int = 3
    #: After this many recoveries a dead letter is held for a person.
    max_recoveries: int = 3
    backoff_base_ms: int = 1 * SECOND_MS
    backoff_max_ms: int = 300 * SECOND_MS
    #: How long a completed key is remembered.
    idempotency_ttl_ms: int = 24 * HOUR_MS
    max_body_bytes: int = MAX_BODY_BYTES
    #: 1: messages come and are settled as ever, but none is given to a receiver.
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
        """Return the settings by name."""
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
#: The settings as a user writes them: times in seconds.
OPTIONS: Final = tuple(name.removesuffix("_ms") for name in BOUNDS)


def dead_letter_name(queue: str) -> str:
    """Return the name of the dead-letter queue that is made with `queue`."""
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
    """A queue's settings as a user writes them: times in seconds. See QueueSettings."""

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
    """Return options as QueueSettings names them: times in whole milliseconds.

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
