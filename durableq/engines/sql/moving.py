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
from durableq.engines.sql.letters import LETTERS, REASON
from durableq.engines.sql.receiving import reclaim_expired
from durableq.engines.sql.settling import Held, decide_one
from durableq.engines.sql.statements import compiled, parameter
from durableq.engines.sql.tables import NO_RECEIPT, move
from durableq.engines.sql.unit import QueueRow, Unit, ids_json, row_id
from durableq.errors import Conflict
from durableq.letters import (
    LetterFilter,
    Move,
    MoveState,
    check_move_limit,
    source_is_gone,
    unknown_move,
)
from durableq.limits import MAX_ERROR_CHARS, MAX_MOVES, MAX_RECEIVE_BATCH
from durableq.message import Reason, State
from durableq.verdict import Discard, Requeue

_LEASE_MS: Final = 1_000
"""Of a step's own lease, which its own transaction ends."""
_MEANT: Final = f"""{LETTERS} AND m.id > :cursor AND coalesce(died.id, 0) <= :last_event
AND (:of_queue IS NULL OR source.name = :of_queue)
AND (:of_reason IS NULL OR {REASON} = :of_reason)
AND (:of_type IS NULL OR coalesce(died.error_type, '') = :of_type)
AND (:of_fingerprint IS NULL OR coalesce(died.fingerprint, '') = :of_fingerprint)
AND (:before_ms IS NULL OR m.enqueued_at_ms < :before_ms)"""
LETTERS_MEANT = compiled(
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

    move: Move
    last_event: int
    cursor: int


class _Letter(NamedTuple):
    """A letter that is meant. Columns in the order of LETTERS_MEANT."""

    id: int
    queue_id: int
    state: int
    recovery_count: int
    source_queue_id: int
    known_source_id: int | None


def start(
    unit: Unit,
    wanted: LetterFilter,
    verdict: Requeue | Discard,
    to_queue: str | None,
    actor: str,
) -> Move:
    """Begin a move; see Store.start_move."""
    for name in (wanted.queue, to_queue):
        if name is not None:
            _ordinary(unit, name)
    (last_event,) = _LAST_EVENT(unit.raw).fetchone()
    meant = _parameters(wanted, last_event, 0)
    total, lost = _COUNT_MEANT(unit.raw, **meant).fetchone()
    if lost is not None and to_queue is None and isinstance(verdict, Requeue):
        raise source_is_gone(str(lost))
    started = _START(
        unit.raw,
        state=MoveState.RUNNING.value,
        wanted=json.dumps(asdict(wanted)),
        verdict=json.dumps({"word": type(verdict).__name__.lower(), **asdict(verdict)}),
        to_queue=to_queue,
        actor=actor,
        last_event=last_event,
        cursor=0,
        total=total,
        moved=0,
        skipped=0,
        started_at_ms=unit.now_ms,
        updated_at_ms=unit.now_ms,
    )
    move_id = str(started.fetchone()[0])
    _FORGET(unit.raw, kept=MAX_MOVES)
    return find(unit.raw, move_id).move


def go_on(unit: Unit, move_id: str, limit: int) -> Move:
    """Decide about the next letters of a move; see Store.continue_move."""
    check_move_limit(limit, MAX_RECEIVE_BATCH)
    move, last_event, cursor = find(unit.raw, move_id)
    if move.state is not MoveState.RUNNING:
        return move
    to_queue = None if move.to_queue is None else _ordinary(unit, move.to_queue)
    _reclaim_letters(unit)
    meant = _parameters(move.wanted, last_event, cursor)
    page = [_Letter(*row) for row in LETTERS_MEANT(unit.raw, **meant, limit=limit).fetchall()]
    free = [letter for letter in page if letter.state != State.IN_FLIGHT]
    _decide(unit, move, free, to_queue)
    _UPDATE(
        unit.raw,
        of=row_id(move_id),
        new_state=(MoveState.RUNNING if len(page) == limit else MoveState.DONE).value,
        new_cursor=page[-1].id if page else cursor,
        plus_moved=len(free),
        plus_skipped=len(page) - len(free),
        now_ms=unit.now_ms,
    )
    return find(unit.raw, move_id).move


def cancel(unit: Unit, move_id: str) -> Move:
    """Let a running move end here; see Store.cancel_move."""
    move, _, cursor = find(unit.raw, move_id)
    if move.state is not MoveState.RUNNING:
        return move
    _UPDATE(
        unit.raw,
        of=row_id(move_id),
        new_state=MoveState.CANCELLED.value,
        new_cursor=cursor,
        plus_moved=0,
        plus_skipped=0,
        now_ms=unit.now_ms,
    )
    return find(unit.raw, move_id).move


def clamp(unit: Unit) -> None:
    """After events were dropped: SQLite gives the ids of the last ones again.

    A burial under such an id is later than the moves that run, which therefore must not mean it.
    """
    _CLAMP(unit.raw)


def moves(raw: Any) -> list[Move]:
    """Return the moves, newest first."""
    return [_progress(row).move for row in _MOVES(raw).fetchall()]


def find(raw: Any, move_id: str) -> Progress:
    """Return a move.

    Raises:
        NotFound: there is none.
    """
    row = _MOVE(raw, of=row_id(move_id)).fetchone()
    if row is None:
        raise unknown_move(move_id)
    return _progress(row)


def _decide(unit: Unit, move: Move, letters: list[_Letter], to_queue: QueueRow | None) -> None:
    if not letters:
        return
    token = os.urandom(len(NO_RECEIPT))
    ids = ids_json([letter.id for letter in letters])
    sql.CHOOSE(unit.raw, ids=ids)
    sql.LEASE(unit.raw, ids=ids, token=token, until=unit.lease_now_ms + _LEASE_MS)
    for letter in letters:
        stays = to_queue is None and isinstance(move.verdict, Requeue)
        if stays and letter.known_source_id is None:
            raise source_is_gone(str(letter.id))
        held = Held(letter.id, None, 1, token, letter.recovery_count, letter.source_queue_id)
        row = unit.queue_by_id(letter.queue_id)
        decide_one(unit, row, held, move.verdict, move.actor, to_queue)


def _reclaim_letters(unit: Unit) -> None:
    """Take back what recovery processes hold no longer, so that it is not skipped."""
    for row in map(QueueRow, sql.QUEUES(unit.raw).fetchall()):
        if row.dead_letter_queue_id is None:
            reclaim_expired(unit, row)


def _ordinary(unit: Unit, name: str) -> QueueRow:
    row = unit.queue(name)
    if row.dead_letter_queue_id is None:
        raise Conflict(f"{name!r} is a dead-letter queue: name the queue it serves.")
    return row


def _parameters(wanted: LetterFilter, last_event: int, cursor: int) -> dict[str, Any]:
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
    move_id, state, wanted, verdict, to_queue, actor, last_event, cursor, *counts = row
    total, moved, skipped, started_at_ms, updated_at_ms = counts
    move = Move(
        str(move_id),
        _wanted(**json.loads(wanted)),
        _verdict(**json.loads(verdict)),
        to_queue,
        MoveState(state),
        total,
        moved,
        skipped,
        actor,
        started_at_ms,
        updated_at_ms,
    )
    return Progress(move, last_event, cursor)


def _wanted(reason: str | None, **rest: Any) -> LetterFilter:
    return LetterFilter(reason=None if reason is None else Reason(reason), **rest)


def _verdict(word: str, reason: str, **rest: Any) -> Requeue | Discard:
    reason = reason[:MAX_ERROR_CHARS]  # release 0.1 stored longer ones
    return Discard(reason, **rest) if word == "discard" else Requeue(reason, **rest)
