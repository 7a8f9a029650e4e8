"""`durableq peek`, `show` and `explain`: read-only views of messages."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Annotated, Any, Final

import typer

from durableq.cli import output, tables
from durableq.cli.help import option
from durableq.cli.options import Db, Json, Limit, Queue, chosen_queue, opened
from durableq.cli.rendering import (
    BODY_COLUMNS,
    body_text,
    ended_words,
    event_document,
    event_words,
    message_document,
    moment,
    moment_and_age,
    now_ms,
    receives_before_death,
    state_words,
)
from durableq.model.errors import UnknownMessage
from durableq.model.message import HistoryEvent, Message
from durableq.model.text import visible
from durableq.model.units import span
from durableq.store.core import Capability

After = Annotated[
    str | None, option(placeholder="ID", help="Start after this message, for the next page.")
]
MessageId = Annotated[str, typer.Argument(metavar="ID", help="Id of the message.")]


def peek(
    queue: Queue = None,
    limit: Limit = 20,
    after: After = None,
    db: Db = None,
    as_json: Json = False,
) -> None:
    """List messages of a queue without receiving them.

    Messages of every state are listed in order of id. QUEUE may be a dead-letter queue.

    Example: durableq peek --queue orders --limit 5
    """
    with opened(db) as store:
        found = store.require(Capability.INSPECT).peek(chosen_queue(store, queue), limit, after)
    if as_json:
        output.document([message_document(message) for message in found])
        return
    tables.table(
        ("ID", "STATE", "PRIORITY", "RECEIVED", "SENT", "KEY", "BODY"),
        [_peek_row(message) for message in found],
    )


def show(message_id: MessageId, db: Db = None, as_json: Json = False) -> None:
    """Show a message: body, state and history.

    A message that has ended is shown as long as its history is kept.

    Example: durableq show 17
    """
    with opened(db) as store:
        found, history = (
            store.require(Capability.INSPECT).message(message_id),
            store.require(Capability.DEAD_LETTERS).history(message_id),
        )
    if found is None and not history:
        raise UnknownMessage(message_id)
    if as_json:
        known: dict[str, Any] = {"id": message_id, "state": "ended"}
        if found is not None:
            before = receives_before_death(found, history)
            known = message_document(found) | {"receives_before_death": before}
        output.document(known | {"history": [event_document(event) for event in history]})
    else:
        print_message(message_id, found, history)


def explain(message_id: MessageId, db: Db = None, as_json: Json = False) -> None:
    """Explain why a message is not delivered right now.

    Possible reasons: it is delayed, in flight, dead, behind another message of its key, or in a
    paused queue.

    Example: durableq explain 17
    """
    from durableq.admin.explain import explain as explained

    with opened(db) as store:
        answer = explained(store, message_id, now_ms())
    if as_json:
        output.document(dataclasses.asdict(answer))
        return
    output.line(f"Message {answer.message_id}: {answer.state.replace('_', ' ')}.")
    for sentence in answer.because:
        output.line(f"  {sentence}")


COMMANDS: Final = (peek, show, explain)


def print_message(message_id: str, found: Message | None, history: list[HistoryEvent]) -> None:
    """Print a message and its history, and the traceback of its last failure."""
    lines = [("message", message_id)]
    if found is None:
        lines.append(("state", ended_words(history)))
    else:
        lines += _facts(found, history)
    tables.fields(lines)
    if not history:
        return
    output.line()
    tables.table(
        ("WHEN", "EVENT", "QUEUE", "BY", "WHY"),
        [(moment(e.at_ms), e.event, e.queue, e.actor, event_words(e)) for e in history],
    )
    trace = next((e.traceback for e in reversed(history) if e.traceback), "")
    if trace:
        output.line()
        for text in trace.splitlines():
            output.line(f"    {text}")  # indented, so that it cannot be mistaken for our output


def _facts(found: Message, history: Sequence[HistoryEvent]) -> list[tuple[str, str]]:
    optional = {
        "key": found.key,
        "attributes": found.attributes,
        "priority": str(found.priority) if found.priority else None,
        "source queue": found.source_queue,
        "recoveries": str(found.recovery_count) if found.recovery_count else None,
    }
    return [
        ("state", state_words(found)),
        ("sent", moment_and_age(found.sent_at_ms)),
        ("receives", _receives(found, history)),
        *((name, value) for name, value in optional.items() if value is not None),
        ("body", body_text(found)),
    ]


def _receives(found: Message, history: Sequence[HistoryEvent]) -> str:
    """Return the receives of a message; of a dead letter those before and after its burial."""
    before = receives_before_death(found, history)
    if before is None:
        return str(found.receive_count)
    return f"{before} before it died, {found.receive_count} since"


def _peek_row(message: Message) -> tuple[Any, ...]:
    state = "held" if message.held else message.state.label
    return (
        message.id,
        state,
        message.priority,
        message.receive_count,
        f"{span(now_ms() - message.sent_at_ms)} ago",
        message.key or "",
        visible(body_text(message), BODY_COLUMNS),
    )
