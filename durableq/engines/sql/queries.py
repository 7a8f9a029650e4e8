"""Queries for people: short reads, paged by key, that never write."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Select, case, func, literal_column, select, true

from durableq.engines.sql import statements as sql
from durableq.engines.sql.dialect import Statement, in_list
from durableq.engines.sql.tables import (
    history,
    idempotency,
    is_state,
    message,
    queue,
    worker,
)
from durableq.engines.sql.transactions import StoredQueue, Transaction, row_id
from durableq.model.arguments import check_page_start
from durableq.model.errors import UnknownQueue
from durableq.model.health import KeyCounts
from durableq.model.message import (
    FOREVER_MS,
    DeadLetter,
    Event,
    HistoryEvent,
    IdempotencyRecord,
    Message,
    Reason,
    Receipt,
    RecordStatus,
    State,
)
from durableq.model.queues import Counters, Counts
from durableq.store.core import QueueInfo, WorkerInfo

_m = message.c
_own, _source = queue.alias("own"), queue.alias("source")


def _messages() -> Select[Any]:
    return (
        select(
            _m.id,
            _own.c.name,
            _m.body,
            _m.key,
            _m.attributes,
            _m.priority,
            _m.state,
            _m.receive_count,
            _m.recovery_count,
            _m.sent_at_ms,
            _m.enqueued_at_ms,
            _m.delayed_until_ms,
            _m.lease_until_ms,
            _source.c.name,
            _m.receipt,
        )
        .join(_own, _own.c.id == _m.queue_id)
        .outerjoin(_source, _source.c.id == _m.source_queue_id)
    )


_p = sql.parameter
_KEYS_COMPLETED = Statement(
    select(func.count()).select_from(idempotency).where(sql.status_is(RecordStatus.COMPLETED))
)
#: A key is in progress while its message is in flight: few rows, where records are many.
_KEYS_IN_PROGRESS = Statement(
    select(func.count()).where(
        is_state(State.IN_FLIGHT), _m.key.is_not(None), _m.source_queue_id.is_(None)
    )
)
_MESSAGE = Statement(_messages().where(_m.id == _p("of")))
_PEEK = Statement(
    _messages()
    .where(_m.queue_id == _p("in_queue"), _m.id > _p("after"))
    .order_by(_m.id)
    .limit(_p("limit"))
)
# The sum keeps the plan from reading every message in order of id: few are in flight.
LEASED_BY = Statement(
    _messages()
    .where(is_state(State.IN_FLIGHT), _m.owner_id == _p("owner"))
    .order_by(_m.id + sql.zero)
)
_in_queue = _m.queue_id == _p("in_queue")
_COUNTS = Statement(
    select(
        *(
            select(func.count()).where(_in_queue, is_state(state)).scalar_subquery()
            for state in (State.READY, State.DELAYED, State.IN_FLIGHT)
        ),
        select(func.count())
        .where(
            _in_queue,
            is_state(State.DELAYED),
            _m.delayed_until_ms == literal_column(str(FOREVER_MS)),
        )
        .scalar_subquery(),
    )
)
_OLDEST_READY = Statement(
    select(func.min(_m.enqueued_at_ms)).where(_in_queue, is_state(State.READY))
)
_of_each = _m.queue_id == queue.c.id
READY_IN = Statement(
    select(
        queue.c.name,
        queue.c.paused,
        select(_m.id).where(_of_each, is_state(State.READY)).exists(),
        select(func.min(_m.delayed_until_ms))
        .where(_of_each, is_state(State.DELAYED))
        .scalar_subquery(),
        select(func.min(_m.lease_until_ms))
        .where(_of_each, is_state(State.IN_FLIGHT))
        .scalar_subquery(),
    ).where(in_list(queue.c.name, "names"))
)
_HISTORY = Statement(
    select(history, queue.c.name)
    .outerjoin(queue, queue.c.id == history.c.queue_id)
    .where(history.c.message_id == _p("of"))
    .order_by(history.c.id)
)
_r = idempotency.c
_live = case((_r.status == 1, _r.expires_at_ms > _p("now_ms")), else_=true())
_RECORDS = Statement(
    select(idempotency)
    .where(_r.queue_id == _p("in_queue"), _r.key > _p("after"), _live)
    .order_by(_r.key)
    .limit(_p("limit"))
)
_w = worker.c
_WORKERS = Statement(
    select(
        _w.name,
        _w.pid,
        _w.created_ms,
        _w.boot_id,
        _w.pid_namespace,
        _w.id,
        _w.started_at_ms,
        _w.beat_at_ms,
        _w.restarts,
        _w.state,
        _w.handled,
        _w.failed,
        _w.in_flight,
        _w.oldest_began_ms,
        _w.queues,
        _w.host_id,
    ).order_by(_w.id)
)


def find_queue(tx: Transaction, name: str) -> StoredQueue:
    """Return a queue by name.

    Raises:
        UnknownQueue: there is none.
    """
    row = tx.run(sql.QUEUE, queue=name).fetchone()
    if row is None:
        raise UnknownQueue(name)
    return StoredQueue(row)


def queue_info(tx: Transaction, row: StoredQueue) -> QueueInfo:
    """Return a queue as it stands."""
    dead_letters = None
    if row.dead_letter_queue_id is not None:
        pair = tx.run(sql.QUEUE_BY_ID, queue_id=row.dead_letter_queue_id).fetchone()
        dead_letters = pair[1] if pair else ""  # in a damaged file, of which audit tells more
    ready, delayed, in_flight, held = tx.run(_COUNTS, in_queue=row.id).fetchone()
    (oldest,) = tx.run(_OLDEST_READY, in_queue=row.id).fetchone()
    counts = Counts(ready=ready, delayed=delayed - held, in_flight=in_flight, held=held)
    totals = tx.run(sql.TOTALS, of_queue=row.id).fetchone() or ()  # in a damaged file
    counters = Counters(**dict(zip(sql.COUNTERS, totals, strict=False)))
    return QueueInfo(row.name, row.settings, dead_letters, counters, counts, oldest)


def queues(tx: Transaction) -> list[QueueInfo]:
    """Return every queue, by name."""
    return [queue_info(tx, StoredQueue(row)) for row in tx.run(sql.QUEUES).fetchall()]


def one_message(tx: Transaction, message_id: str) -> Message | None:
    """Return a message, wherever it stands."""
    row = tx.run(_MESSAGE, of=row_id(message_id)).fetchone()
    return None if row is None else _message(row, tx)


def peek(tx: Transaction, name: str, limit: int, after_id: str | None) -> list[Message]:
    """Return messages of a queue in order of id."""
    after = check_page_start(after_id)
    found = tx.run(_PEEK, in_queue=find_queue(tx, name).id, after=after, limit=limit)
    return [_message(row, tx) for row in found.fetchall()]


def message_history(tx: Transaction, message_id: str) -> list[HistoryEvent]:
    """Return the exceptional events of a message, oldest first."""
    events = []
    for row in tx.run(_HISTORY, of=row_id(message_id)).fetchall():
        _, of, _, at_ms, event, *texts, detail, fingerprint, place, name = row
        reason, error_type, error_message, trace, actor = texts
        events.append(
            HistoryEvent(
                str(of),
                name or "",
                Event(event),
                at_ms,
                actor,
                reason,
                error_type,
                error_message,
                trace,
                json.loads(detail) if detail else {},
                fingerprint,
                place,
            )
        )
    return events


def dead_letter(tx: Transaction, message_id: str) -> DeadLetter | None:
    """Return a dead letter with its history."""
    found = one_message(tx, message_id)
    if found is None or found.source_queue is None:
        return None
    events = tuple(message_history(tx, message_id))
    died = next((e for e in reversed(events) if e.event is Event.BURIED), None)
    reason = Reason(died.reason) if died else Reason.HANDLER_ERROR
    died_at_ms = died.at_ms if died else found.enqueued_at_ms
    limit = find_queue(tx, found.source_queue).setting("max_recoveries")
    fingerprint = died.fingerprint if died else ""
    return DeadLetter(found, found.source_queue, reason, died_at_ms, events, limit, fingerprint)


def record(tx: Transaction, name: str, key: str) -> IdempotencyRecord | None:
    """Return the record of a key, unless it has expired."""
    row = tx.run(sql.RECORD, in_queue=find_queue(tx, name).id, of_key=key).fetchone()
    if row is None:
        return None
    found = _record(row, name)
    expired = found.expires_at_ms is not None and found.expires_at_ms <= tx.now_ms
    return None if expired else found


def records(
    tx: Transaction, name: str, limit: int, after_key: str | None
) -> list[IdempotencyRecord]:
    """Return the records of a queue in order of key."""
    found = tx.run(
        _RECORDS,
        in_queue=find_queue(tx, name).id,
        after=after_key or "",
        now_ms=tx.now_ms,
        limit=limit,
    )
    return [_record(row, name) for row in found.fetchall()]


def workers(tx: Transaction) -> list[WorkerInfo]:
    """Return the registered workers."""
    rows = tx.run(_WORKERS).fetchall()
    return [WorkerInfo(*(*told, _names(queues), host_id)) for *told, queues, host_id in rows]


def _names(stored: str) -> tuple[str, ...] | None:
    """Return the names in a JSON array; None for text that is none."""
    try:
        return tuple(json.loads(stored))
    except (ValueError, TypeError):
        return None


def leased(tx: Transaction, owner: int) -> list[Message]:
    """Return the messages that an owner, as stored, has leased, with receipts."""
    return [_leased(row, tx) for row in tx.run(LEASED_BY, owner=owner).fetchall()]


def ready_in_ms(tx: Transaction, names: Sequence[str]) -> int | None:
    """Return in how long a receive on one of these queues may bring something."""
    found = {row[0]: row[1:] for row in tx.run(READY_IN, names=tx.list_of(names)).fetchall()}
    for name in names:
        if name not in found:
            raise UnknownQueue(name)
    waits_ms: list[int] = []
    for paused, is_ready, delayed_until_ms, lease_until_ms in found.values():
        if paused:
            continue
        if is_ready:
            return 0
        if delayed_until_ms is not None and delayed_until_ms != FOREVER_MS:
            waits_ms.append(max(0, delayed_until_ms - tx.now_ms))
        if lease_until_ms is not None:
            waits_ms.append(max(0, lease_until_ms - tx.lease_now_ms))
    return min(waits_ms, default=None)


def _leased(row: tuple[Any, ...], tx: Transaction) -> Message:
    found = _message(row, tx)
    return found._replace(receipt=Receipt(found.queue, found.id, row[-1].hex()))


def _record(row: tuple[Any, ...], name: str) -> IdempotencyRecord:
    _, key, status, owner, _, payload_hash, result, created, completed, expires = row
    return IdempotencyRecord(
        name,
        key,
        RecordStatus(status),
        str(owner),
        payload_hash,
        result,
        created,
        completed,
        expires,
    )


def _message(row: tuple[Any, ...], tx: Transaction) -> Message:
    *start, state, receives, recoveries, sent, enqueued, delayed_until, lease_until, source, _ = row
    message_id, name, body, key, attributes, priority = start
    in_flight = state == State.IN_FLIGHT
    left_ms = lease_until - tx.lease_now_ms if in_flight else 0
    return Message(
        str(message_id),
        name,
        body,
        key,
        attributes,
        priority,
        State(state),
        receives,
        recoveries,
        sent,
        enqueued,
        delayed_until if state == State.DELAYED else 0,
        max(0, left_ms),
        source,
        None,
    )


def key_counts(tx: Transaction) -> KeyCounts:
    """Count the keys; see Idempotency.key_counts."""
    in_progress, completed = (
        tx.run(_KEYS_IN_PROGRESS).fetchone(),
        tx.run(_KEYS_COMPLETED).fetchone(),
    )
    return KeyCounts(in_progress[0], completed[0])
