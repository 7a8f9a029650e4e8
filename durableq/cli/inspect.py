"""`durableq peek`, `show` and `explain`: read-only views of messages."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Final

from durableq.admin import progress
from durableq.cli import output, rendering
from durableq.cli.help import option
from durableq.cli.options import (
    After,
    Limit,
    MessageId,
    Queue,
    QueueArgument,
    Session,
    chosen_queue,
    named_once,
)
from durableq.cli.screen import Line
from durableq.cli.totals import Total, number_of, say_total
from durableq.model.arguments import listed
from durableq.model.errors import UnknownMessage
from durableq.model.info import ANYTHING, Search
from durableq.model.message import HistoryEvent, Message, State
from durableq.model.progress import Progress
from durableq.model.queues import Counts
from durableq.model.text import shown
from durableq.store.core import Capability

#: The names of the states of a message.
STATES_LISTED: Final = listed(state.label for state in State)


def peek(
    session: Session,
    name: QueueArgument = None,
    queue: Queue = None,
    limit: Limit = 20,
    after: After = None,
    newest: bool = option("--newest", "The newest messages first.", False),
    state: str | None = option("--state STATE", f"Only messages that are {STATES_LISTED}.", None),
    key: str | None = option("--key KEY", "Only messages with this idempotency key.", None),
    text: str | None = option("--text TEXT", "Only messages with this in their JSON.", None),
) -> None:
    """List messages of a queue without receiving them.

    Messages of every state are listed in order of id. QUEUE may be a dead-letter queue. With
    --newest, --state, --key or --text the newest come first, and --after means those before ID. A
    search looks at a bounded number of messages, and says where to go on. TEXT is compared with
    the JSON as it is stored, without blanks between its parts; bytes are not searched.

    Example: durableq peek orders --state delayed --text '"country":"NO"'
    """
    wanted = Search(None if state is None else _state(state), key, text)
    queue = named_once(name, queue)
    with session.opened() as store:
        inspect, name = store.require(Capability.INSPECT), chosen_queue(store, queue)
        if newest or wanted != ANYTHING:
            found, looked_to = inspect.search(name, limit, wanted, after)
        else:
            found, looked_to = inspect.peek(name, limit, after), None
        counts = inspect.queue(name).counts
    ids = session.table(
        found,
        rendering.message_document,
        {
            "ID": lambda message: message.id,
            "STATE": lambda message: "held" if message.held else message.state.label,
            "PRIORITY": lambda message: message.priority,
            "RECEIVED": lambda message: message.receive_count,
            "SENT": lambda message: rendering.ago(message.sent_at_ms),
            "KEY": lambda message: message.key or "",
            "BODY": rendering.body_cell,
        },
    )
    _say_found(session, ids, limit, wanted, counts, looked_to)


def _say_found(
    session: Session,
    ids: Sequence[str],
    limit: int,
    wanted: Search,
    counts: Counts,
    looked_to: str | None,
) -> None:
    """Say how many messages there are, or how far a search has looked."""
    if looked_to is not None and (session.as_json or len(ids) < limit):
        found = "" if session.as_json else f"{number_of(len(ids), 'message')}. "
        output.say(f"{found}Looked down to message {looked_to}. Go on with --after {looked_to}.")
        return
    if wanted.key is None and wanted.text is None:
        total = _number(counts, wanted.state)
    else:  # no counter has their number
        total = Total(len(ids), "at least " if looked_to else "")
    say_total(session, ids, "message", limit, total)


def _number(counts: Counts, state: State | None) -> Total:
    """Return the number of a queue's messages, or of those in a state."""
    if state is None:
        return Total(counts.present)
    held = counts.held if state is State.DELAYED else 0
    return Total(getattr(counts, state.label) + held)


def _state(label: str) -> State:
    """Return a state by its name.

    Raises:
        Misuse: there is none of that name.
    """
    found = next((state for state in State if state.label == label), None)
    if found is None:
        raise output.Misuse(f"--state is one of {STATES_LISTED}, got {shown(label)}.")
    return found


def show(
    session: Session,
    message_id: MessageId,
    body: bool = option("--body", "Show the whole body, also a long one.", False),
    raw: bool = option("--raw", "Write the body alone, byte for byte.", False),
) -> None:
    """Show a message: body, state and history.

    A message that has ended is shown as long as its history is kept.

    Example: durableq show 17
    """
    if raw and (body or session.as_json):
        raise output.Misuse("--raw writes the body and nothing else: drop --body and --json.")
    with session.opened() as store:
        found = store.require(Capability.INSPECT).message(message_id)
        history = store.require(Capability.DEAD_LETTERS).history(message_id)
        reported = progress.of_message(store, message_id)
    if found is None and not history:
        raise UnknownMessage(message_id)
    if raw:
        if found is None:
            raise UnknownMessage(message_id)
        output.raw(found.body if isinstance(found.body, bytes) else str(found.body).encode())
        return
    if not session.as_json:
        print_message(message_id, found, history, whole_body=body, reported=reported)
        return
    known: dict[str, Any] = {"id": message_id, "state": "ended"}
    if found is not None:
        before = rendering.receives_before_death(found, history)
        known = rendering.message_document(found) | {
            "receives_before_death": before,
            "progress": None if reported is None else reported._asdict(),
        }
    output.document(known | {"history": [rendering.event_document(event) for event in history]})


def explain(session: Session, message_id: MessageId) -> None:
    """Explain why a message is not delivered right now.

    Possible reasons: it is delayed, in flight, dead, behind another message of its key, held back
    by a limit, or in a paused queue.

    Example: durableq explain 17
    """
    from durableq.admin.explain import explain as explained

    with session.opened() as store:
        answer = explained(store, message_id, rendering.now_ms())
    state = f"Message {answer.message_id}: {answer.state.replace('_', ' ')}."
    because = [Line(f"  {text}", hang=4) for text in answer.because]
    session.show(dataclasses.asdict(answer), state, *because)


# ---- one message


def print_message(
    message_id: str,
    found: Message | None,
    history: list[HistoryEvent],
    *,
    whole_body: bool = False,
    reported: Progress | None = None,
) -> None:
    """Print a message and its history, and the traceback of its last failure."""
    if found is None:
        facts = [("state", rendering.ended_words(history))]
    else:
        shown = rendering.whole_body if whole_body else rendering.folded_body
        facts = [*_facts(found, history), ("body", shown(found))]
        if reported is not None:
            facts.insert(1, ("progress", rendering.progress_words(reported)))
    output.lines(output.fields([("message", message_id), *facts]))
    if not history:
        return
    output.line()
    output.table(
        ("WHEN", "EVENT", "QUEUE", "BY", "WHY"),
        [
            (rendering.moment(e.at_ms), e.event, e.queue, e.actor, rendering.event_words(e))
            for e in history
        ],
    )
    trace = next((e.traceback for e in reversed(history) if e.traceback), "")
    if trace:
        output.line()
        # Indented, so that it cannot be mistaken for our output.
        output.lines(Line(f"    {text}", hang=8) for text in trace.splitlines())


def _facts(found: Message, history: Sequence[HistoryEvent]) -> list[tuple[str, str]]:
    optional = {
        "key": found.key,
        "attributes": found.attributes,
        "priority": str(found.priority) if found.priority else None,
        "source queue": found.source_queue,
        "recoveries": str(found.recovery_count) if found.recovery_count else None,
    }
    return [
        ("state", rendering.state_words(found)),
        ("sent", rendering.moment_and_age(found.sent_at_ms)),
        ("receives", rendering.receives_words(found, history)),
        *((name, value) for name, value in optional.items() if value is not None),
    ]
