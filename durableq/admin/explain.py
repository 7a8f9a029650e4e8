"""Why a message is not being delivered right now, in sentences."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from durableq.admin import limits
from durableq.admin.readers import ADVICE, Readers
from durableq.model.codec import decode_attributes
from durableq.model.errors import UnknownMessage
from durableq.model.message import Event, IdempotencyRecord, Message, RecordStatus, State
from durableq.model.schedules import SCHEDULE_ATTRIBUTE, SLOT_ATTRIBUTE
from durableq.model.settings import QueueSettings
from durableq.model.text import visible
from durableq.model.units import span
from durableq.store.core import Capability, QueueInfo, Store, WorkerInfo
from durableq.supervisor.liveness import Liveness, liveness


@dataclass(frozen=True, slots=True)
class Explanation:
    """The state of a message, and the reason why it is not being handled."""

    message_id: str
    #: ready, delayed, in_flight, held, dead or ended.
    state: str
    #: Whole sentences, the most important first.
    because: list[str]


def explain(store: Store, message_id: str, now_ms: int) -> Explanation:
    """Explain why a message is not being delivered right now.

    Args:
        store: the store of the message.
        message_id: the message.
        now_ms: the wall clock.

    Raises:
        UnknownMessage: there is no such message, and no history of one.
    """
    message = store.require(Capability.INSPECT).message(message_id)
    if message is None:
        return Explanation(message_id, "ended", [_ended(store, message_id)])
    reasons = [*_reasons(store, message, now_ms), *_origin(message)]
    return Explanation(message_id, _state(message), reasons)


def _origin(message: Message) -> Iterator[str]:
    """Yield the schedule that sent a message, and its slot."""
    attributes = decode_attributes(message.attributes)
    name, slot = attributes.get(SCHEDULE_ATTRIBUTE), attributes.get(SLOT_ATTRIBUTE)
    if name is None or not (message.key or "").startswith(f"{name}@"):
        return
    of = "as a person asked (durableq schedule run)" if slot is None else f"for its slot {slot}"
    yield f"It was sent by schedule {visible(str(name), 80)}, {visible(of, 80)}."


def _state(message: Message) -> str:
    if message.held:
        return "held"
    if message.source_queue is not None and message.state is not State.IN_FLIGHT:
        return "dead"
    return message.state.label


def _reasons(store: Store, message: Message, now_ms: int) -> Iterator[str]:
    if message.source_queue is not None:
        yield _dead(store, message)
    if message.held:
        return
    if message.state is State.IN_FLIGHT:
        yield _in_flight(store, message)
    if message.expires_at_ms is not None:
        yield _expiry(store, message, message.expires_at_ms, now_ms)
    if message.lease_left_ms:
        return
    behind = _behind(store, message)
    waits = message.state is State.DELAYED and message.delayed_until_ms > now_ms
    if waits:
        yield behind or _delayed(store, message, now_ms)
    queue = store.require(Capability.INSPECT).queue(message.queue)
    if queue.settings.paused:
        yield (
            f"Queue {queue.name!r} is paused: nothing is received from it. "
            f"To go on: durableq queue resume {queue.name}."
        )
        return
    yield from _unread(store, message)
    if message.state is State.BLOCKED:
        yield from _blocked(store, message, queue.settings, now_ms)
    elif not waits:
        yield from _ready(message, queue, behind)


def _expiry(store: Store, message: Message, expires_at_ms: int, now_ms: int) -> str:
    """Return when a message expires, and what becomes of it."""
    settings = store.settings(message.queue)
    fate = "moved to the dead-letter queue" if settings.on_expiry else "dropped"
    at = _moment(expires_at_ms)
    if expires_at_ms > now_ms:
        left = span(expires_at_ms - now_ms)
        return f"It expires {at} (in {left}): unless it has succeeded by then, it is {fate}."
    if message.state is State.IN_FLIGHT:
        return f"It expired {at}: its handler may still complete it, otherwise it is {fate}."
    return f"It expired {at}: by the next receive that meets it, or by maintenance, it is {fate}."


def _unread(store: Store, message: Message) -> Iterator[str]:
    """Yield a sentence if no running process receives from its queue."""
    readers, queue = Readers(store.require(Capability.FLEET).workers()), message.queue
    if message.source_queue is None:
        lack = readers.lack(queue)
        if lack:
            yield f"{lack[0].upper()}{lack[1:]}. {ADVICE}"
    elif readers.of(queue) == 0:
        yield (
            f"No running recovery process decides about the dead letters of "
            f"{message.source_queue!r}. Start one: durableq recover; or decide: durableq dlq."
        )
    else:
        yield "It waits for a recovery process, or for you (durableq dlq)."


def _ready(message: Message, queue: QueueInfo, behind: str) -> Iterator[str]:
    """Explain a message that a receive would return."""
    if behind:
        yield behind
    if message.source_queue is None and message.state is not State.IN_FLIGHT:
        held = list(limits.held_back(queue, is_retry=message.receive_count > 0))
        if held:
            yield from held
            return
        is_ready = message.state is State.READY
        others = queue.counts.ready - is_ready
        yield (
            f"{'It is ready' if is_ready else 'Its delay is over'}: "
            f"the next receive of {queue.name!r} may bring it"
            + (f"; {others} others are ready there too." if others else ".")
        )


def _blocked(store: Store, message: Message, settings: QueueSettings, now_ms: int) -> Iterator[str]:
    """Yield which message of its group a blocked one waits for, and why that takes time."""
    name = message.group or ""
    group = store.require(Capability.INSPECT).group(message.queue, name)
    yield limits.blocked(settings, name, group)
    if group.active and not (settings.group_on_dead and group.dead):
        head = group.active[0]
        yield f"Message {head.id}: {next(_reasons(store, head, now_ms), 'It is ready.')}"


def _behind(store: Store, message: Message) -> str:
    """Return how another message with the same key affects this one, or an empty text."""
    if message.key is None or message.source_queue is not None:
        return ""
    record = store.require(Capability.IDEMPOTENCY).record(message.queue, message.key)
    if record is None or record.message_id == message.id:
        return ""
    key = visible(record.key)
    if record.status is RecordStatus.COMPLETED:
        return (
            f"Key {key} has succeeded already (message {record.message_id}): at its next receive "
            "this one ends as a duplicate, or as a conflict if its payload is another."
        )
    return (
        f"Key {key} is in progress: message {record.message_id} has it"
        f"{_with_owner(store, record)}. This one waits, uncounted, until that is settled."
    )


def _with_owner(store: Store, record: IdempotencyRecord) -> str:
    owner = _owner(store, record.message_id)
    return f", with {owner.name} (pid {owner.pid})" if owner is not None else ""


def _in_flight(store: Store, message: Message) -> str:
    owner = _owner(store, message.id)
    who = "a receiver that is not registered as a worker"
    if owner is not None:
        who = f"{owner.name} (pid {owner.pid})"
    if not message.lease_left_ms:
        return (
            f"It was with {who}, and its lease has ended: the next receive of {message.queue!r} "
            "counts that, and tries it again or buries it."
        )
    until = f"its lease ends in {span(message.lease_left_ms)}, unless it is extended"
    if owner is None:
        return f"It is with {who}; {until}."
    if liveness(owner) is Liveness.DEAD:
        return f"It was with {who}, which is dead; a survivor gives it back, or {until}."
    return f"It is with {who} right now; {until}."


def _delayed(store: Store, message: Message, now_ms: int) -> str:
    wait = span(message.delayed_until_ms - now_ms)
    until = f"It is delayed until {_moment(message.delayed_until_ms)} (in {wait})"
    history = store.require(Capability.DEAD_LETTERS).history(message.id)
    if history and history[-1].event is Event.RESCHEDULED:
        why = f": {visible(history[-1].reason, 200)}" if history[-1].reason else ""
        return f"{until}, as it was rescheduled by {visible(history[-1].actor, 200)}{why}."
    failures = [event for event in history if event.event is Event.FAILED]
    if message.receive_count and failures:
        last = failures[-1]
        error = ": ".join(filter(None, (last.error_type, visible(last.error_message, 200))))
        return f"{until}, the backoff after receive {message.receive_count} failed: {error}."
    return f"{until}, as its sender, its queue or a decision asked."


def _dead(store: Store, message: Message) -> str:
    dead_letter = store.require(Capability.DEAD_LETTERS).dead_letter(message.id)
    if dead_letter is None:
        return f"It stands in {message.queue!r}."
    error = ""
    if dead_letter.last_failure is not None:
        failure = dead_letter.last_failure
        parts = (failure.error_type, visible(failure.error_message, 200))
        error = f" ({': '.join(filter(None, parts))})"
    sentence = f"It is dead, because {dead_letter.reason.sentence}{error}"
    if not message.held:
        return f"{sentence}."
    held = [event for event in dead_letter.history if event.event is Event.HELD]
    why = f": {visible(held[-1].reason, 200)}" if held and held[-1].reason else ""
    return (
        f"{sentence}; and it is held for a person{why}. To decide: durableq dlq redrive "
        f"{message.id}, or durableq dlq discard {message.id}."
    )


def _ended(store: Store, message_id: str) -> str:
    history = store.require(Capability.DEAD_LETTERS).history(message_id)
    if not history:
        raise UnknownMessage(message_id)
    last = history[-1]
    if last.event is Event.REPLACED:
        newer = last.detail.get("by")
        return f"It has ended: {last.event.sentence}, {newer}, {_moment(last.at_ms)}."
    if last.event in {Event.DISCARDED, Event.CANCELLED, Event.EXPIRED}:
        why = f": {visible(last.reason, 200)}" if last.reason else ""
        actor = f" by {visible(last.actor, 200)}" if last.event is Event.CANCELLED else ""
        return f"It has ended: {last.event.sentence}{actor}, {_moment(last.at_ms)}{why}."
    return "It has ended: completed, recognised as a duplicate, or purged."


def _owner(store: Store, message_id: str) -> WorkerInfo | None:
    """Return the worker that has a message leased, or None."""
    fleet = store.require(Capability.FLEET)
    for worker in fleet.workers():
        if any(message.id == message_id for message in fleet.leases_of(worker.owner_id)):
            return worker
    return None


def _moment(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000).astimezone().isoformat(timespec="seconds")
