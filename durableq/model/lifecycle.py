"""The life of a message: one table of transitions, and the decisions as pure functions.

Every engine moves messages along EDGES only. The contract's random walks compare each observed
transition with the table, and the diagrams in the README and the docs are drawn from it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Final, NamedTuple, Protocol

from durableq.model.message import (
    FOREVER_MS,
    Failure,
    Message,
    Reason,
    RecordStatus,
    Refusal,
    State,
)

TOO_MANY_RECEIVES: Final = Failure(
    Reason.TOO_MANY_RECEIVES, error_type="", error_message=Reason.TOO_MANY_RECEIVES.sentence
)


class Node(StrEnum):
    """A node of the state diagram. A dead letter is a message in a dead-letter queue."""

    NEW = "[*]"
    READY = "ready"
    DELAYED = "delayed"
    BLOCKED = "blocked"
    IN_FLIGHT = "in_flight"
    DEAD = "dead"
    ENDED = "ended"


class Edge(NamedTuple):
    """A transition: source, target, the operation that makes it, and its condition."""

    source: Node
    target: Node
    operation: str
    when: str = ""


_N, _R, _D, _B, _F, _X, _E = Node

EDGES: tuple[Edge, ...] = (
    Edge(_N, _R, "send"),
    Edge(_N, _D, "send", "with a delay"),
    Edge(_N, _B, "send", "its group has no room"),
    Edge(_R, _E, "send", "a newer one with its replace_key"),
    Edge(_D, _E, "send", "a newer one with its replace_key"),
    Edge(_B, _E, "send", "a newer one with its replace_key"),
    Edge(_B, _R, "fill", "its group has room"),
    Edge(_B, _D, "fill", "its group has room: its delay, or the next token"),
    Edge(_D, _R, "due"),
    Edge(_R, _F, "receive"),
    Edge(_B, _F, "receive", "behind its head, in one batch"),
    Edge(_R, _D, "receive", "its key is in progress, or a retry over the budget, uncounted"),
    Edge(_R, _E, "receive", "a duplicate of a success"),
    Edge(_R, _X, "receive", "a success had another payload, or its key is damaged"),
    Edge(_R, _X, "receive", "max_receives reached, with bury_at=receive"),
    Edge(_R, _F, "lease_again", "by the receipt of its last receive"),
    Edge(_F, _F, "extend"),
    Edge(_F, _R, "extend", "by 0"),
    Edge(_F, _B, "extend", "by 0, behind others of its group"),
    Edge(_F, _X, "extend", "by 0, max_receives reached"),
    Edge(_F, _E, "complete"),
    Edge(_F, _R, "release", "uncounted"),
    Edge(_F, _D, "fail", "wait: backoff, or RetryLater"),
    Edge(_F, _R, "fail", "no wait, or Unavailable with a breaker, uncounted"),
    Edge(_F, _X, "fail", "max_receives reached, or rejected"),
    Edge(_F, _B, "release", "behind others of its group"),
    Edge(_F, _B, "fail", "behind others of its group"),
    Edge(_F, _R, "reclaim", "the lease ended"),
    Edge(_F, _B, "reclaim", "behind others of its group"),
    Edge(_F, _X, "reclaim", "the lease ended, max_receives reached"),
    Edge(_X, _R, "decide", "retry or requeue"),
    Edge(_X, _D, "decide", "retry or requeue, with a delay"),
    Edge(_X, _B, "decide", "retry or requeue, behind others of its group"),
    Edge(_X, _X, "decide", "hold, or release"),
    Edge(_X, _E, "decide", "discard"),
    Edge(_X, _E, "complete", "by a handler of the dead-letter queue"),
    Edge(_R, _R, "redrive", "all of a queue, to another"),
    Edge(_D, _R, "redrive", "all of a queue, to another"),
    Edge(_R, _B, "redrive", "all of a queue, behind others of its group"),
    Edge(_D, _B, "redrive", "all of a queue, behind others of its group"),
    Edge(_R, _E, "cancel"),
    Edge(_D, _E, "cancel"),
    Edge(_B, _E, "cancel"),
    Edge(_R, _D, "reschedule", "later"),
    Edge(_D, _D, "reschedule", "at another time"),
    Edge(_D, _R, "reschedule", "now"),
    Edge(_R, _B, "change", "the queue gets groups"),
    Edge(_D, _B, "change", "the queue gets groups"),
    Edge(_R, _E, "expire", "retention, or expires_in"),
    Edge(_D, _E, "expire", "retention, or expires_in"),
    Edge(_B, _E, "expire", "retention, or expires_in"),
    Edge(_X, _E, "expire", "retention"),
    Edge(_F, _E, "expire", "expires_in, instead of another receive"),
    Edge(_R, _X, "expire", "expires_in, with on_expiry=dead"),
    Edge(_D, _X, "expire", "expires_in, with on_expiry=dead"),
    Edge(_B, _X, "expire", "expires_in, with on_expiry=dead"),
    Edge(_F, _X, "expire", "expires_in, with on_expiry=dead, instead of another receive"),
    Edge(_R, _E, "purge"),
    Edge(_D, _E, "purge"),
    Edge(_B, _E, "purge"),
    Edge(_F, _E, "purge"),
    Edge(_X, _E, "purge"),
)


def node_of(message: Message) -> Node:
    """Return the node of a message. A dead letter is DEAD also while it is leased."""
    if message.source_queue is not None:
        return Node.DEAD
    return Node(message.state.label)


def allowed(source: Node, target: Node) -> bool:
    """Return whether some operation makes this transition."""
    return any(edge.source is source and edge.target is target for edge in EDGES)


class Redeliver(NamedTuple):
    """After a failure: another receive, after this wait in milliseconds."""

    wait_ms: int


class Bury(NamedTuple):
    """After a failure, or at its expiry: move to the dead-letter queue, for this reason."""

    reason: Reason


class Drop(NamedTuple):
    """At its expiry: remove and count the message."""


def backoff_ceiling_ms(receive_count: int, base_ms: int, max_ms: int) -> int:
    """Return the longest wait after receive number `receive_count` (1 is the first)."""
    # 2**40 milliseconds is 34 years: a cap on the exponent keeps the power small.
    return min(max_ms, base_ms << min(receive_count - 1, 40)) if receive_count > 0 else 0


def backoff_ms(receive_count: int, base_ms: int, max_ms: int, rng: float) -> int:
    """Return the wait after a failure: exponential backoff with full jitter.

    Full jitter (a wait drawn evenly from zero to the ceiling) spreads a burst of failures better
    than any other form: Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.

    Args:
        receive_count: receives so far, this one included.
        base_ms: the ceiling after the first receive.
        max_ms: the ceiling after many.
        rng: a random number in [0, 1).
    """
    return int(backoff_ceiling_ms(receive_count, base_ms, max_ms) * rng)


class ExpirySettings(Protocol):
    """The setting of a queue that decides about expired messages; QueueSettings has it."""

    @property
    def on_expiry(self) -> int:
        """0: drop; 1: dead."""
        ...


class RetrySettings(ExpirySettings, Protocol):
    """The settings of a queue that decide about a retry; QueueSettings has them."""

    @property
    def max_receives(self) -> int:
        """Receives without success before a message is dead; 0: no number is too many."""
        ...

    @property
    def backoff_base_ms(self) -> int:
        """The ceiling of the wait after the first failure."""
        ...

    @property
    def backoff_max_ms(self) -> int:
        """The ceiling of the wait after many."""
        ...


def is_exhausted(receive_count: int, max_receives: int) -> bool:
    """Return whether a message has had all its receives; with `max_receives` 0 it never has."""
    return 0 < max_receives <= receive_count


def after_failure(
    failure: Failure,
    receive_count: int,
    settings: RetrySettings,
    rng: float,
    *,
    has_dead_letter_queue: bool,
    is_uncounted: bool = False,
    expires_in_ms: int = FOREVER_MS,
) -> Redeliver | Bury | Drop:
    """Decide between another receive, the dead-letter queue, and the expiry of the message.

    A dead-letter queue has none of its own: only a decision removes a message from it. A message
    waits at most until it expires, so that the next receive meets it then.

    Args:
        failure: the failure of this receive.
        receive_count: receives so far, this one included.
        settings: the settings of the message's queue.
        rng: a random number in [0, 1), for the jitter of the backoff.
        has_dead_letter_queue: whether the queue has a dead-letter queue.
        is_uncounted: whether the queue's breaker does not count it, and holds the message while it
            is open.
        expires_in_ms: the time until the message expires; FOREVER_MS: it does not.
    """
    exhausted = failure.reason.permanent or 0 < settings.max_receives <= receive_count
    if has_dead_letter_queue and exhausted and not is_uncounted:
        return Bury(failure.reason)
    if expires_in_ms <= 0:
        return at_expiry(settings, has_dead_letter_queue=has_dead_letter_queue)
    wait_ms = failure.retry_in_ms
    if wait_ms is None:
        at_once = is_uncounted or failure.reason in {Reason.LEASE_EXPIRED, Reason.WORKER_LOST}
        base_ms, max_ms = settings.backoff_base_ms, settings.backoff_max_ms
        wait_ms = 0 if at_once else backoff_ms(receive_count, base_ms, max_ms, rng)
    return Redeliver(min(wait_ms, expires_in_ms))


def at_expiry(settings: ExpirySettings, *, has_dead_letter_queue: bool) -> Bury | Drop:
    """Decide about a message whose `expires_in` has ended and that no handler has."""
    is_dead = settings.on_expiry and has_dead_letter_queue
    return Bury(Reason.MESSAGE_EXPIRED) if is_dead else Drop()


class Admission(Enum):
    """The decision of a receive about a ready message."""

    DELIVER = "deliver"
    DEFER = "defer"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"
    #: Its `expires_in` has ended: `at_expiry` decides.
    EXPIRE = "expire"
    #: The retention of its queue has ended.
    PAST_RETENTION = "past retention"
    #: It has had all its receives, in a queue that buries at the next receive.
    EXHAUSTED = "exhausted"


@dataclass(frozen=True, slots=True)
class KnownKey:
    """The record of a key, and whether its owner still holds a lease."""

    status: RecordStatus
    payload_hash: bytes
    expires_at_ms: int
    owner_holds_lease: bool


def admit(
    since_ms: int,
    payload_hash: bytes | None,
    record: KnownKey | None,
    retention_ms: int,
    now_ms: int,
    expires_at_ms: int = FOREVER_MS,
    *,
    is_exhausted: bool = False,
) -> Admission:
    """Decide whether a ready message is delivered.

    Args:
        since_ms: the time of arrival in this queue, or of becoming due there if that was later.
        payload_hash: the hash of the payload; None without a key.
        record: the record of the key; None for a new key, and for a dead letter, whose key
            guards nothing until it is redriven.
        retention_ms: the retention of the queue.
        now_ms: the time of the store.
        expires_at_ms: the end of its `expires_in`; FOREVER_MS for none.
        is_exhausted: whether it has had all its receives, in a queue with `bury_at` "receive".
    """
    if expires_at_ms <= now_ms:
        return Admission.EXPIRE
    if since_ms + retention_ms <= now_ms:
        return Admission.PAST_RETENTION
    if is_exhausted:
        return Admission.EXHAUSTED
    if record is None:
        return Admission.DELIVER
    if record.status is RecordStatus.IN_PROGRESS:
        return Admission.DEFER if record.owner_holds_lease else Admission.DELIVER
    if record.expires_at_ms <= now_ms:
        return Admission.DELIVER
    return Admission.DUPLICATE if record.payload_hash == payload_hash else Admission.CONFLICT


def refusal(
    state: State,
    delayed_until_ms: int,
    *,
    is_dead: bool,
    is_behind_key: bool = False,
    is_cancelled: bool = False,
    is_too_late: bool = False,
) -> Refusal | None:
    """Decide whether a message can be cancelled or rescheduled; None: it can.

    Args:
        state: its state.
        delayed_until_ms: its due time, FOREVER_MS for a held dead letter.
        is_dead: whether it is in a dead-letter queue.
        is_behind_key: whether it would be made ready although its key is in progress.
        is_cancelled: whether it would be cancelled.
        is_too_late: whether it would be due when it has expired.
    """
    if is_dead:
        is_held = state is State.DELAYED and delayed_until_ms == FOREVER_MS
        return Refusal.HELD if is_held else Refusal.DEAD
    if state is State.IN_FLIGHT:
        return Refusal.IN_FLIGHT
    if state is State.BLOCKED and not is_cancelled:
        return Refusal.BLOCKED
    if is_too_late:
        return Refusal.TOO_LATE
    return Refusal.DEFERRED if is_behind_key else None


def diagram() -> str:
    """Return EDGES as a Mermaid state diagram; operations between the same nodes share an arrow."""
    arrows: dict[tuple[Node, Node], list[str]] = {}
    for edge in EDGES:
        label = f"{edge.operation} ({edge.when})" if edge.when else edge.operation
        arrows.setdefault((edge.source, edge.target), []).append(label)
    lines = ["stateDiagram-v2"]
    for (source, target), labels in arrows.items():
        end = "[*]" if target is Node.ENDED else target
        lines.append(f"    {source} --> {end}: {' / '.join(labels)}")
    return "\n".join(lines)
