"""Looking: `status`, `peek`, `show`. Nothing here changes anything."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, Final

import typer

from durableq.app import DurableQ
from durableq.books import Totals
from durableq.cli import output
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
    queue_document,
    state_words,
)
from durableq.errors import UnknownMessage
from durableq.message import HistoryEvent, Message
from durableq.store import QueueInfo
from durableq.text import visible
from durableq.units import span

After = Annotated[
    str | None, typer.Option(metavar="ID", help="Go on after this message: the next page.")
]
MessageId = Annotated[str, typer.Argument(metavar="ID", help="A message's id.")]

_STATUS: Final = (
    *("QUEUE", "READY", "DELAYED", "IN_FLIGHT", "DEAD", "HELD", "OLDEST"),
    *("SENT", "COMPLETED", "DUPLICATES", "DISCARDED", "EXPIRED", "PURGED"),
)


def status(db: Db = None, as_json: Json = False) -> None:
    """Show each queue: what is there in each state, what has become of the rest; and the workers.

    DEAD are the messages in the queue's dead-letter queue, HELD those of them that wait for a
    person; OLDEST is how long the longest-waiting ready message has waited.

    Example: durableq status
    """
    with opened(db) as store:
        infos = {info.name: info for info in store.queues()}
        workers = store.workers()
    if as_json:
        queues = [queue_document(info) for info in infos.values()]
        people = [dataclasses.asdict(worker) for worker in workers]
        output.document({"database": DurableQ(db).url, "queues": queues, "workers": people})
        return
    output.table(
        _STATUS,
        [
            _status_row(info, infos[info.dead_letter_queue])
            for info in infos.values()
            if info.dead_letter_queue is not None
        ],
    )
    output.line()
    if not workers:
        output.line("No workers.")
        return
    rows = [(w.name, w.pid, moment_and_age(w.started_at_ms)) for w in workers]
    output.table(("WORKER", "PID", "STARTED"), rows)


def peek(
    queue: Queue = None,
    limit: Limit = 20,
    after: After = None,
    db: Db = None,
    as_json: Json = False,
) -> None:
    """List messages of a queue in order of id, in whatever state, without receiving them.

    A dead-letter queue can be named too.

    Example: durableq peek --queue orders --limit 5
    """
    with opened(db) as store:
        found = store.peek(chosen_queue(store, queue), limit, after)
    if as_json:
        output.document([message_document(message) for message in found])
        return
    output.table(
        ("ID", "STATE", "PRIORITY", "RECEIVED", "SENT", "KEY", "BODY"),
        [_peek_row(message) for message in found],
    )


def show(message_id: MessageId, db: Db = None, as_json: Json = False) -> None:
    """Show one message: what it says, where it is, and everything exceptional that happened to it.

    Also of a message that has ended, as long as its history is kept.

    Example: durableq show 17
    """
    with opened(db) as store:
        found, history = store.message(message_id), store.history(message_id)
    if found is None and not history:
        raise UnknownMessage(message_id)
    if as_json:
        known = {"id": message_id, "state": "ended"} if found is None else message_document(found)
        output.document(known | {"history": [event_document(event) for event in history]})
    else:
        print_message(message_id, found, history)


COMMANDS: Final = (status, peek, show)


def print_message(message_id: str, found: Message | None, history: list[HistoryEvent]) -> None:
    """Print a message and its history, and the traceback of its last failure."""
    lines = [("message", message_id)]
    if found is None:
        lines.append(("state", ended_words(history)))
    else:
        lines += _facts(found)
    output.fields(lines)
    if not history:
        return
    output.line()
    output.table(
        ("WHEN", "EVENT", "QUEUE", "BY", "WHY"),
        [(moment(e.at_ms), e.event, e.queue, e.actor, event_words(e)) for e in history],
    )
    trace = next((e.traceback for e in reversed(history) if e.traceback), "")
    if trace:
        output.line()
        for text in trace.splitlines():
            output.line(f"    {text}")  # so that no line of it passes for one of ours


def _facts(found: Message) -> list[tuple[str, str]]:
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
        ("receives", str(found.receive_count)),
        *((name, value) for name, value in optional.items() if value is not None),
        ("body", body_text(found)),
    ]


def _status_row(info: QueueInfo, dead: QueueInfo) -> tuple[Any, ...]:
    counts, totals = info.counts, _sum(info.totals, dead.totals)
    oldest = "-" if info.oldest_ready_ms is None else span(now_ms() - info.oldest_ready_ms)
    return (
        *(info.name, counts.ready, counts.delayed, counts.in_flight),
        *(dead.counts.present, dead.counts.held, oldest),
        *(info.totals.sent, totals.completed, totals.duplicates),
        *(totals.discarded, totals.expired, totals.purged),
    )


def _sum(one: Totals, other: Totals) -> Totals:
    pairs = zip(dataclasses.astuple(one), dataclasses.astuple(other), strict=True)
    return Totals(*(left + right for left, right in pairs))


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
