"""Sending: all of a batch is stored, or nothing."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from operator import attrgetter
from typing import Any, Final

from durableq.engines.sql import coalescing, groups
from durableq.engines.sql.backlog import backlog_of, read_backlog
from durableq.engines.sql.coalescing import facts_of
from durableq.engines.sql.leaving import come
from durableq.engines.sql.send_terms import NO_TERMS, RANKED_BY_TIME, WITH_TERMS, send_terms
from durableq.engines.sql.transactions import Operations, WriteTransaction
from durableq.model import codec
from durableq.model.drafts import (
    DraftFlow,
    Envelope,
    expires_at_ms,
    size_as_sent,
    too_large,
    with_delays,
)
from durableq.model.errors import (
    Conflict,
    DurableQError,
    InvalidInput,
    QueueFull,
    UnknownQueue,
)
from durableq.model.flow.sending import UNLIMITED, Incoming, Plan, plan
from durableq.model.limits import MAX_SEND_BATCH
from durableq.model.message import Draft, State
from durableq.model.queues import DEAD_LETTER_SUFFIX
from durableq.model.settings import SEND_LIMITS
from durableq.runtime.room import send_when_room, warn_shed
from durableq.store.core import Watch

_READY: Final = State.READY.value
_DELAYED: Final = State.DELAYED.value
#: Empty, not None: SQLite's driver looks for an adapter of each None and each bytes object, which
#: costs as much as the rest of a row. The statement stores NULL for an empty value.
_NO_HASH: Final = bytearray()
_flow: Final = attrgetter("flow")
_NO_FLOW: Final = DraftFlow()
_NO_ENVELOPE: Final = Envelope()
#: Places in a row of sql.INSERT and sql.INSERT_FLOW.
_ID, _QUEUE_ID, _STATE, _DUE, _NOW, _RETENTION_FROM, _BODY_BYTES = 0, 1, 2, 5, 6, 7, 8
_DEBOUNCE_UNTIL: Final = 16


class Sending(Operations):
    """The sending part of the core, in SQL."""

    def send(self, queue: str, drafts: Sequence[Draft], *, connection: Any = None) -> list[str]:
        """Store a batch, or let it join the caller's transaction."""
        if connection is None:
            try:
                return self._database.run(send, queue, drafts)
            except QueueFull as full:
                if not full.block_ms:
                    raise
                again = partial(self._database.run, send, queue, drafts)
                return send_when_room(self, again, full, self.has_room)
        with self._database.join(connection) as tx:
            return send(tx, queue, drafts)

    def watch(self) -> Watch:
        """Start watching for writes; each engine has its own way."""
        raise NotImplementedError

    def has_room(self, full: QueueFull) -> bool:
        """Return whether a send that was refused may fit now, or raises another error."""
        with self._database.read() as tx:
            row = tx.execute(tx.sql.QUEUE, (full.queue,)).fetchone()
            return row is None or read_backlog(tx, row[0])[0].has_room(*full.needs)


def send(tx: WriteTransaction, queue: str, drafts: Sequence[Draft]) -> list[str]:
    """Store drafts and return their ids in order.

    Raises:
        InvalidInput: more than MAX_SEND_BATCH messages.
        UnknownQueue: there is no such queue.
        InvalidBody: a body is over the queue's limit.
        QueueFull: the queue has no room for them.
        StorageFull: the disk has less free space than the queue's `min_free_bytes`.
    """
    if len(drafts) > MAX_SEND_BATCH:
        raise _too_many(len(drafts))
    if not drafts:
        return []
    execute, sql = tx.execute, tx.sql
    row = execute(sql.SEND_TO, (queue,)).fetchone()
    if row is None:
        raise _refused(tx, queue)
    tx.revision, limits, *target = row
    queue_id, *_, last_id = target
    if has_flow := any(map(_flow, drafts)):
        drafts = with_delays(drafts, tx.now_ms + tx.offset_ms)
    rows, insert = _rows(tx.now_ms, queue, target, drafts), sql.INSERT
    needs_plan = limits & SEND_LIMITS
    terms = send_terms(tx, queue_id, limits) if limits & WITH_TERMS else NO_TERMS
    if terms.expires_in_ms or has_flow:
        with_flow = partial(_with_flow, terms.expires_in_ms)
        rows, insert = list(map(with_flow, rows, drafts)), sql.INSERT_FLOW
        if any(each.flow and each.flow.envelope for each in drafts):
            rows, insert = list(map(_with_envelope, rows, drafts)), sql.INSERT_ENVELOPE
        needs_plan = needs_plan or any(each.flow and each.flow.is_planned for each in drafts)
    made = _plan(tx, queue, limits, rows, drafts) if needs_plan else None
    if made is not None:
        rows = _carry_out(tx, queue_id, made, rows)
    if limits & RANKED_BY_TIME:
        rows = [terms.ranked(row) for row in rows]
    if limits & groups.GROUPS:
        rows = groups.enter(tx, queue_id, rows)
    if made is not None:
        tx.raw.executemany(insert, rows)
        return made.answer
    execute(sql.SENT, (len(rows), queue_id))
    if len(rows) == 1:
        execute(insert, rows[0])
        return [str(last_id + 1)]
    tx.raw.executemany(insert, rows)
    return [str(row[0]) for row in rows]


def _plan(
    tx: WriteTransaction,
    queue: str,
    limits: int,
    rows: list[tuple[Any, ...]],
    drafts: Sequence[Draft],
) -> Plan:
    """Return the fate of each message of a send.

    Args:
        tx: the transaction.
        queue: the name of the queue.
        limits: the bits of its limits.
        rows: the values of the messages.
        drafts: the messages.
    """
    queue_id = rows[0][_QUEUE_ID]
    backlog = backlog_of(tx, queue, queue_id, limits) if limits & SEND_LIMITS else UNLIMITED
    flows = [draft.flow or _NO_FLOW for draft in drafts]
    facts = facts_of(tx, queue_id, flows, backlog)
    incoming = [
        Incoming(row[_ID], row[_BODY_BYTES], flow) for row, flow in zip(rows, flows, strict=True)
    ]
    made = plan(queue, incoming, facts)
    if made.shed:
        warn_shed(queue, made.shed)
    return made


def _carry_out(
    tx: WriteTransaction, queue_id: int, made: Plan, rows: list[tuple[Any, ...]]
) -> list[tuple[Any, ...]]:
    """Count a planned send, end what it replaces, and return the values of the new messages."""
    tx.count(queue_id, tx.sql.SENT, len(made.stored))
    tx.count(queue_id, tx.sql.SHED_UNSTORED, made.shed)
    coalescing.carry_out(tx, queue_id, made)
    new = {*made.new}
    kept = [
        _debounced(row, tx.now_ms, *made.debounced[row[_ID]]) if row[_ID] in made.debounced else row
        for row in rows
        if row[_ID] in new
    ]
    come(tx, queue_id, sum(row[_BODY_BYTES] for row in kept))
    return kept


def _debounced(row: tuple[Any, ...], now_ms: int, due_ms: int, until_ms: int) -> tuple[Any, ...]:
    """Return the values of a message for sql.INSERT_FLOW with its debounced delay."""
    values = [*row]
    waits = due_ms > now_ms
    values[_STATE] = _DELAYED if waits else _READY
    values[_DUE], values[_RETENTION_FROM] = (due_ms if waits else 0), due_ms
    values[_DEBOUNCE_UNTIL] = until_ms
    return tuple(values)


def _rows(
    now_ms: int, queue: str, target: Sequence[int], drafts: Sequence[Draft]
) -> list[tuple[Any, ...]]:
    """Return the values of the messages to insert.

    Args:
        now_ms: the time.
        queue: the name of the queue.
        target: the rest of its row of sql.SEND_TO.
        drafts: the messages.
    """
    queue_id, queue_delay_ms, max_body_bytes, last_id = target
    rows = []
    for message_id, draft in enumerate(drafts, last_id + 1):
        body, key, payload_hash, attributes, delay_ms, priority, _ = draft
        body_bytes = len(body) if body.isascii() else codec.size(body)
        if body_bytes > max_body_bytes and size_as_sent(draft) > max_body_bytes:
            raise too_large(drafts, message_id - last_id, queue, max_body_bytes)
        if delay_ms is None:
            delay_ms = queue_delay_ms
        due_ms = now_ms + delay_ms
        rows.append(  # in the order of the parameters of sql.INSERT
            (
                message_id,
                queue_id,
                _DELAYED if delay_ms else _READY,
                -priority,
                priority,
                due_ms if delay_ms else 0,
                now_ms,
                due_ms,
                body_bytes,
                key or "",
                _NO_HASH if payload_hash is None else bytearray(payload_hash),
                attributes or "",
                body,
            )
        )
    return rows


def _with_flow(expires_in_ms: int, row: tuple[Any, ...], draft: Draft) -> tuple[Any, ...]:
    """Return the values of a message for sql.INSERT_FLOW, in a queue with this `expires_in`."""
    flow, now_ms = draft.flow or _NO_FLOW, row[_NOW]
    ends_ms = expires_at_ms(flow, now_ms, row[_RETENTION_FROM] - now_ms, expires_in_ms)
    return *row, flow.group or "", row[_ID], flow.replace_key or "", 0, ends_ms


def _with_envelope(row: tuple[Any, ...], draft: Draft) -> tuple[Any, ...]:
    """Return the values of a message for sql.INSERT_ENVELOPE."""
    body_format, system_attributes, *_ = (draft.flow and draft.flow.envelope) or _NO_ENVELOPE
    return *row, body_format, system_attributes or ""


def _too_many(number: int) -> InvalidInput:
    return InvalidInput(
        f"A batch has at most {MAX_SEND_BATCH} messages, got {number}. "
        "Send several batches, or use queue.producer()."
    )


def _refused(tx: WriteTransaction, queue: str) -> DurableQError:
    if tx.find_queue(queue) is None:
        return UnknownQueue(queue)
    return Conflict(
        f"{queue!r} is a dead-letter queue: only failed messages come there. "
        f"Send to {queue.removesuffix(DEAD_LETTER_SUFFIX)!r}."
    )
