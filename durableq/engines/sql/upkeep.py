"""Queues as things: made, changed, emptied, removed; and what time ends."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Final

from durableq.engines.sql import statements as sql
from durableq.engines.sql.unit import QueueRow, Unit, ids_json
from durableq.errors import Conflict
from durableq.message import Event, Reason, RecordStatus
from durableq.settings import QueueSettings, check_new_queue_name, dead_letter_name
from durableq.store import Pruned, WorkerInfo

_BOOT_ID: Final = "boot_id"


def declare(unit: Unit, name: str, changes: Mapping[str, int]) -> None:
    """Make a queue and its dead-letter queue, or change one; see Store.declare_queue."""
    row = unit.find_queue(name)
    if row is None:
        check_new_queue_name(name)
        dead_letters = _create(unit, dead_letter_name(name), QueueSettings(), None)
        _create(unit, name, QueueSettings().changed(changes), dead_letters)
        return
    settings = row.settings.changed(changes)
    if settings != row.settings:
        values = {f"new_{setting}": value for setting, value in settings.as_dict().items()}
        sql.CHANGE_QUEUE(unit.raw, queue_id=row.id, **values)


def _create(
    unit: Unit, name: str, settings: QueueSettings, dead_letter_queue_id: int | None
) -> int:
    created = sql.CREATE_QUEUE(
        unit.raw,
        name=name,
        dead_letter_queue_id=dead_letter_queue_id,
        created_at_ms=unit.now_ms,
        **settings.as_dict(),
    )
    queue_id: int = created.fetchone()[0]
    return queue_id


def delete(unit: Unit, name: str, *, force: bool) -> None:
    """Remove a queue with its dead-letter queue; see Store.delete_queue."""
    row = unit.queue(name)
    if row.dead_letter_queue_id is None:
        owner = sql.OWNER_OF_QUEUE(unit.raw, queue_id=row.id).fetchone()
        raise Conflict(
            f"{name!r} is the dead-letter queue of {owner[0]!r} and goes when that goes. "
            f"To empty it: durableq queue purge {name}."
        )
    both = [row, unit.queue_by_id(row.dead_letter_queue_id)]
    for part in both:
        if not force and sql.IN_QUEUE(unit.raw, in_queue=part.id).fetchone() is not None:
            raise Conflict(
                f"Queue {part.name!r} still holds messages, so {name!r} was not deleted. "
                f"Purge it first (durableq queue purge {part.name}), or force it."
            )
    for part in both:
        for statement in (sql.PURGE, sql.DROP_KEYS, sql.DROP_HISTORY):
            statement(unit.raw, in_queue=part.id)
        sql.DROP_QUEUE(unit.raw, queue_id=part.id)


def purge(unit: Unit, row: QueueRow) -> int:
    """Remove every message of a queue; see Store.purge."""
    removed: int = sql.PURGE(unit.raw, in_queue=row.id).rowcount
    sql.DROP_KEYS_IN_PROGRESS(unit.raw, in_queue=row.id)
    unit.count(row.id, "purged", removed)
    return removed


def prune(unit: Unit, limit: int) -> Pruned:
    """Remove what time has ended; see Store.prune."""
    overdue = sql.OVERDUE(unit.raw, now_ms=unit.now_ms, limit=limit).fetchall()
    for message_id, queue_id in overdue:
        unit.count(queue_id, "expired")
        unit.record(message_id, queue_id, Event.EXPIRED, reason=Reason.EXPIRED)
    sql.END_WAITING(unit.raw, ids=ids_json(message_id for message_id, _ in overdue))
    records = sql.PRUNE_KEYS(unit.raw, now_ms=unit.now_ms, limit=limit).rowcount
    events = sql.PRUNE_HISTORY(unit.raw, now_ms=unit.now_ms, limit=limit).rowcount
    return Pruned(len(overdue), records, events)


def forget(unit: Unit, queue: str, key: str) -> bool:
    """Drop a completed record; see Store.forget."""
    row = unit.queue(queue)
    found = sql.RECORD(unit.raw, in_queue=row.id, of_key=key).fetchone()
    if found is not None and found[2] == RecordStatus.IN_PROGRESS:
        raise Conflict(
            f"Key {key!r} of queue {queue!r} is in progress: message {found[3]} holds it. "
            "Wait until that message is settled."
        )
    return bool(sql.DROP_RECORD(unit.raw, in_queue=row.id, of_key=key).rowcount)


def register(unit: Unit, worker: WorkerInfo, boot_id: str) -> WorkerInfo:
    """Enter a worker; see Store.register."""
    entered = sql.REGISTER(
        unit.raw,
        name=worker.name,
        pid=worker.pid,
        created_ms=worker.created_ms,
        boot_id=boot_id,
        started_at_ms=unit.now_ms,
        beat_at_ms=unit.now_ms,
    )
    return dataclasses.replace(worker, holder=entered.fetchone()[0])


def known_boot(raw: Any) -> str | None:
    """Return the boot this file was last opened under."""
    row = sql.META(raw, of=_BOOT_ID).fetchone()
    return row[0] if row else None


def remember_boot(unit: Unit, boot_id: str) -> None:
    """Enter a new boot; the workers of an earlier one are gone."""
    sql.UNREGISTER_ALL(unit.raw)
    sql.SET_META(unit.raw, of=_BOOT_ID, value=boot_id)
