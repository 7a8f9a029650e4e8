"""Decisions about many dead letters: begun, continued a few letters at a time, ended.

A step leases its letters to itself and decides about them like anybody else, in one transaction
with the place where it stops: so each of them is fenced, counted and told as ever, and no letter
is met twice.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from typing import Any, Final, NamedTuple

from sqlalchemy import insert, select, text, update

from durableq.engines.sql import statements as sql
from durableq.engines.sql.dead_letters import DEAD_LETTERS, REASON
from durableq.engines.sql.receiving import reclaim_expired
from durableq.engines.sql.settling import LeasedMessage, decide_one
from durableq.engines.sql.statements import compiled, parameter
from durableq.engines.sql.tables import NO_RECEIPT, move
from durableq.engines.sql.write_transaction import QueueRow, WriteTransaction, ids_json, row_id
from durableq.model.dead_letters import (
    DeadLetterFilter,
    RedriveState,
    RedriveTask,
    check_redrive_limit,
    source_is_gone,
    unknown_redrive,
)
from durableq.model.decisions import Discard, Requeue
from durableq.model.errors import Conflict
from durableq.model.limits import MAX_ERROR_CHARS, MAX_RECEIVE_BATCH, MAX_REDRIVE_TASKS
from durableq.model.message import Reason, State

#: Of a step's own lease, which its own transaction ends.
_LEASE_MS: Final = 1_000
_MEANT: Final = f"""{DEAD_LETTERS} AND m.id > :cursor AND coalesce(died.id, 0) <= :last_event
AND (:of_queue IS NULL OR source.name = :of_queue)
AND (:of_reason IS NULL OR {REASON} = :of_reason)
AND (:of_type IS NULL OR coalesce(died.error_type, '') = :of_type)
AND (:of_fingerprint IS NULL OR coalesce(died.fingerprint, '') = :of_fingerprint)
AND (:before_ms IS NULL OR m.enqueued_at_ms < :before_ms)"""
DEAD_LETTERS_MEANT = compiled(
    text(
        f"""\
SELECT m.id, m.queue_id, m.state, m.recovery_count, m.source_queue_id, source.id
FROM {_MEANT}
ORDER BY m.id LIMIT :limit"""  # noqa: S608 - constants
    )
)
_COUNT_MEANT = compiled(
    text(
        f"""\
SELECT count(*), max(CASE WHEN source.id IS NULL THEN m.id END)
FROM {_MEANT}"""  # noqa: S608 - constants
    )
)
_LAST_EVENT = compiled(text("SELECT coalesce(max(id), 0) FROM durableq_history"))
_c = move.c
_START = compiled(
    insert(move)
    .values({c.name: parameter(c.name) for c in move.columns if c.name != "id"})
    .returning(_c.id)
)
_MOVE = compiled(select(move).where(_c.id == parameter("of")))
_MOVES = compiled(select(move).order_by(_c.id.desc()))
_UPDATE = compiled(
    update(move)
    .where(_c.id == parameter("of"))
    .values(
        state=parameter("new_state"),
        cursor=parameter("new_cursor"),
        moved=_c.moved + parameter("plus_moved"),
        skipped=_c.skipped + parameter("plus_skipped"),
        updated_at_ms=parameter("now_ms"),
    )
)
_FORGET = compiled(
    text(
        "DELETE FROM durableq_move WHERE id IN (SELECT id FROM durableq_move "
        "WHERE state != 'running' ORDER BY id DESC LIMIT -1 OFFSET :kept)"
    )
)
_CLAMP = compiled(
    text(
        "UPDATE durableq_move SET last_event = min(last_event, "
        "(SELECT coalesce(max(id), 0) FROM durableq_history)) WHERE state = 'running'"
    )
)


class Progress(NamedTuple):
    """A move, and how far it is."""

    move: RedriveTask
    last_event: int
    cursor: int


class _DeadLetter(NamedTuple):
    """A letter that is meant. Columns in the order of LETTERS_MEANT."""

    id: int
    queue_id: int
    state: int
    recovery_count: int
    source_queue_id: int
    known_source_id: int | None


def start(
    tx: WriteTransaction,
    wanted: DeadLetterFilter,
    decision: Requeue | Discard,
    to_queue: str | None,
    actor: str,
) -> RedriveTask:
    """Begin a move; see Store.start_move."""
    for name in (wanted.queue, to_queue):
        if name is not None:
            _ordinary(tx, name)
    (last_event,) = _LAST_EVENT(tx.raw).fetchone()
    meant = _parameters(wanted, last_event, 0)
    total, lost = _COUNT_MEANT(tx.raw, **meant).fetchone()
    if lost is not None and to_queue is None and isinstance(decision, Requeue):
        raise source_is_gone(str(lost))
    started = _START(
        tx.raw,
        state=RedriveState.RUNNING.value,
        wanted=json.dumps(asdict(wanted)),
        verdict=json.dumps({"word": type(decision).__name__.lower(), **asdict(decision)}),
        to_queue=to_queue,
        actor=actor,
        last_event=last_event,
        cursor=0,
        total=total,
        moved=0,
        skipped=0,
        started_at_ms=tx.now_ms,
        updated_at_ms=tx.now_ms,
    )
    task_id = str(started.fetchone()[0])
    _FORGET(tx.raw, kept=MAX_REDRIVE_TASKS)
    return find(tx.raw, task_id).move


def go_on(tx: WriteTransaction, task_id: str, limit: int) -> RedriveTask:
    """Decide about the next letters of a move; see Store.continue_move."""
    check_redrive_limit(limit, MAX_RECEIVE_BATCH)
    move, last_event, cursor = find(tx.raw, task_id)
    if move.state is not RedriveState.RUNNING:
        return move
    to_queue = None if move.to_queue is None else _ordinary(tx, move.to_queue)
    _reclaim_dead_letters(tx)
    meant = _parameters(move.wanted, last_event, cursor)
    page = [
        _DeadLetter(*row) for row in DEAD_LETTERS_MEANT(tx.raw, **meant, limit=limit).fetchall()
    ]
    free = [dead_letter for dead_letter in page if dead_letter.state != State.IN_FLIGHT]
    _decide(tx, move, free, to_queue)
    _UPDATE(
        tx.raw,
        of=row_id(task_id),
        new_state=(RedriveState.RUNNING if len(page) == limit else RedriveState.DONE).value,
        new_cursor=page[-1].id if page else cursor,
        plus_moved=len(free),
        plus_skipped=len(page) - len(free),
        now_ms=tx.now_ms,
    )
    return find(tx.raw, task_id).move


def cancel(tx: WriteTransaction, task_id: str) -> RedriveTask:
    """Let a running move end here; see Store.cancel_move."""
    move, _, cursor = find(tx.raw, task_id)
    if move.state is not RedriveState.RUNNING:
        return move
    _UPDATE(
        tx.raw,
        of=row_id(task_id),
        new_state=RedriveState.CANCELLED.value,
        new_cursor=cursor,
        plus_moved=0,
        plus_skipped=0,
        now_ms=tx.now_ms,
    )
    return find(tx.raw, task_id).move


def clamp(tx: WriteTransaction) -> None:
    """After events were dropped: SQLite gives the ids of the last ones again.

    A burial under such an id is later than the moves that run, which therefore must not mean it.
    """
    _CLAMP(tx.raw)


def moves(raw: Any) -> list[RedriveTask]:
    """Return the moves, newest first."""
    return [_progress(row).move for row in _MOVES(raw).fetchall()]


def find(raw: Any, task_id: str) -> Progress:
    """Return a move.

    Raises:
        NotFound: there is none.
    """
    row = _MOVE(raw, of=row_id(task_id)).fetchone()
    if row is None:
        raise unknown_redrive(task_id)
    return _progress(row)


def _decide(
    tx: WriteTransaction,
    move: RedriveTask,
    dead_letters: list[_DeadLetter],
    to_queue: QueueRow | None,
) -> None:
    if not dead_letters:
        return
    token = os.urandom(len(NO_RECEIPT))
    ids = ids_json([dead_letter.id for dead_letter in dead_letters])
    sql.CHOOSE(tx.raw, ids=ids)
    sql.LEASE(tx.raw, ids=ids, token=token, until=tx.lease_now_ms + _LEASE_MS)
    for dead_letter in dead_letters:
        stays = to_queue is None and isinstance(move.decision, Requeue)
        if stays and dead_letter.known_source_id is None:
            raise source_is_gone(str(dead_letter.id))
        held = LeasedMessage(
            dead_letter.id, None, 1, token, dead_letter.recovery_count, dead_letter.source_queue_id
        )
        row = tx.queue_by_id(dead_letter.queue_id)
        decide_one(tx, row, held, move.decision, move.actor, to_queue)


def _reclaim_dead_letters(tx: WriteTransaction) -> None:
    """Take back what recovery processes hold no longer, so that it is not skipped."""
    for row in map(QueueRow, sql.QUEUES(tx.raw).fetchall()):
        if row.dead_letter_queue_id is None:
            reclaim_expired(tx, row)


def _ordinary(tx: WriteTransaction, name: str) -> QueueRow:
    row = tx.queue(name)
    if row.dead_letter_queue_id is None:
        raise Conflict(f"{name!r} is a dead-letter queue: name the queue it serves.")
    return row


def _parameters(wanted: DeadLetterFilter, last_event: int, cursor: int) -> dict[str, Any]:
    return {
        "cursor": cursor,
        "last_event": last_event,
        "of_queue": wanted.queue,
        "of_reason": wanted.reason,
        "of_type": wanted.error_type,
        "of_fingerprint": wanted.fingerprint,
        "before_ms": wanted.died_before_ms,
    }


def _progress(row: tuple[Any, ...]) -> Progress:
    task_id, state, wanted, decision, to_queue, actor, last_event, cursor, *counts = row
    total, moved, skipped, started_at_ms, updated_at_ms = counts
    move = RedriveTask(
        str(task_id),
        _wanted(**json.loads(wanted)),
        _decision(**json.loads(decision)),
        to_queue,
        RedriveState(state),
        total,
        moved,
        skipped,
        actor,
        started_at_ms,
        updated_at_ms,
    )
    return Progress(move, last_event, cursor)


def _wanted(reason: str | None, **rest: Any) -> DeadLetterFilter:
    return DeadLetterFilter(reason=None if reason is None else Reason(reason), **rest)


def _decision(word: str, reason: str, **rest: Any) -> Requeue | Discard:
    reason = reason[:MAX_ERROR_CHARS]  # release 0.1 stored longer ones
    return Discard(reason, **rest) if word == "discard" else Requeue(reason, **rest)
