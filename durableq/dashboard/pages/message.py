"""A message: why it is not delivered now, its history and its body."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from starlette.responses import Response

from durableq.admin import progress
from durableq.admin.explain import explain
from durableq.cli import rendering
from durableq.dashboard import diagram, letters, path
from durableq.dashboard.errors import Refusal
from durableq.dashboard.pages import body
from durableq.dashboard.redaction import HIDDEN_BODY
from durableq.dashboard.rules import Answer
from durableq.dashboard.visit import Visit
from durableq.model.errors import DurableQError, UnknownMessage
from durableq.model.limits import MAX_HISTORY
from durableq.model.message import HistoryEvent, Message, State
from durableq.store.core import Capability


def values(visit: Visit) -> dict[str, Any]:
    """Return the values of the page.

    Raises:
        UnknownMessage: there is no such message, and no history of one.
    """
    message_id, store = visit.named("id"), visit.store
    history = store.require(Capability.DEAD_LETTERS).history(message_id)
    explained = explain(store, message_id, rendering.now_ms())
    found = store.require(Capability.INSPECT).message(message_id)
    stops = path.way(history, found)
    return {
        "stops": stops,
        "times": path.times(stops),
        "diagram": diagram.draw(stops),
        "is_cut": len(history) >= MAX_HISTORY,
        "recovery": _recovery(visit),
        "edited": _edited(visit, found),
        "hides": visit.redaction.is_on,
        "id": message_id,
        "found": found,
        "history": history,
        "explained": explained,
        "progress": progress.of_message(store, message_id),
        "facts": [] if found is None else _facts(found, history),
        "traceback": next((event.traceback for event in reversed(history) if event.traceback), ""),
        "tree": None if found is None else body.tree(found.body),
        "beginning": "" if found is None else body.beginning(found.body),
        "size": 0 if found is None else body.size_of(found.body),
        "is_dead": found is not None and found.source_queue is not None,
        "is_held": found is not None and found.held,
        "is_waiting": found is not None and _is_waiting(found),
    }


def raw(visit: Visit) -> Response:
    """Return the body of a message as a file, without the values of hidden fields.

    Raises:
        UnknownMessage: there is no such message.
        Refusal: fields are hidden, and the body is no JSON with fields.
    """
    message_id = visit.named("id")
    found = visit.store.require(Capability.INSPECT).message(message_id)
    if found is None:
        raise UnknownMessage(message_id)
    if visit.redaction.is_on and found.body == HIDDEN_BODY:
        raise Refusal(
            403,
            "This body is hidden whole: fields are hidden, and it has none to tell them by.",
            "Ask who runs this dashboard.",
        )
    is_bytes = isinstance(found.body, bytes)
    kind, ending = ("application/octet-stream", "bin") if is_bytes else ("application/json", "json")
    name = "".join(filter(str.isalnum, found.id))
    headers = {"content-disposition": f'attachment; filename="message-{name}.{ending}"'}
    return Response(body.raw(found.body), media_type=kind, headers=headers)


class Edited(NamedTuple):
    """The form in which a dead letter's body is edited."""

    text: str
    #: The mark of the dead letter that is shown.
    seen: str


class Recovery(NamedTuple):
    """The decision that recovery would make about a dead letter."""

    source: str
    answer: Answer | None
    #: The sentence of an error instead.
    error: str = ""


def _edited(visit: Visit, found: Message | None) -> Edited | None:
    """Return the form of a dead letter's body; None if it is not to be edited here."""
    if found is None or found.source_queue is None or visit.redaction.is_on:
        return None
    text = letters.editable(found)
    return None if text is None else Edited(text, letters.seen(found))


def _recovery(visit: Visit) -> Recovery | None:
    """Return the decision of recovery; None without rules, or for no dead letter."""
    source = visit.rules.source
    if not source:
        return None
    # The whole of it: the rules compare hidden fields too.
    store = visit.dq.store
    letter = store.require(Capability.DEAD_LETTERS).dead_letter(visit.named("id"))
    if letter is None:
        return None
    try:
        return Recovery(source, visit.rules.decide(store, letter))
    except DurableQError as error:
        return Recovery(source, None, str(error))


def _is_waiting(found: Message) -> bool:
    return found.source_queue is None and found.state is not State.IN_FLIGHT


def _facts(found: Message, history: Sequence[HistoryEvent]) -> list[tuple[str, str]]:
    known = {
        "Key": found.key,
        "Group": found.group,
        "Attributes": found.attributes,
        "Priority": str(found.priority) if found.priority else None,
        "Receives": rendering.receives_words(found, history),
        "Recoveries": str(found.recovery_count) if found.recovery_count else None,
        "Died in": found.source_queue,
    }
    return [(name, value) for name, value in known.items() if value is not None]
