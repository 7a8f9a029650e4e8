"""Redrive tasks: one decision about many dead letters, applied in steps.

A step leases its dead letters and decides about them as a recovery process does, and stores its
cursor in the same transaction. So each decision is fenced, counted and recorded as usual, and no
dead letter is met twice.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any, Final, NamedTuple

from durableq.engines.sql.admission import choose
from durableq.engines.sql.columns import OWNER_BASE
from durableq.engines.sql.dead_letters import decide_one, meant_by
from durableq.engines.sql.flow import count_leases
from durableq.engines.sql.receiving import lease_ready, new_token
from durableq.engines.sql.reclaiming import reclaim_expired
from durableq.engines.sql.settling import LeasedMessage
from durableq.engines.sql.transactions import (
    Operations,
    StoredQueue,
    Transaction,
    WriteTransaction,
    row_id,
)
from durableq.model.dead_letters import (
    DeadLetterFilter,
    RedriveState,
    RedriveTask,
    check_redrive,
    check_redrive_limit,
    check_running,
    continued_meanwhile,
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
from durableq.model.message import Outcome, Reason, State
from durableq.runtime.clock import shift
from durableq.store.capabilities import Redrive

#: Length of a step's own leases, which its transaction ends.
_LEASE_MS: Final = 1_000


class Progress(NamedTuple):
    """A redrive task, its cursor, and its rate limit."""

    task: RedriveTask
    last_event: int
    cursor: int
    #: The theoretical arrival time of its rate.
    tat_ns: int


class _DeadLetter(NamedTuple):
    """A dead letter of a task. Columns in the order of DEAD_LETTERS_MEANT."""

    id: int
    queue_id: int
    state: int
    recovery_count: int
    source_queue_id: int
    known_source_id: int | None
    group: str | None


class SQLRedrive(Operations, Redrive):
    """The capability of redrive tasks, in SQL."""

    def start_redrive(
        self,
        wanted: DeadLetterFilter,
        decision: Requeue | Discard,
        *,
        to_queue: str | None = None,
        actor: str = "",
        rate: float | None = None,
    ) -> RedriveTask:
        """Create a redrive task."""
        check_redrive(decision, to_queue, rate)
        with self._database.write() as tx:
            wanted = shift(wanted, -tx.offset_ms)
            return tx.shown(_start(tx, wanted, decision, to_queue, actor, rate))

    def continue_redrive(self, task_id: str, limit: int) -> RedriveTask:
        """Decide about the next letters of a task."""
        with self._database.write() as tx:
            return tx.shown(_go_on(tx, task_id, limit))

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
    wanted: DeadLetterFilter,
    decision: Requeue | Discard,
    to_queue: str | None,
    actor: str,
    rate: float | None,
) -> RedriveTask:
    """Start a redrive task; see Redrive.start_redrive."""
    for name in (wanted.queue, to_queue):
        if name is not None:
            _ordinary(tx, name)
    (last_event,) = tx.run(tx.sql.LAST_EVENT).fetchone()
    meant = meant_by(wanted, 0)
    total, lost = tx.run(tx.sql.COUNT_MEANT, **meant, last_event=last_event).fetchone()
    if lost is not None and to_queue is None and isinstance(decision, Requeue):
        raise source_is_gone(str(lost))
    started = tx.run(
        tx.sql.START_REDRIVE,
        state=RedriveState.RUNNING.value,
        wanted=json.dumps(asdict(wanted)),
        decision=json.dumps({"name": type(decision).__name__.lower(), **asdict(decision)}),
        to_queue=to_queue,
        actor=actor,
        last_event=last_event,
        cursor=0,
        total=total,
        moved=0,
        skipped=0,
        started_at_ms=tx.now_ms,
        updated_at_ms=tx.now_ms,
        rate=rate or 0.0,
        tat_ns=0,
        last_message=0,
        renews_id=0,
    )
    task_id = str(started.fetchone()[0])
    tx.run(tx.sql.FORGET_REDRIVES, kept=MAX_REDRIVE_TASKS)
    return _find(tx, task_id).task


def _go_on(tx: WriteTransaction, task_id: str, limit: int) -> RedriveTask:
    """Decide about the next dead letters of a task; see Redrive.continue_redrive."""
    check_redrive_limit(limit, MAX_RECEIVE_BATCH)
    before = _find(tx, task_id)
    task, last_event, cursor, tat_ns = before
    if task.state is not RedriveState.RUNNING:
        return task
    limit = min(limit, _allowed(tx, before))
    if not limit:
        return task
    to_queue = None if task.to_queue is None else _ordinary(tx, task.to_queue)
    _reclaim_dead_letters(tx)
    # One more than are decided about: the last step then knows that it is the last.
    meant = meant_by(task.wanted, cursor) | {"last_event": last_event, "limit": limit + 1}
    found = [_DeadLetter(*row) for row in tx.run(tx.sql.DEAD_LETTERS_MEANT, **meant).fetchall()]
    page = found[:limit]
    free = [dead_letter for dead_letter in page if dead_letter.state != State.IN_FLIGHT]
    moved = _decide(tx, task, free, to_queue)
    _update(
        tx,
        before,
        new_state=(RedriveState.RUNNING if len(found) > limit else RedriveState.DONE).value,
        new_cursor=page[-1].id if page else cursor,
        plus_moved=moved,
        plus_skipped=len(page) - moved,
        new_tat_ns=tat_ns if task.rate is None else _charged(tx, tat_ns, task.rate, moved),
    )
    return _find(tx, task_id).task


def _cancel(tx: WriteTransaction, task_id: str) -> RedriveTask:
    """Cancel a running redrive task; see Redrive.cancel_redrive."""
    before = _find(tx, task_id)
    if before.task.state is not RedriveState.RUNNING:
        return before.task
    _update(
        tx,
        before,
        new_state=RedriveState.CANCELLED.value,
        new_cursor=before.cursor,
        plus_moved=0,
        plus_skipped=0,
        new_tat_ns=before.tat_ns,
    )
    return _find(tx, task_id).task


def _update(tx: WriteTransaction, before: Progress, **values: Any) -> None:
    """Write the progress of a task.

    Raises:
        Conflict: another process has changed the task since it was read.
    """
    of = {"of": row_id(before.task.id), "cursor": before.cursor, "tat_ns": before.tat_ns}
    if tx.run(tx.sql.UPDATE_REDRIVE, now_ms=tx.now_ms, **of, **values).rowcount != 1:
        raise continued_meanwhile(before.task.id)


# ---- rate


def _set_rate(tx: WriteTransaction, task_id: str, rate: float | None) -> RedriveTask:
    """Change the rate of a running task; see Redrive.set_redrive_rate."""
    before = _find(tx, task_id)
    check_redrive(before.task.decision, before.task.to_queue, rate)
    check_running(before.task)
    tat_ns = before.tat_ns
    if rate is not None:
        price_ns, burst = _price(rate)
        tat_ns = limited(tat_ns, tx.lease_now_ms, price_ns, burst)
    of = {"of": row_id(task_id), "cursor": before.cursor, "tat_ns": before.tat_ns}
    changed = tx.run(tx.sql.SET_REDRIVE_RATE, new_rate=rate or 0.0, new_tat_ns=tat_ns, **of)
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


def _decide(
    tx: WriteTransaction,
    task: RedriveTask,
    dead_letters: list[_DeadLetter],
    to_queue: StoredQueue | None,
) -> int:
    """Lease dead letters and decide about them; return the number of those that moved."""
    if not dead_letters:
        return 0
    ids = [dead_letter.id for dead_letter in dead_letters]
    for queue_id in {dead_letter.queue_id for dead_letter in dead_letters}:
        choose(tx, queue_id, [one.id for one in dead_letters if one.queue_id == queue_id])
    token = new_token()
    leased = lease_ready(tx, ids, token, _LEASE_MS, OWNER_BASE)
    moved = 0
    for dead_letter in dead_letters:
        if dead_letter.id not in leased:
            continue
        row = tx.queue_by_id(dead_letter.queue_id)
        count_leases(tx, row.id, row.limits, 1)
        stays = to_queue is None and isinstance(task.decision, Requeue)
        if stays and dead_letter.known_source_id is None:
            raise source_is_gone(str(dead_letter.id))
        message = LeasedMessage(
            dead_letter.id,
            None,
            1,
            dead_letter.group,
            token,
            recovery_count=dead_letter.recovery_count,
            source_queue_id=dead_letter.source_queue_id,
        )
        outcome = decide_one(tx, row, message, task.decision, task.actor, to_queue)
        moved += outcome is Outcome.DONE
    return moved


def _reclaim_dead_letters(tx: WriteTransaction) -> None:
    """Take back ended leases of dead letters, so that the task does not skip them."""
    rows = [StoredQueue(*columns) for columns in tx.run(tx.sql.QUEUES).fetchall()]
    pointed_at = {row.dead_letter_queue_id for row in rows}
    for row in rows:
        if row.dead_letter_queue_id is None or row.id in pointed_at:
            reclaim_expired(tx, row)


def _ordinary(tx: WriteTransaction, name: str) -> StoredQueue:
    row = tx.queue(name)
    if row.dead_letter_queue_id is None:
        raise Conflict(f"{name!r} is a dead-letter queue: name the queue it serves.")
    return row


def _progress(row: tuple[Any, ...], tx: Transaction) -> Progress:
    task_id, state, wanted, decision, to_queue, actor, last_event, cursor, *counts = row
    total, moved, skipped, started_at_ms, updated_at_ms, rate, tat_ns, *_ = counts
    waits = rate and state == RedriveState.RUNNING
    task = RedriveTask(
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
        rate or None,
        _wait_ms(tx, tat_ns, rate) if waits else 0,
    )
    return Progress(task, last_event, cursor, tat_ns)


def _wanted(reason: str | None, **rest: Any) -> DeadLetterFilter:
    return DeadLetterFilter(reason=None if reason is None else Reason(reason), **rest)


def _decision(name: str, reason: str, **rest: Any) -> Requeue | Discard:
    reason = reason[:MAX_ERROR_CHARS]  # release 0.1 stored longer ones
    return Discard(reason, **rest) if name == "discard" else Requeue(reason, **rest)
