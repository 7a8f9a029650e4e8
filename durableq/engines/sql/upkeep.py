"""Queues, expiry, records, workers and metadata: the operations outside a message's life."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Final

from sqlalchemy import delete as delete_from
from sqlalchemy import func, insert, select, text, tuple_, update

from durableq.engines.sql import redrive
from durableq.engines.sql import statements as sql
from durableq.engines.sql.dialect import Statement, in_list
from durableq.engines.sql.statements import parameter, past_retention, status_is
from durableq.engines.sql.tables import (
    counters,
    history,
    idempotency,
    is_state,
    message,
    meta,
    queue,
    worker,
)
from durableq.engines.sql.transactions import StoredQueue, Transaction, WriteTransaction
from durableq.model.errors import Conflict
from durableq.model.info import metadata_suffix
from durableq.model.message import Event, Reason, RecordStatus, State
from durableq.model.queues import BOUNDS, QueueSettings, check_new_queue_name, dead_letter_name
from durableq.model.text import shown
from durableq.store.core import Pruned, WorkerInfo, WorkerStats

_BOOT_ID: Final = "boot_id"
_NOTE: Final = "note:"
_TOLD: Final = [field.name for field in dataclasses.fields(WorkerStats)]
_m, _r, _q, _h = message.c, idempotency.c, queue.c, history.c

_CREATE_QUEUE = Statement(
    insert(queue)
    .values(
        {
            name: parameter(name)
            for name in ("name", "dead_letter_queue_id", "created_at_ms", *BOUNDS)
        }
    )
    .returning(_q.id)
)
_CREATE_COUNTERS = Statement(insert(counters).values(queue_id=parameter("of_queue")))
_CHANGE_QUEUE = Statement(
    update(queue)
    .where(_q.id == parameter("queue_id"))
    .values({name: parameter(f"new_{name}") for name in BOUNDS})
)
_OWNER_OF_QUEUE = Statement(select(_q.name).where(_q.dead_letter_queue_id == parameter("queue_id")))
_IN_QUEUE = Statement(select(_m.id).where(_m.queue_id == parameter("in_queue")).limit(1))
_PURGE = Statement(delete_from(message).where(_m.queue_id == parameter("in_queue")))
_DROP_KEYS_IN_PROGRESS = Statement(
    delete_from(idempotency).where(
        _r.queue_id == parameter("in_queue"), status_is(RecordStatus.IN_PROGRESS)
    )
)
_DROP_KEYS = Statement(delete_from(idempotency).where(_r.queue_id == parameter("in_queue")))
_DROP_HISTORY = Statement(delete_from(history).where(_h.queue_id == parameter("in_queue")))
_DROP_COUNTERS = Statement(
    delete_from(counters).where(counters.c.queue_id == parameter("in_queue"))
)
_DROP_QUEUE = Statement(delete_from(queue).where(_q.id == parameter("queue_id")))
_OVERDUE = Statement(
    select(_m.id, _m.queue_id)
    .join(queue, _q.id == _m.queue_id)
    .where(
        ~is_state(State.IN_FLIGHT),
        past_retention(_m.retention_from_ms, _q.retention_ms),
    )
    .order_by(_m.id)
    .limit(parameter("limit"))
)
_END_WAITING = Statement(
    delete_from(message).where(in_list(_m.id, "ids"), ~is_state(State.IN_FLIGHT)).returning(_m.id)
)
_expired_keys = (
    select(_r.queue_id, _r.key)
    .where(status_is(RecordStatus.COMPLETED), _r.expires_at_ms <= parameter("now_ms"))
    .limit(parameter("limit"))
)
_PRUNE_KEYS = Statement(
    delete_from(idempotency).where(tuple_(_r.queue_id, _r.key).in_(_expired_keys))
)
_old_events = (
    select(_h.id)
    .select_from(queue.join(history, _h.queue_id == _q.id))
    .where(
        _h.at_ms <= parameter("now_ms") - _q.retention_ms,
        ~select(_m.id).where(_m.id == _h.message_id).exists(),
    )
    .limit(parameter("limit"))
)
_PRUNE_HISTORY = Statement(delete_from(history).where(_h.id.in_(_old_events)))
_DROP_RECORD = Statement(
    delete_from(idempotency).where(
        _r.queue_id == parameter("in_queue"),
        _r.key == parameter("of_key"),
        status_is(RecordStatus.COMPLETED),
        _r.expires_at_ms > parameter("now_ms"),
    )
)
_REGISTER = Statement(
    insert(worker)
    .values({c.name: parameter(c.name) for c in worker.columns if c.name != "id"})
    .returning(worker.c.id)
)
_BEAT = Statement(
    update(worker).where(worker.c.id == parameter("of")).values(beat_at_ms=parameter("now_ms"))
)
_BEAT_AND_TELL = Statement(
    update(worker)
    .where(worker.c.id == parameter("of"))
    .values({"beat_at_ms": parameter("now_ms")} | {n: parameter(n) for n in _TOLD})
)
_TELL_QUEUES = Statement(
    update(worker).where(worker.c.id == parameter("of")).values(queues=parameter("queues"))
)
_UNREGISTER = Statement(delete_from(worker).where(worker.c.id == parameter("of")))
_UNREGISTER_ALL = Statement(delete_from(worker))
_META = Statement(select(meta.c.value).where(meta.c.name == parameter("of")))
_DROP_META = Statement(delete_from(meta).where(meta.c.name == parameter("of")))
_ends_with_tail = func.substr(
    meta.c.name, func.length(meta.c.name) - func.length(parameter("tail", meta.c.name)) + 1
)
_DROP_NOTES = Statement(
    delete_from(meta).where(
        meta.c.name.startswith(parameter("note", meta.c.name)),
        _ends_with_tail == parameter("tail", meta.c.name),
    )
)
_SET_META = Statement(
    text(
        "INSERT INTO durableq_meta (name, value) VALUES (:of, :value) "
        "ON CONFLICT (name) DO UPDATE SET value = excluded.value"
    )
)


def declare(tx: WriteTransaction, name: str, changes: Mapping[str, int]) -> None:
    """Make a queue and its dead-letter queue, or change one; see Store.declare_queue."""
    row = tx.find_queue(name)
    if row is None:
        check_new_queue_name(name)
        dead_letters = _create(tx, dead_letter_name(name), QueueSettings(), None)
        _create(tx, name, QueueSettings().changed(changes), dead_letters)
        return
    settings = row.settings.changed(changes)
    if settings != row.settings:
        values = {f"new_{setting}": value for setting, value in settings.as_dict().items()}
        tx.run(_CHANGE_QUEUE, queue_id=row.id, **values)


def _create(
    tx: WriteTransaction, name: str, settings: QueueSettings, dead_letter_queue_id: int | None
) -> int:
    created = tx.run(
        _CREATE_QUEUE,
        name=name,
        dead_letter_queue_id=dead_letter_queue_id,
        created_at_ms=tx.now_ms,
        **settings.as_dict(),
    )
    queue_id: int = created.fetchone()[0]
    tx.run(_CREATE_COUNTERS, of_queue=queue_id)
    return queue_id


def delete(tx: WriteTransaction, name: str, *, force: bool) -> None:
    """Remove a queue with its dead-letter queue; see Store.delete_queue."""
    parts = [row := tx.queue(name)]
    if row.dead_letter_queue_id is not None:
        parts.append(tx.queue_by_id(row.dead_letter_queue_id))
    elif owner := tx.run(_OWNER_OF_QUEUE, queue_id=row.id).fetchone():
        raise Conflict(
            f"{name!r} is the dead-letter queue of {owner[0]!r} and goes when that goes. "
            f"To empty it: durableq queue purge {name}."
        )
    for part in parts:
        if not force and tx.run(_IN_QUEUE, in_queue=part.id).fetchone() is not None:
            raise Conflict(
                f"Queue {part.name!r} still holds messages, so {name!r} was not deleted. "
                f"Purge it first (durableq queue purge {part.name}), or force it."
            )
    for part in parts:
        for statement in (_PURGE, _DROP_KEYS, _DROP_HISTORY, _DROP_COUNTERS):
            tx.run(statement, in_queue=part.id)
        tx.run(_DROP_NOTES, note=_NOTE, tail=metadata_suffix(part.name))
        tx.run(_DROP_QUEUE, queue_id=part.id)
    redrive.clamp(tx)


def purge(tx: WriteTransaction, row: StoredQueue) -> int:
    """Remove every message of a queue; see Store.purge."""
    removed: int = tx.run(_PURGE, in_queue=row.id).rowcount
    tx.run(_DROP_KEYS_IN_PROGRESS, in_queue=row.id)
    tx.count(row.id, "purged", removed)
    return removed


def prune(tx: WriteTransaction, limit: int) -> Pruned:
    """Remove expired messages, records and events; see Maintenance.prune."""
    overdue = tx.run(_OVERDUE, now_ms=tx.now_ms, limit=limit).fetchall()
    expired = expire(tx, overdue)
    records = prune_records(tx, limit)
    events = tx.run(_PRUNE_HISTORY, now_ms=tx.now_ms, limit=limit).rowcount
    redrive.clamp(tx)
    return Pruned(expired, records, events)


def expire(tx: WriteTransaction, overdue: Sequence[tuple[int, int]]) -> int:
    """End waiting messages, given by id and queue, past their retention; return the number."""
    if not overdue:
        return 0
    ended = tx.moved(_END_WAITING, ids=tx.list_of(message_id for message_id, _ in overdue))
    for message_id, queue_id in overdue:
        if message_id in ended:
            tx.count(queue_id, "expired")
            tx.record(message_id, queue_id, Event.EXPIRED, reason=Reason.EXPIRED)
    return len(ended)


def prune_records(tx: WriteTransaction, limit: int) -> int:
    """Remove at most `limit` expired records; return the number."""
    removed: int = tx.run(_PRUNE_KEYS, now_ms=tx.now_ms, limit=limit).rowcount
    return removed


def forget(tx: WriteTransaction, queue: str, key: str) -> bool:
    """Drop a completed record; see Store.forget."""
    row = tx.queue(queue)
    found = tx.run(sql.RECORD, in_queue=row.id, of_key=key).fetchone()
    if found is not None and found[2] == RecordStatus.IN_PROGRESS:
        raise Conflict(
            f"Key {shown(key)} of queue {queue!r} is in progress: message {found[3]} holds it. "
            "Wait until that message is settled."
        )
    dropped = tx.run(_DROP_RECORD, in_queue=row.id, of_key=key, now_ms=tx.now_ms)
    return bool(dropped.rowcount)


def register(tx: WriteTransaction, worker: WorkerInfo) -> WorkerInfo:
    """Enter a worker; see Store.register."""
    entered = dataclasses.replace(worker, started_at_ms=tx.now_ms, beat_at_ms=tx.now_ms)
    values = dataclasses.asdict(entered) | {"queues": _as_stored(worker.queues)}
    owner_id = tx.run(_REGISTER, **values).fetchone()[0]
    return dataclasses.replace(entered, owner_id=owner_id)


def _as_stored(queues: Sequence[str] | None) -> str:
    return "" if queues is None else json.dumps(queues)


def beat(
    tx: WriteTransaction, owner_id: int, stats: WorkerStats | None, queues: Sequence[str] | None
) -> bool:
    """Enter that a worker lives, and how it does; see Store.beat."""
    if queues is not None:
        tx.run(_TELL_QUEUES, of=owner_id, queues=_as_stored(queues))
    if stats is not None:
        told = dataclasses.asdict(stats)
        return bool(tx.run(_BEAT_AND_TELL, of=owner_id, now_ms=tx.now_ms, **told).rowcount)
    return bool(tx.run(_BEAT, of=owner_id, now_ms=tx.now_ms).rowcount)


def unregister(tx: WriteTransaction, owner_id: int) -> None:
    """Take a worker out; see Store.unregister."""
    tx.run(_UNREGISTER, of=owner_id)


def get_metadata(tx: Transaction, name: str) -> str | None:
    """Return the text stored under a name, or None."""
    row = tx.run(_META, of=_NOTE + name).fetchone()
    return row[0] if row else None


def compare_and_set(tx: WriteTransaction, name: str, text: str, expected: str | None) -> bool:
    """Keep a text under a name; see Store.remember."""
    if get_metadata(tx, name) != expected:
        return False
    tx.run(_SET_META, of=_NOTE + name, value=text)
    return True


def meta_value(tx: Transaction, name: str) -> str | None:
    """Return a value of durableq_meta."""
    row = tx.run(_META, of=name).fetchone()
    return row[0] if row else None


def set_meta(tx: Transaction, name: str, value: str) -> None:
    """Set a value of durableq_meta."""
    tx.run(_SET_META, of=name, value=value)


def known_boot(tx: Transaction) -> str | None:
    """Return the boot this file was last opened under."""
    return meta_value(tx, _BOOT_ID)


def forget_boot(tx: Transaction) -> None:
    """Forget the boot, so that the next opening takes back every lease and worker."""
    tx.run(_DROP_META, of=_BOOT_ID)


def remember_boot(tx: WriteTransaction, boot_id: str) -> None:
    """Enter a new boot; the workers of an earlier one are gone."""
    tx.run(_UNREGISTER_ALL)
    tx.run(_SET_META, of=_BOOT_ID, value=boot_id)
