"""A message: why it is not delivered now, its history and its body."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from durableq.admin.explain import explain
from durableq.cli import rendering
from durableq.dashboard.pages import body
from durableq.dashboard.visit import Visit
from durableq.model.errors import UnknownMessage
from durableq.model.message import Message, State
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
    return {
        "id": message_id,
        "found": found,
        "history": history,
        "explained": explained,
        "facts": [] if found is None else _facts(found),
        "traceback": next((event.traceback for event in reversed(history) if event.traceback), ""),
        "tree": None if found is None else body.tree(found.body),
        "beginning": "" if found is None else body.beginning(found.body),
        "size": 0 if found is None else body.size_of(found.body),
        "is_dead": found is not None and found.source_queue is not None,
        "is_waiting": found is not None and _is_waiting(found),
    }


def raw(visit: Visit) -> Response:
    """Return the body of a message as a file.

    Raises:
        UnknownMessage: there is no such message.
    """
    message_id = visit.named("id")
    found = visit.store.require(Capability.INSPECT).message(message_id)
    if found is None:
        raise UnknownMessage(message_id)
    is_bytes = isinstance(found.body, bytes)
    kind, ending = ("application/octet-stream", "bin") if is_bytes else ("application/json", "json")
    name = "".join(filter(str.isalnum, found.id))
    headers = {"content-disposition": f'attachment; filename="message-{name}.{ending}"'}
    return Response(body.raw(found.body), media_type=kind, headers=headers)


def _is_waiting(found: Message) -> bool:
    return found.source_queue is None and found.state is not State.IN_FLIGHT


def _facts(found: Message) -> list[tuple[str, str]]:
    known = {
        "Key": found.key,
        "Group": found.group,
        "Attributes": found.attributes,
        "Priority": str(found.priority) if found.priority else None,
        "Receives": str(found.receive_count),
        "Recoveries": str(found.recovery_count) if found.recovery_count else None,
        "Died in": found.source_queue,
    }
    return [(name, value) for name, value in known.items() if value is not None]
