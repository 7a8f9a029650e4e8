"""Messages, queues and records as words and as JSON. The JSON names are stable."""

from __future__ import annotations

import base64
import dataclasses
import json
import time
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from durableq.model import codec
from durableq.model.dead_letters import DeadLetterFilter, RedriveTask
from durableq.model.errors import InvalidBody
from durableq.model.message import (
    DeadLetter,
    Event,
    HistoryEvent,
    IdempotencyRecord,
    Message,
    Reason,
    State,
)
from durableq.model.progress import Progress
from durableq.model.settings import LIMIT_SETTINGS, SETTINGS, Kind, QueueSettings, Setting
from durableq.model.text import visible
from durableq.model.units import span
from durableq.store.core import QueueInfo

BODY_COLUMNS: Final = 60
ERROR_COLUMNS: Final = 60
#: Characters of a body that `show` prints.
FOLDED_CHARS: Final = 1_000
_ENDS: Final = {Event.DISCARDED, Event.CANCELLED, Event.EXPIRED}


def now_ms() -> int:
    """Return the wall clock in milliseconds, the unit of stored times."""
    return time.time_ns() // 1_000_000


def moment(at_ms: int) -> str:
    """Return a time in the local zone, in ISO form."""
    return datetime.fromtimestamp(at_ms / 1000).astimezone().isoformat(timespec="seconds")


def moment_and_age(at_ms: int) -> str:
    """Return a time and its age."""
    return f"{moment(at_ms)} ({ago(at_ms)})"


def ago(at_ms: int) -> str:
    """Return the age of a time."""
    return f"{span(now_ms() - at_ms)} ago"


def body_text(message: Message) -> str:
    """Return a body on one line: JSON as stored, bytes as their number and beginning."""
    body = message.body
    if isinstance(body, bytes):
        return f"{len(body)} bytes: {body[:BODY_COLUMNS]!r}"
    return str(body)  # not a str if another program has written to the file


def whole_body(message: Message) -> str:
    """Return a body on one line; bytes as Python writes them."""
    return repr(message.body) if isinstance(message.body, bytes) else str(message.body)


def folded_body(message: Message) -> str:
    """Return a body on one line, or its beginning and how to see the rest."""
    text = body_text(message)
    more = len(text) - FOLDED_CHARS
    if more <= 0:
        return text
    rest = f"({more:,} more characters: durableq show {message.id} --body)"
    return f"{text[:FOLDED_CHARS]} … {rest}"


def body_cell(message: Message) -> str:
    """Return the beginning of a body, for a table."""
    return visible(body_text(message), BODY_COLUMNS)


def state_words(message: Message) -> str:
    """Return a message's state in words."""
    where = f"in {message.queue}"
    if message.held:
        return f"held {where} for a person's decision"
    if message.state is State.IN_FLIGHT:
        return f"in flight {where}; its lease ends in {span(message.lease_left_ms)}"
    if message.state is State.DELAYED:
        wait = span(message.delayed_until_ms - now_ms())
        return f"delayed {where} until {moment(message.delayed_until_ms)} (in {wait})"
    return f"ready {where}"


def progress_words(progress: Progress) -> str:
    """Return the progress of a message in words."""
    told = f", {visible(progress.text)}" if progress.text else ""
    return f"{progress.percent} %{told}, reported {ago(progress.at_ms)}"


def ended_words(history: list[HistoryEvent]) -> str:
    """Return in words how a message ended, from its history."""
    last = history[-1]
    if last.event in _ENDS:
        return f"ended: {last.event.sentence}, {moment_and_age(last.at_ms)}"
    return "ended: completed, recognised as a duplicate, or purged"


def event_words(event: HistoryEvent) -> str:
    """Return why an event happened; of a schedule, what was done."""
    if event.event is Event.SCHEDULE:
        number = f" {event.detail['number']} slots" if "number" in event.detail else ""
        return f"{event.detail.get('schedule')} {event.detail.get('action')}{number}"
    error = ": ".join(part for part in (event.error_type, event.error_message) if part)
    return error or event.reason


def dead_letters(number: int) -> str:
    """Return a number of dead letters, in words."""
    return f"{number} dead letter{'' if number == 1 else 's'}"


def rate_words(rate: float | None) -> str:
    """Return a rate in words."""
    return "no limit" if rate is None else f"{rate:.15g}/s"


def messages(number: int) -> str:
    """Return a number of messages, in words."""
    return f"{number} message{'' if number == 1 else 's'}"


def message_document(message: Message) -> dict[str, Any]:
    """Return a message as JSON."""
    return {
        "id": message.id,
        "queue": message.queue,
        "state": message.state.label,
        "held": message.held,
        **_body(message),
        "key": message.key,
        "group": message.group,
        "attributes": json.loads(message.attributes) if message.attributes else {},
        "priority": message.priority,
        "receive_count": message.receive_count,
        "recovery_count": message.recovery_count,
        "generation": message.generation,
        "sent_at_ms": message.sent_at_ms,
        "enqueued_at_ms": message.enqueued_at_ms,
        "delayed_until_ms": message.delayed_until_ms or None,
        "expires_at_ms": message.expires_at_ms,
        "lease_left_ms": message.lease_left_ms,
        "source_queue": message.source_queue,
    }


def receives_before_death(message: Message, history: Sequence[HistoryEvent]) -> int | None:
    """Return the receives of a dead letter before its last burial; None for other messages.

    The burial resets the message's own count. The history has each failed receive, and each
    conflict of a key, which ends a receive before a handler is called; or the burial has their
    number, where an ended lease is no failure.
    """
    if message.source_queue is None:
        return None
    count = 0
    for event in history:
        if event.event in {Event.REQUEUED, Event.RETRIED}:
            count = 0
        elif event.queue == message.source_queue and _ended_a_receive(event):
            count = event.detail.get("receives", count + 1)
    return count


def receives_words(message: Message, history: Sequence[HistoryEvent]) -> str:
    """Return the number of receives of a message; of a dead letter those before its death too."""
    before = receives_before_death(message, history)
    if before is None:
        return str(message.receive_count)
    return f"{before} before it died, {message.receive_count} since"


def _ended_a_receive(event: HistoryEvent) -> bool:
    conflict = event.event is Event.BURIED and event.reason in {
        Reason.IDEMPOTENCY_CONFLICT,
        Reason.TOO_MANY_RECEIVES,
    }
    return conflict or event.event in {Event.FAILED, Event.LEASE_EXPIRED}


def _body(message: Message) -> dict[str, Any]:
    """Return the body under the name of its format."""
    if isinstance(message.body, bytes):
        return {"body_base64": base64.b64encode(message.body).decode()}
    try:
        return {"body": codec.decode(message.body)}
    except InvalidBody:
        return {"body_text": message.body}


def event_document(event: HistoryEvent) -> dict[str, Any]:
    """Return a history event as JSON."""
    return event._asdict() | {"event": str(event.event), "detail": dict(event.detail)}


def dead_letter_document(dead_letter: DeadLetter) -> dict[str, Any]:
    """Return a dead letter as JSON, with its history."""
    return message_document(dead_letter.message) | {
        "reason": str(dead_letter.reason),
        "fingerprint": dead_letter.fingerprint,
        "died_at_ms": dead_letter.died_at_ms,
        "receives_before_death": receives_before_death(dead_letter.message, dead_letter.history),
        "max_recoveries": dead_letter.max_recoveries,
        "history": [event_document(event) for event in dead_letter.history],
    }


def redrive_document(task: RedriveTask) -> dict[str, Any]:
    """Return a redrive task as JSON."""
    is_filter = isinstance(task.wanted, DeadLetterFilter)
    wanted = dataclasses.asdict(task.wanted if is_filter else DeadLetterFilter())
    return dataclasses.asdict(task) | {
        "wanted": wanted | {"whole_queue": task.whole_queue},
        "decision": {"name": task.word, **dataclasses.asdict(task.decision)},
        "verdict": task.word,  # deprecated name of decision.name, until 0.3
        "note": task.decision.reason,  # deprecated name of decision.reason, until 0.3
    }


def redrive_result(task: RedriveTask) -> dict[str, Any]:
    """Return the outcome of a redrive task as JSON."""
    described = redrive_document(task)
    return {"redrive_task": described, "move": described}  # move: deprecated name, until 0.3


def queue_document(info: QueueInfo) -> dict[str, Any]:
    """Return a queue as JSON."""
    return {
        "name": info.name,
        "dead_letter_queue": info.dead_letter_queue,
        "counts": dataclasses.asdict(info.counts),
        "counters": dataclasses.asdict(info.counters),
        "totals": dataclasses.asdict(info.counters),  # deprecated name, until 0.3
        "oldest_ready_ms": info.oldest_ready_ms,
        "settings": info.settings.as_dict(),
        "limits": dataclasses.asdict(info.limits),
    }


def record_document(record: IdempotencyRecord) -> dict[str, Any]:
    """Return an idempotency record as JSON."""
    return dataclasses.asdict(record) | {
        "status": record.status.label,
        "payload_hash": record.payload_hash.hex(),
        "result": None if record.result is None else json.loads(record.result),
    }


def setting_words(settings: QueueSettings, *, limits: bool = True) -> dict[str, str]:
    """Return settings by the names of their options, as the command line takes them.

    Args:
        settings: of a queue.
        limits: whether to return those of limits too.
    """
    words, written = {}, settings.as_options()
    for name, setting in SETTINGS.items():
        option = name.removesuffix("_ms")
        if limits or name not in LIMIT_SETTINGS:
            words[option] = _words(setting, written[option])
    return words


def limit_words(settings: QueueSettings) -> str:
    """Return the limits that are on, in a few words; an empty text for none."""
    words = setting_words(settings)
    new, written = QueueSettings().as_options(), settings.as_options()
    names = [name.removesuffix("_ms") for name in LIMIT_SETTINGS]
    return ", ".join(f"{name} {words[name]}" for name in names if written[name] != new[name])


def _words(setting: Setting, value: Any) -> str:
    if value is None:
        return "off"
    match setting.kind:
        case Kind.TIME:
            return f"{value:.15g} s"
        case Kind.SWITCH:
            return "on" if value else "off"
        case Kind.RATE | Kind.SHARE:
            return f"{value:.15g}"
    return str(value)
