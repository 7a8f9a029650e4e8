"""Decisions about many dead letters: begun, continued a few letters at a time, ended."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from durableq.clock import Clock
from durableq.engines.memory.moves import MemoryMoves
from durableq.engines.memory.tables import Progress, Row
from durableq.errors import Conflict
from durableq.letters import (
    LetterFilter,
    Move,
    MoveState,
    check_move,
    check_move_limit,
    source_is_gone,
    unknown_move,
)
from durableq.limits import MAX_MOVES, MAX_RECEIVE_BATCH
from durableq.message import State
from durableq.verdict import Discard, Requeue


class MemoryBulk(MemoryMoves):
    """Moves of many letters. None of these is a transaction: the verbs are."""

    def __init__(self, clock: Clock, dice: Callable[[], float]) -> None:
        super().__init__(clock, dice)
        self._last_move = 0

    def _start_move(
        self, wanted: LetterFilter, verdict: Requeue | Discard, to_queue: str | None, actor: str
    ) -> Move:
        check_move(verdict, to_queue)
        for name in (wanted.queue, to_queue):
            if name is not None and self._queue(name).dead_letter_queue is None:
                raise Conflict(f"{name!r} is a dead-letter queue: name the queue it serves.")
        letters = self._meant(wanted, last_burial=self._last_burial)
        for row in letters:
            self._check_target(row, verdict, to_queue)
        self._last_move += 1
        now_ms, move_id = self._clock.now_ms(), str(self._last_move)
        move = Move(
            move_id,
            wanted,
            verdict,
            to_queue,
            MoveState.RUNNING,
            total=len(letters),
            moved=0,
            skipped=0,
            actor=actor,
            started_at_ms=now_ms,
            updated_at_ms=now_ms,
        )
        self._tables.moves[move_id] = Progress(move, self._last_burial)
        self._forget_old_moves()
        return move

    def _continue_move(self, move_id: str, limit: int) -> Move:
        check_move_limit(limit, MAX_RECEIVE_BATCH)
        move, last_burial, cursor = self._progress(move_id)
        if move.state is not MoveState.RUNNING:
            return move
        if move.to_queue is not None:
            self._queue(move.to_queue)
        for name in sorted(self._tables.queues):
            if self._queue(name).dead_letter_queue is None:
                self._reclaim_expired(name)
        page = self._meant(move.wanted, last_burial, cursor)[:limit]
        free = [row for row in page if row.state is not State.IN_FLIGHT]
        for row in free:
            self._check_target(row, move.verdict, move.to_queue)
            self._decide(row, move.verdict, move.actor, move.to_queue)
        return self._update(
            move_id,
            int(page[-1].id) if page else cursor,
            state=MoveState.RUNNING if len(page) == limit else MoveState.DONE,
            moved=move.moved + len(free),
            skipped=move.skipped + len(page) - len(free),
        )

    def _cancel_move(self, move_id: str) -> Move:
        move, _, cursor = self._progress(move_id)
        if move.state is not MoveState.RUNNING:
            return move
        return self._update(move_id, cursor, state=MoveState.CANCELLED)

    # ---- within

    def _meant(self, wanted: LetterFilter, last_burial: int, cursor: int = 0) -> list[Row]:
        """Return the letters beyond the cursor that fit, in order of id."""
        found = []
        for row in self._tables.rows.values():
            if row.source_queue is not None and int(row.id) > cursor and row.burial <= last_burial:
                letter = self._letter(self._as_message(row), row.source_queue)
                if wanted.fits(letter):
                    found.append(row)
        return found

    def _check_target(self, row: Row, verdict: Requeue | Discard, to_queue: str | None) -> None:
        stays = isinstance(verdict, Requeue) and to_queue is None
        if stays and row.source_queue not in self._tables.queues:
            raise source_is_gone(row.id)

    def _progress(self, move_id: str) -> Progress:
        if move_id not in self._tables.moves:
            raise unknown_move(move_id)
        return self._tables.moves[move_id]

    def _update(self, move_id: str, cursor: int, **changes: Any) -> Move:
        progress = self._tables.moves[move_id]
        changed = replace(progress.move, updated_at_ms=self._clock.now_ms(), **changes)
        self._tables.moves[move_id] = progress._replace(move=changed, cursor=cursor)
        return changed

    def _forget_old_moves(self) -> None:
        moves = self._tables.moves
        ended = [n for n, (move, *_) in moves.items() if move.state is not MoveState.RUNNING]
        for move_id in ended[:-MAX_MOVES]:
            del moves[move_id]
