"""Decisions about many dead letters: begun, continued a few letters at a time, ended."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from durableq.engines.memory.tables import Progress, Row
from durableq.engines.memory.transitions import MemoryMoves
from durableq.model.dead_letters import (
    DeadLetterFilter,
    RedriveState,
    RedriveTask,
    check_redrive,
    check_redrive_limit,
    source_is_gone,
    unknown_redrive,
)
from durableq.model.decisions import Discard, Requeue
from durableq.model.errors import Conflict
from durableq.model.limits import MAX_RECEIVE_BATCH, MAX_REDRIVE_TASKS
from durableq.model.message import State
from durableq.runtime.clock import Clock


class MemoryBulk(MemoryMoves):
    """Moves of many letters. None of these is a transaction: the verbs are."""

    def __init__(self, clock: Clock, rng: Callable[[], float]) -> None:
        super().__init__(clock, rng)
        self._last_move = 0

    def _start_redrive(
        self,
        wanted: DeadLetterFilter,
        decision: Requeue | Discard,
        to_queue: str | None,
        actor: str,
    ) -> RedriveTask:
        check_redrive(decision, to_queue)
        for name in (wanted.queue, to_queue):
            if name is not None and self._queue(name).dead_letter_queue is None:
                raise Conflict(f"{name!r} is a dead-letter queue: name the queue it serves.")
        dead_letters = self._meant(wanted, last_burial=self._last_burial)
        for row in dead_letters:
            self._check_target(row, decision, to_queue)
        self._last_move += 1
        now_ms, task_id = self._clock.now_ms(), str(self._last_move)
        move = RedriveTask(
            task_id,
            wanted,
            decision,
            to_queue,
            RedriveState.RUNNING,
            total=len(dead_letters),
            moved=0,
            skipped=0,
            actor=actor,
            started_at_ms=now_ms,
            updated_at_ms=now_ms,
        )
        self._tables.moves[task_id] = Progress(move, self._last_burial)
        self._forget_old_redrives()
        return move

    def _continue_redrive(self, task_id: str, limit: int) -> RedriveTask:
        check_redrive_limit(limit, MAX_RECEIVE_BATCH)
        move, last_burial, cursor = self._progress(task_id)
        if move.state is not RedriveState.RUNNING:
            return move
        if move.to_queue is not None:
            self._queue(move.to_queue)
        for name in sorted(self._tables.queues):
            if self._queue(name).dead_letter_queue is None:
                self._reclaim_expired(name)
        page = self._meant(move.wanted, last_burial, cursor)[:limit]
        free = [row for row in page if row.state is not State.IN_FLIGHT]
        for row in free:
            self._check_target(row, move.decision, move.to_queue)
            self._decide(row, move.decision, move.actor, move.to_queue)
        return self._update(
            task_id,
            int(page[-1].id) if page else cursor,
            state=RedriveState.RUNNING if len(page) == limit else RedriveState.DONE,
            moved=move.moved + len(free),
            skipped=move.skipped + len(page) - len(free),
        )

    def _cancel_redrive(self, task_id: str) -> RedriveTask:
        move, _, cursor = self._progress(task_id)
        if move.state is not RedriveState.RUNNING:
            return move
        return self._update(task_id, cursor, state=RedriveState.CANCELLED)

    # ---- within

    def _meant(self, wanted: DeadLetterFilter, last_burial: int, cursor: int = 0) -> list[Row]:
        """Return the letters beyond the cursor that fit, in order of id."""
        found = []
        for row in self._tables.rows.values():
            if row.source_queue is not None and int(row.id) > cursor and row.burial <= last_burial:
                dead_letter = self._as_dead_letter(self._as_message(row), row.source_queue)
                if wanted.fits(dead_letter):
                    found.append(row)
        return found

    def _check_target(self, row: Row, decision: Requeue | Discard, to_queue: str | None) -> None:
        stays = isinstance(decision, Requeue) and to_queue is None
        if stays and row.source_queue not in self._tables.queues:
            raise source_is_gone(row.id)

    def _progress(self, task_id: str) -> Progress:
        if task_id not in self._tables.moves:
            raise unknown_redrive(task_id)
        return self._tables.moves[task_id]

    def _update(self, task_id: str, cursor: int, **changes: Any) -> RedriveTask:
        progress = self._tables.moves[task_id]
        changed = replace(progress.move, updated_at_ms=self._clock.now_ms(), **changes)
        self._tables.moves[task_id] = progress._replace(move=changed, cursor=cursor)
        return changed

    def _forget_old_redrives(self) -> None:
        moves = self._tables.moves
        ended = [n for n, (move, *_) in moves.items() if move.state is not RedriveState.RUNNING]
        for task_id in ended[:-MAX_REDRIVE_TASKS]:
            del moves[task_id]
