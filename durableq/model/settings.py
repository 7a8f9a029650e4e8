"""The settings of a queue: how it treats its messages, and its limits.

`SETTINGS` says how each is stored and written. Limits are off by default. A limit that is off is
stored as 0, and written as None in Python and as `off` on the command line.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum, IntFlag
from typing import Any, Final, Literal, NamedTuple, TypedDict, Unpack

from durableq.model.arguments import check_known, listed
from durableq.model.drafts import check_expiry
from durableq.model.errors import InvalidInput
from durableq.model.limits import (
    BODY_CEILING_BYTES,
    DAY_MS,
    HOUR_MS,
    MAX_BODY_BYTES,
    MAX_BURST,
    MAX_DELAY_MS,
    MAX_EXPIRES_IN_MS,
    MAX_GROUP_CONCURRENCY,
    MAX_RATE,
    MAX_RECEIVES,
    MAX_VISIBILITY_MS,
    MIN_RATE,
    SECOND_MS,
)
from durableq.model.queues import DEAD_LETTER_QUEUE, checked_dead_letter_queue
from durableq.model.text import shown
from durableq.model.units import Seconds, to_ms

_YEARS_MS: Final = 10 * 366 * DAY_MS
#: The bound of what is not bounded.
MANY: Final = 10**15


class Kind(Enum):
    """How a setting is written."""

    #: Seconds; stored as whole milliseconds.
    TIME = "a number of seconds"
    #: A whole number.
    WHOLE = "a whole number"
    #: Messages a second.
    RATE = "a number a second"
    #: A part of 1.
    SHARE = "a share"
    #: True or False; stored as 1 and 0.
    SWITCH = "True or False"
    #: One of a few names; stored as its position.
    CHOICE = "a name"


class Setting(NamedTuple):
    """A setting of a queue: its kind, and its bounds as it is stored."""

    kind: Kind
    least: float
    most: float
    #: Whether it can be off, stored as 0 beside the bounds.
    can_be_off: bool = False
    #: Of a choice.
    names: tuple[str, ...] = ()


def _time(least_ms: int, most_ms: int, *, can_be_off: bool = False) -> Setting:
    return Setting(Kind.TIME, least_ms, most_ms, can_be_off)


def _whole(least: int, most: int, *, can_be_off: bool = False) -> Setting:
    return Setting(Kind.WHOLE, least, most, can_be_off)


def _limit(most: int) -> Setting:
    return _whole(1, most, can_be_off=True)


def _choice(*names: str) -> Setting:
    return Setting(Kind.CHOICE, 0, len(names) - 1, names=names)


_SWITCH: Final = Setting(Kind.SWITCH, 0, 1)
_RATE: Final = Setting(Kind.RATE, MIN_RATE, MAX_RATE, can_be_off=True)

#: Every setting, under the name in the store. A time's name ends with `_ms`, which users leave out.
SETTINGS: Final[Mapping[str, Setting]] = {
    "visibility_timeout_ms": _time(1, MAX_VISIBILITY_MS),
    "delay_ms": _time(0, MAX_DELAY_MS),
    "retention_ms": _time(1 * SECOND_MS, _YEARS_MS),
    "max_receives": _whole(1, MAX_RECEIVES, can_be_off=True),
    "max_recoveries": _whole(0, MAX_RECEIVES),
    "backoff_base_ms": _time(0, MAX_DELAY_MS),
    "backoff_max_ms": _time(0, MAX_DELAY_MS),
    "idempotency_ttl_ms": _time(1, _YEARS_MS),
    "max_body_bytes": _whole(1, BODY_CEILING_BYTES),
    "paused": _SWITCH,
    "rate": _RATE,
    "burst": _limit(MAX_BURST),
    "max_in_flight": _limit(MANY),
    "group_concurrency": _limit(MAX_GROUP_CONCURRENCY),
    "group_on_dead": _choice("continue", "hold"),
    "group_rate": _RATE,
    "group_burst": _limit(MAX_BURST),
    "breaker": _SWITCH,
    "breaker_share": Setting(Kind.SHARE, 0.01, 1),
    "breaker_minimum": _whole(1, 1_000),
    "breaker_window_ms": _time(1 * SECOND_MS, HOUR_MS),
    "breaker_open_ms": _time(1, DAY_MS),
    "breaker_open_max_ms": _time(1, DAY_MS),
    "breaker_probes": _whole(1, 100),
    "slow_start_ms": _time(1, HOUR_MS, can_be_off=True),
    "retry_share": Setting(Kind.SHARE, 0.01, 1, can_be_off=True),
    "max_backlog": _limit(MANY),
    "max_backlog_bytes": _limit(MANY),
    "on_full": _choice("raise", "block", "shed"),
    "block_timeout_ms": _time(1, HOUR_MS),
    "min_free_bytes": _limit(MANY),
    "deduplication_window_ms": _time(1 * SECOND_MS, DAY_MS),
    "expires_in_ms": _time(1, MAX_EXPIRES_IN_MS, can_be_off=True),
    "on_expiry": _choice("drop", "dead"),
    "priority_aging_ms": _time(1, DAY_MS, can_be_off=True),
    "bury_at": _choice("failure", "receive"),
}
#: Those of limits, of which the operations of a queue without limits read none.
LIMIT_SETTINGS: Final = tuple(SETTINGS)[tuple(SETTINGS).index("rate") :]
#: The settings as users write them.
OPTIONS: Final = tuple(name.removesuffix("_ms") for name in SETTINGS)
#: Settings that mean nothing while another is off.
_DEPENDS_ON: Final = {
    "burst": "rate",
    "group_on_dead": "group_concurrency",
    "group_rate": "group_concurrency",
    "group_burst": "group_rate",
}


class Limits(IntFlag):
    """The limits of a queue that are on: stored with it, so that one read tells whether there are
    any.
    """

    RATE = 1
    IN_FLIGHT = 2
    BREAKER = 4
    RETRY_SHARE = 8
    GROUPS = 16
    BACKLOG = 32
    BACKLOG_BYTES = 64
    FREE_SPACE = 128
    EXPIRY = 256
    AGING = 512
    #: Expired messages are dead.
    DEAD_ON_EXPIRY = 1024
    GROUP_RATE = 2048
    #: In place of IN_FLIGHT: a number so low that a receive counts the leases, without a counter.
    FEW_IN_FLIGHT = 4096
    #: `bury_at` is "receive".
    BURY_AT_RECEIVE = 8192
    #: No setting: dead letters of others come to this queue, which is an ordinary one.
    SERVES = 16384


#: Limits that a receive evaluates.
RECEIVE_LIMITS: Final = int(
    Limits.RATE | Limits.IN_FLIGHT | Limits.FEW_IN_FLIGHT | Limits.BREAKER | Limits.RETRY_SHARE
)
#: Limits that a send evaluates.
SEND_LIMITS: Final = int(Limits.BACKLOG | Limits.BACKLOG_BYTES | Limits.FREE_SPACE)
_SETTING_OF: Final = {
    Limits.RATE: "rate",
    Limits.IN_FLIGHT: "max_in_flight",
    Limits.BREAKER: "breaker",
    Limits.RETRY_SHARE: "retry_share",
    Limits.GROUPS: "group_concurrency",
    Limits.BACKLOG: "max_backlog",
    Limits.BACKLOG_BYTES: "max_backlog_bytes",
    Limits.FREE_SPACE: "min_free_bytes",
    Limits.EXPIRY: "expires_in_ms",
    Limits.AGING: "priority_aging_ms",
    Limits.DEAD_ON_EXPIRY: "on_expiry",
    Limits.GROUP_RATE: "group_rate",
    Limits.BURY_AT_RECEIVE: "bury_at",
}


@dataclass(frozen=True, slots=True)
class QueueSettings:
    """How a queue treats its messages. Times are whole milliseconds; 0 is a limit that is off.

    Raises:
        InvalidInput: a value is outside the bounds in SETTINGS, or contradicts another.
    """

    #: The length of a lease (SQS: 30 s).
    visibility_timeout_ms: int = 30 * SECOND_MS
    #: The wait of a message before its first receive, unless the sender gives another.
    delay_ms: int = 0
    #: The time that an undelivered message is kept, from its arrival in this queue or its due time.
    retention_ms: int = 14 * DAY_MS
    #: After this many receives without success a message moves to the dead-letter queue; 0: never.
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
    #: Messages received in a second, by all workers together.
    rate: float = 0
    #: Messages received at once after a quiet time; 0 is a tenth of the rate, at least 1.
    burst: int = 0
    #: Messages in flight at once.
    max_in_flight: int = 0
    #: Messages of one group in flight at once; 1 keeps their order.
    group_concurrency: int = 0
    #: 0: a group goes on after a dead letter; 1: it waits until that is decided.
    group_on_dead: int = 0
    #: As rate and burst, for each group.
    group_rate: float = 0
    group_burst: int = 0
    #: 1: a circuit breaker stops the queue when what it calls fails.
    breaker: int = 0
    #: It opens when this share of at least `breaker_minimum` messages failed in its window.
    breaker_share: float = 0.5
    breaker_minimum: int = 10
    breaker_window_ms: int = 30 * SECOND_MS
    #: How long it stays open the first time; twice as long each time in a row.
    breaker_open_ms: int = 10 * SECOND_MS
    breaker_open_max_ms: int = 300 * SECOND_MS
    #: Messages in flight while it probes.
    breaker_probes: int = 3
    #: After the breaker has closed, the rate grows to all of it in this time.
    slow_start_ms: int = 10 * SECOND_MS
    #: The part of the deliveries that may be retries.
    retry_share: float = 0
    #: Messages, and bytes of their bodies, that the queue stores at most.
    max_backlog: int = 0
    max_backlog_bytes: int = 0
    #: A send to a full queue raises (0), waits for room (1), or drops and counts the message (2).
    on_full: int = 0
    #: How long a send waits for room.
    block_timeout_ms: int = 30 * SECOND_MS
    #: A send is refused while the file system has less free space.
    min_free_bytes: int = 0
    #: How long a deduplication id is remembered (SQS: 5 minutes).
    deduplication_window_ms: int = 300 * SECOND_MS
    #: How long a message may wait for its success, unless the sender gives another time.
    expires_in_ms: int = 0
    #: An expired message is dropped and counted (0), or moved to the dead-letter queue (1).
    on_expiry: int = 0
    #: One level of priority is worth this much waiting; 0: a higher priority always goes first.
    priority_aging_ms: int = 0
    #: A message of `max_receives` is dead with its last failure or ended lease (0), or a message
    #: whose lease ends is ready at once and dies instead of one receive too many (1; SQS).
    bury_at: int = 0

    def __post_init__(self) -> None:
        for name, setting in SETTINGS.items():
            _check(name, setting, getattr(self, name))
        if self.breaker_open_ms > self.breaker_open_max_ms:
            raise InvalidInput(
                f"breaker_open ({self.breaker_open_ms / 1000:.15g} s) is longer than "
                f"breaker_open_max ({self.breaker_open_max_ms / 1000:.15g} s). Change one of them."
            )
        if self.expires_in_ms:
            check_expiry(self.delay_ms, self.expires_in_ms)

    def changed(self, changes: Mapping[str, float]) -> QueueSettings:
        """Return these settings with some replaced.

        Raises:
            InvalidInput: no such setting, a value out of bounds, or one that contradicts another.
        """
        check_known(changes, SETTINGS, "queue setting")
        settings = dataclasses.replace(self, **changes)  # type: ignore[arg-type]
        for name, other in _DEPENDS_ON.items():
            if changes.get(name) and not getattr(settings, other):
                raise InvalidInput(f"{name} means nothing while {other} is off: set {other} too.")
        return settings

    def as_dict(self) -> dict[str, Any]:
        """Return the settings as a dictionary."""
        return dataclasses.asdict(self)

    def as_options(self) -> dict[str, Any]:
        """Return the settings as users write them: the inverse of `changes_from`."""
        return {
            name.removesuffix("_ms"): _option(setting, getattr(self, name))
            for name, setting in SETTINGS.items()
        }

    @property
    def limits(self) -> Limits:
        """The limits that are on."""
        return Limits(sum(limit for limit, name in _SETTING_OF.items() if getattr(self, name)))


class QueueOptions(TypedDict, total=False):
    """The settings of a queue as users write them; times are seconds or timedelta.

    See QueueSettings.
    """

    visibility_timeout: Seconds
    delay: Seconds
    retention: Seconds
    max_receives: int | None
    max_recoveries: int
    backoff_base: Seconds
    backoff_max: Seconds
    idempotency_ttl: Seconds
    max_body_bytes: int
    paused: bool
    rate: float | None
    burst: int | None
    max_in_flight: int | None
    group_concurrency: int | None
    group_on_dead: Literal["continue", "hold"]
    group_rate: float | None
    group_burst: int | None
    breaker: bool
    breaker_share: float
    breaker_minimum: int
    breaker_window: Seconds
    breaker_open: Seconds
    breaker_open_max: Seconds
    breaker_probes: int
    slow_start: Seconds | None
    retry_share: float | None
    max_backlog: int | None
    max_backlog_bytes: int | None
    on_full: Literal["raise", "block", "shed"]
    block_timeout: Seconds
    min_free_bytes: int | None
    deduplication_window: Seconds
    expires_in: Seconds | None
    on_expiry: Literal["drop", "dead"]
    priority_aging: Seconds | None
    bury_at: Literal["failure", "receive"]
    #: The queue where its dead letters go; None: its own, NAME-dlq.
    dead_letter_queue: str | None


def changes_from(**options: Unpack[QueueOptions]) -> dict[str, Any]:
    """Return options under the names of QueueSettings, as they are stored.

    Raises:
        InvalidInput: no such option, or not a value of its kind.
    """
    check_known(options, (*OPTIONS, DEAD_LETTER_QUEUE), "queue setting")
    changes: dict[str, Any] = {}
    for option, value in options.items():
        if option == DEAD_LETTER_QUEUE:
            changes[option] = checked_dead_letter_queue(value)
            continue
        name = option if option in SETTINGS else f"{option}_ms"
        changes[name] = _stored(option, SETTINGS[name], value)
    return changes


def _stored(option: str, setting: Setting, value: Any) -> Any:
    """Return an option as it is stored; its bounds are checked by QueueSettings."""
    if setting.can_be_off:
        if value is None:
            return 0
        if type(value) in {int, float, timedelta} and not value:
            raise InvalidInput(
                f"{option} is more than 0, got {shown(value)}; None, or off on "
                "the command line, switches it off."
            )
    match setting.kind:
        case Kind.TIME:
            return to_ms(value, option)
        case Kind.SWITCH:
            return int(value) if isinstance(value, bool) else value
        case Kind.CHOICE:
            if not isinstance(value, str) or value not in setting.names:
                names = listed(list(map(repr, setting.names)))
                raise InvalidInput(f"{option} is one of {names}, got {shown(value)}.")
            return setting.names.index(value)
    return value


def _option(setting: Setting, value: Any) -> Any:
    """Return a stored value as users write it."""
    if setting.can_be_off and not value:
        return None
    match setting.kind:
        case Kind.TIME:
            return value / 1000
        case Kind.SWITCH:
            return bool(value)
        case Kind.CHOICE:
            return setting.names[value]
    return value


def _check(name: str, setting: Setting, value: Any) -> None:
    """Check a stored value.

    Raises:
        InvalidInput: it is of another type, or out of bounds.
    """
    is_real = setting.kind in {Kind.RATE, Kind.SHARE}
    types = (int, float) if is_real else (int,)
    is_number = isinstance(value, types) and not isinstance(value, bool)
    if is_number and setting.can_be_off and value == 0:
        return
    if is_number and setting.least <= value <= setting.most:
        return
    raise InvalidInput(_out_of_bounds(name, setting, value))


def _out_of_bounds(name: str, setting: Setting, value: Any) -> str:
    """Return the sentence about a stored value, in the unit in which users write it."""
    least, most, kind = setting.least, setting.most, "a whole number"
    if setting.kind in {Kind.RATE, Kind.SHARE}:
        kind = "a number"
    if setting.kind is Kind.TIME:
        kind, least, most = "a number of seconds", least / 1000, most / 1000
        if type(value) is int and abs(value) < MANY:
            value = value / 1000
    off = ", or off" if setting.can_be_off else ""
    return (
        f"Queue setting {name.removesuffix('_ms')} must be {kind} from {least:.16g} to "
        f"{most:.16g}{off}, got {shown(value)}."
    )
