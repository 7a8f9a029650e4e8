"""The life of a message: one table of edges, and the two decisions taken on the way.

Every engine moves messages along these edges and no others; the contract's random walks check
each observed move against EDGES, and the diagram in the README and docs is drawn from it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import NamedTuple

from durableq.model.backoff import backoff_ms
from durableq.model.message import Failure, Message, Reason, RecordStatus
from durableq.model.queues import QueueSettings


class Place(StrEnum):
    """Where a message can be. A dead letter is a message that stands in a dead-letter queue."""

    NEW = "[*]"
    READY = "ready"
    DELAYED = "delayed"
    IN_FLIGHT = "in_flight"
    DEAD = "dead"
    ENDED = "ended"


class Edge(NamedTuple):
    """One move: from where, to where, by which verb, and when."""

    source: Place
    target: Place
    verb: str
    when: str = ""


_N, _R, _D, _F, _X, _E = Place

EDGES: tuple[Edge, ...] = (
    Edge(_N, _R, "send"),
    Edge(_N, _D, "send", "with a delay"),
    Edge(_D, _R, "due"),
    Edge(_R, _F, "receive"),
    Edge(_R, _D, "receive", "its key is in progress, uncounted"),
    Edge(_R, _E, "receive", "a duplicate of a success"),
    Edge(_R, _X, "receive", "a success had another payload"),
    Edge(_F, _F, "extend"),
    Edge(_F, _E, "complete"),
    Edge(_F, _R, "release", "uncounted"),
    Edge(_F, _D, "fail", "wait: backoff, or RetryLater"),
    Edge(_F, _R, "fail", "no wait"),
    Edge(_F, _X, "fail", "max_receives reached, or rejected"),
    Edge(_F, _R, "reclaim", "the lease ended"),
    Edge(_F, _X, "reclaim", "the lease ended, max_receives reached"),
    Edge(_X, _R, "decide", "retry or requeue"),
    Edge(_X, _D, "decide", "retry or requeue, with a delay"),
    Edge(_X, _X, "decide", "hold"),
    Edge(_X, _E, "decide", "discard"),
    Edge(_X, _E, "complete", "by a handler of the dead-letter queue"),
    Edge(_R, _E, "expire", "retention"),
    Edge(_D, _E, "expire", "retention"),
    Edge(_X, _E, "expire", "retention"),
    Edge(_R, _E, "purge"),
    Edge(_D, _E, "purge"),
    Edge(_F, _E, "purge"),
    Edge(_X, _E, "purge"),
)


def place(message: Message) -> Place:
    """Return where a message is. Inside its queue a dead letter is leased like any other."""
    if message.source_queue is not None:
        return Place.DEAD
    return Place(message.state.label)


def allowed(source: Place, target: Place) -> bool:
    """Return whether some verb makes this move."""
    return any(edge.source is source and edge.target is target for edge in EDGES)


class Again(NamedTuple):
    """After a failure: another receive, after this wait."""

    wait_ms: int


class Bury(NamedTuple):
    """After a failure: to the dead-letter queue, for this reason."""

    reason: Reason


def after_failure(
    failure: Failure,
    receive_count: int,
    settings: QueueSettings,
    rng: float,
    *,
    has_dead_letter_queue: bool,
) -> Again | Bury:
    """Decide between another try and the dead-letter queue.

    A dead-letter queue has none of its own: nothing leaves it but by a decision.

    Args:
        failure: what happened.
        receive_count: receives so far, this one included.
        settings: the queue's.
        dice: in [0, 1), thrown by the caller, for the backoff's jitter.
        has_dead_letter_queue: whether there is somewhere to bury it.
    """
    exhausted = failure.reason.permanent or receive_count >= settings.max_receives
    if has_dead_letter_queue and exhausted:
        return Bury(failure.reason)
    if failure.retry_in_ms is not None:
        return Again(failure.retry_in_ms)
    if failure.reason in {Reason.LEASE_EXPIRED, Reason.WORKER_LOST}:
        return Again(0)
    return Again(backoff_ms(receive_count, settings.backoff_base_ms, settings.backoff_max_ms, rng))


class Admission(Enum):
    """What a receive does with a ready message that it meets."""

    DELIVER = "deliver"
    DEFER = "defer"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"
    EXPIRE = "expire"


@dataclass(frozen=True, slots=True)
class KnownKey:
    """What a receive knows of a key: its record, and whether the owner still holds a lease."""

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
) -> Admission:
    """Decide whether a ready message is delivered.

    Args:
        since_ms: when it came to this queue, or became due there if that was later.
        payload_hash: of its payload; None without a key.
        record: what is known of its key; None for a key never seen, and for a dead letter,
            whose key guards nothing until it is redriven.
        retention_ms: the queue's.
        now_ms: the store's time.
    """
    if since_ms + retention_ms <= now_ms:
        return Admission.EXPIRE
    if record is None:
        return Admission.DELIVER
    if record.status is RecordStatus.IN_PROGRESS:
        return Admission.DEFER if record.owner_holds_lease else Admission.DELIVER
    if record.expires_at_ms <= now_ms:
        return Admission.DELIVER
    return Admission.DUPLICATE if record.payload_hash == payload_hash else Admission.CONFLICT


def diagram() -> str:
    """Return EDGES as a Mermaid state diagram; several verbs between two places share an arrow."""
    arrows: dict[tuple[Place, Place], list[str]] = {}
    for edge in EDGES:
        label = f"{edge.verb} ({edge.when})" if edge.when else edge.verb
        arrows.setdefault((edge.source, edge.target), []).append(label)
    lines = ["stateDiagram-v2"]
    for (source, target), labels in arrows.items():
        end = "[*]" if target is Place.ENDED else target
        lines.append(f"    {source} --> {end}: {' / '.join(labels)}")
    return "\n".join(lines)
