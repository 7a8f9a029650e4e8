"""The idempotency keys of a queue: its records in order of key, and one record."""

from __future__ import annotations

from typing import Any, Final, NamedTuple
from urllib.parse import urlencode

from durableq.dashboard.pages import body
from durableq.dashboard.visit import Visit
from durableq.model.message import IdempotencyRecord, Message, RecordStatus, State
from durableq.store.core import Capability, Store

#: Records in a page.
PAGE: Final = 50


class Row(NamedTuple):
    """A record in the table."""

    record: IdempotencyRecord
    state: str
    #: The address of its own page.
    address: str
    #: Whether its message is in the store.
    is_there: bool


def values(visit: Visit) -> dict[str, Any]:
    """Return the values of the page; with `?key=` those of one record."""
    names = [
        info.name
        for info in visit.store.require(Capability.INSPECT).queues()
        if info.dead_letter_queue is not None
    ]
    queue = visit.query("queue") or next(iter(names), "")
    key = visit.query("key")
    shown = {"queue": queue, "queues": names, "key": key, "counts": None}
    if key:
        return shown | _one(visit, queue)
    records = _page(visit, queue) if queue else []
    rows = [_row(visit.store, record) for record in records[:PAGE]]
    last = rows[-1].record.key if len(records) > PAGE else ""
    counts = visit.store.require(Capability.IDEMPOTENCY).key_counts()
    further = _address(queue, after=last) if last else ""
    return shown | {"rows": rows, "next_address": further, "counts": counts}


def _page(visit: Visit, queue: str) -> list[IdempotencyRecord]:
    after = visit.key("after") if visit.query("after") else None
    return visit.store.require(Capability.IDEMPOTENCY).records(queue, PAGE + 1, after)


def _one(visit: Visit, queue: str) -> dict[str, Any]:
    """Return the values of one record, which is None if nothing is remembered."""
    store, key = visit.store, visit.key()
    record = store.require(Capability.IDEMPOTENCY).record(queue, key)
    if record is None:
        return {"record": None}
    message = store.require(Capability.INSPECT).message(record.message_id)
    has_history = bool(store.require(Capability.DEAD_LETTERS).history(record.message_id))
    return {
        "record": record,
        "forget_address": "/keys/forget?" + urlencode({"queue": queue, "key": key}),
        "state_word": _state(record, message),
        "owner": _owner(store, record.message_id) if message is not None else "",
        "has_page": message is not None or has_history,
        "message": message,
        "tree": None if record.result is None else body.tree(record.result),
    }


def _row(store: Store, record: IdempotencyRecord) -> Row:
    message = None
    if record.status is RecordStatus.IN_PROGRESS:  # the message of a success has ended
        message = store.require(Capability.INSPECT).message(record.message_id)
    address = _address(record.queue, key=record.key)
    return Row(record, _state(record, message), address, message is not None)


def _state(record: IdempotencyRecord, message: Message | None) -> str:
    """Return the state in words: a key in progress lives as long as its message's lease."""
    if record.status is RecordStatus.COMPLETED:
        return "completed"
    is_leased = (
        message is not None and message.state is State.IN_FLIGHT and message.lease_left_ms > 0
    )
    return "in progress" if is_leased else "lease ended"


def _owner(store: Store, message_id: str) -> str:
    """Return the name of the worker that has the message; empty if no registered one has."""
    fleet = store.require(Capability.FLEET)
    for worker in fleet.workers():
        if any(leased.id == message_id for leased in fleet.leases_of(worker.owner_id)):
            return worker.name
    return ""


def _address(queue: str, **more: str) -> str:
    return "/keys?" + urlencode({"queue": queue, **more})
