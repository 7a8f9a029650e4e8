"""Redrive tasks: one decision about many messages, applied in steps.

A step stores its position in the same transaction, so no message is met twice; see redrive_steps.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any, NamedTuple

from durableq.engines.sql.dead_letters import meant_by
from durableq.engines.sql.redrive_steps import Position, Room, Step, take_step
from durableq.engines.sql.transactions import Operations, Transaction, WriteTransaction, row_id
from durableq.model.dead_letters import (
    DeadLetterFilter,
    RedriveFailure,
    RedriveState,
    RedriveTask,
    WholeQueue,
    check_redrive,
    check_redrive_step,
    check_running,
    continued_meanwhile,
    one_at_a_time,
    source_is_gone,
    unknown_redrive,
)
from durableq.model.decisions import Discard, Requeue
from durableq.model.errors import Conflict
from durableq.model.flow.rate import (
    available,
    charge,
    default_burst,
    interval_ns,
    limited,
    wait_ms,
)
from durableq.model.limits import MAX_ERROR_CHARS, MAX_RECEIVE_BATCH, MAX_REDRIVE_TASKS
from durableq.model.message import Reason
from durableq.runtime.clock import shift
from durableq.store.capabilities import Redrive


class Progress(NamedTuple):
    """A redrive task, its position, and its rate limit."""

    task: RedriveTask
    position: Position
    #: The theoretical arrival time of its rate.
    tat_ns: int


class SQLRedrive(Operations, Redrive):
    """The capability of redrive tasks, in SQL."""

    def start_redrive(
        self,
        wanted: DeadLetterFilter | WholeQueue,
        decision: Requeue | Discard,
        *,
        to_queue: str | None = None,
        actor: str = "",
        rate: float | None = None,
    ) -> RedriveTask:
        """Create a redrive task."""
        check_redrive(wanted, decision, to_queue, rate)
        with self._database.write() as tx:
            wanted = shift(wanted, -tx.offset_ms)
            return tx.shown(_start(tx, wanted, decision, to_queue, actor, rate))

    def continue_redrive(
        self, task_id: str, limit: int, *, within_ms: int | None = None
    ) -> RedriveTask:
        """Decide about the next letters of a task."""
        with self._database.write() as tx:
            return tx.shown(_go_on(tx, task_id, limit, within_ms))

    def set_redrive_rate(self, task_id: str, rate: float | None) -> RedriveTask:
        """Change the rate of a running task."""
        with self._database.write() as tx:
            return tx.shown(_set_rate(tx, task_id, rate))

    def cancel_redrive(self, task_id: str) -> RedriveTask:
        """Stop a running task."""
        with self._database.write() as tx:
            return tx.shown(_cancel(tx, task_id))

    def redrive_tasks(self) -> list[RedriveTask]:
        """Return the tasks, newest first."""
        with self._database.read() as tx:
            return tx.shown(
                [_progress(row, tx).task for row in tx.run(tx.sql.REDRIVE_TASKS).fetchall()]
            )

    def redrive_task(self, task_id: str) -> RedriveTask:
        """Return one task."""
        with self._database.read() as tx:
            return tx.shown(_find(tx, task_id).task)


def _start(
    tx: WriteTransaction,
    wanted: DeadLetterFilter | WholeQueue,
    decision: Requeue | Discard,
    to_queue: str | None,
    actor: str,
    rate: float | None,
) -> RedriveTask:
    """Start a redrive task; see Redrive.start_redrive."""
    if to_queue is not None:
        _check_ordinary(tx, to_queue)
    last_event, last_message = tx.run(tx.sql.LAST_IDS).fetchone()
    at = Position(last_event, last_message)
    if isinstance(wanted, WholeQueue):
        whole = tx.queue(wanted.name)
        (total,) = tx.run(tx.sql.COUNT_IN_QUEUE, in_queue=whole.id).fetchone()
    else:
        needs_source = to_queue is None and isinstance(decision, Requeue)
        whole, total = None, _count_meant(tx, wanted, at, needs_source=needs_source)
    started = tx.run(
        tx.sql.START_REDRIVE,
        state=RedriveState.RUNNING.value,
        wanted=json.dumps(asdict(wanted)) if whole is None else "{}",
        decision=json.dumps({"name": type(decision).__name__.lower(), **asdict(decision)}),
        to_queue=to_queue,
        actor=actor,
        **at._asdict(),
        total=total,
        moved=0,
        skipped=0,
        started_at_ms=tx.now_ms,
        updated_at_ms=tx.now_ms,
        rate=rate or 0.0,
        tat_ns=0,
        queue_id=None if whole is None else whole.id,
        failure="",
    ).fetchone()
    if whole is not None and started is None:
        raise one_at_a_time(whole.name)
    tx.run(tx.sql.FORGET_REDRIVES, kept=MAX_REDRIVE_TASKS)
    return _find(tx, str(started[0])).task


def _count_meant(
    tx: WriteTransaction, wanted: DeadLetterFilter, at: Position, *, needs_source: bool
) -> int:
    """Count the dead letters that match a filter.

    Raises:
        Conflict: the source queue of one is needed, and does not exist any more.
    """
    if wanted.queue is not None:
        _check_ordinary(tx, wanted.queue)
    meant = meant_by(wanted, at.cursor)
    found = tx.run(tx.sql.COUNT_MEANT, **meant, last_event=at.last_event).fetchone()
    total: int = found[0]
    if needs_source and found[1] is not None:
        raise source_is_gone(str(found[1]))
    return total


def _go_on(tx: WriteTransaction, task_id: str, limit: int, within_ms: int | None) -> RedriveTask:
    """Decide about the next messages of a task; see Redrive.continue_redrive."""
    check_redrive_step(limit, MAX_RECEIVE_BATCH, within_ms)
    before = _find(tx, task_id)
    task, position, _ = before
    if task.state is not RedriveState.RUNNING:
        return task
    limit = min(limit, _allowed(tx, before))
    if not limit:
        return task
    _update(tx, before, take_step(tx, task, position, Room(limit, within_ms)))
    return _find(tx, task_id).task


def _cancel(tx: WriteTransaction, task_id: str) -> RedriveTask:
    """Cancel a running redrive task; see Redrive.cancel_redrive."""
    before = _find(tx, task_id)
    if before.task.state is not RedriveState.RUNNING:
        return before.task
    *_, cursor, cursor_rank = before.position
    _update(tx, before, Step(RedriveState.CANCELLED, 0, 0, cursor, cursor_rank))
    return _find(tx, task_id).task


def _update(tx: WriteTransaction, before: Progress, step: Step) -> None:
    """Write what a step of a task has done.

    Raises:
        Conflict: another process has changed the task since it was read.
    """
    rate, tat_ns = before.task.rate, before.tat_ns
    updated = tx.run(
        tx.sql.UPDATE_REDRIVE,
        now_ms=tx.now_ms,
        new_state=step.state.value,
        new_failure=step.failure or "",
        new_cursor=step.cursor,
        new_cursor_rank=step.cursor_rank,
        plus_moved=step.moved,
        plus_skipped=step.skipped,
        new_tat_ns=tat_ns if rate is None else _charged(tx, tat_ns, rate, step.moved),
        **_as_read(before),
    )
    if updated.rowcount != 1:
        raise continued_meanwhile(before.task.id)


def _as_read(before: Progress) -> dict[str, int]:
    """Return the values by which a task is found as it was read."""
    of, moved = row_id(before.task.id), before.task.moved
    return {"of": of, "cursor": before.position.cursor, "moved": moved, "tat_ns": before.tat_ns}


# ---- rate


def _set_rate(tx: WriteTransaction, task_id: str, rate: float | None) -> RedriveTask:
    """Change the rate of a running task; see Redrive.set_redrive_rate."""
    before = _find(tx, task_id)
    check_redrive(before.task.wanted, before.task.decision, before.task.to_queue, rate)
    check_running(before.task)
    tat_ns = before.tat_ns
    if rate is not None:
        price_ns, burst = _price(rate)
        tat_ns = limited(tat_ns, tx.lease_now_ms, price_ns, burst)
    new = {"new_rate": rate or 0.0, "new_tat_ns": tat_ns}
    changed = tx.run(tx.sql.SET_REDRIVE_RATE, **new, **_as_read(before))
    if changed.rowcount != 1:
        raise continued_meanwhile(task_id)
    return _find(tx, task_id).task


def _price(rate: float) -> tuple[int, int]:
    """Return the price of a message in nanoseconds, and the burst."""
    return interval_ns(rate), default_burst(rate)


def _allowed(tx: Transaction, progress: Progress) -> int:
    """Return the number of messages that the rate allows now."""
    if progress.task.rate is None:
        return MAX_RECEIVE_BATCH
    return available(progress.tat_ns, tx.lease_now_ms, *_price(progress.task.rate))


def _charged(tx: Transaction, tat_ns: int, rate: float, moved: int) -> int:
    """Return the theoretical arrival time after so many messages."""
    return charge(tat_ns, tx.lease_now_ms, interval_ns(rate), moved)


def _wait_ms(tx: Transaction, tat_ns: int, rate: float) -> int:
    """Return the time until half of a burst is there: fewer and larger steps at the same rate.

    The other half is time to wake up in, so that a late step loses no token.
    """
    price_ns, burst = _price(rate)
    if available(tat_ns, tx.lease_now_ms, price_ns, burst):
        return 0
    return wait_ms(tat_ns, tx.lease_now_ms, price_ns, burst, max(1, burst // 2))


def clamp(tx: WriteTransaction) -> None:
    """Correct the running tasks after events were dropped: SQLite reuses the last ids.

    A burial under such an id is later than the running tasks, which must not include it.
    """
    tx.run(tx.sql.CLAMP_REDRIVES)


def _find(tx: Transaction, task_id: str) -> Progress:
    """Return a redrive task.

    Raises:
        NotFound: there is none.
    """
    row = tx.run(tx.sql.REDRIVE_TASK, of=row_id(task_id)).fetchone()
    if row is None:
        raise unknown_redrive(task_id)
    return _progress(row, tx)


def _check_ordinary(tx: WriteTransaction, name: str) -> None:
    if tx.queue(name).dead_letter_queue_id is None:
        raise Conflict(f"{name!r} is a dead-letter queue: name the queue it serves.")


def _progress(row: tuple[Any, ...], tx: Transaction) -> Progress:
    """Return a task from a row of REDRIVE_TASK."""
    task_id, state, wanted, decision, to_queue, actor, last_event, cursor, *counts = row
    total, moved, skipped, started_at_ms, updated_at_ms, rate, tat_ns, *rest = counts
    last_message, cursor_rank, _, failure, queue = rest
    waits = rate and state == RedriveState.RUNNING
    task = RedriveTask(
        str(task_id),
        _wanted(**json.loads(wanted)) if queue is None else WholeQueue(queue),
        _decision(**json.loads(decision)),
        to_queue,
        RedriveState(state),
        total,
        moved,
        skipped,
        actor,
        started_at_ms,
        updated_at_ms,
        rate or None,
        _wait_ms(tx, tat_ns, rate) if waits else 0,
        RedriveFailure(failure) if failure else None,
    )
    return Progress(task, Position(last_event, last_message, cursor, cursor_rank), tat_ns)


def _wanted(reason: str | None, **rest: Any) -> DeadLetterFilter:
    return DeadLetterFilter(reason=None if reason is None else Reason(reason), **rest)


def _decision(name: str, reason: str, **rest: Any) -> Requeue | Discard:
    reason = reason[:MAX_ERROR_CHARS]  # release 0.1 stored longer ones
    return Discard(reason, **rest) if name == "discard" else Requeue(reason, **rest)
