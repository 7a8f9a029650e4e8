"""The circuit breaker of a queue: read and stored in the transaction that receives or settles.

Only queues whose breaker is on come here. A receive reads the state; a failure that may be due to a
service reads it, and writes it with the record of its message. A success does neither.
"""

from __future__ import annotations

import logging
from typing import Final, NamedTuple

from durableq.engines.sql.transactions import StoredQueue, Transaction, WriteTransaction
from durableq.model.errors import DatabaseUnusable
from durableq.model.flow.breaker import Phase
from durableq.model.flow.queue_breaker import (
    COUNTED,
    At,
    FailureRecord,
    Judgement,
    QueueBreaker,
    judge,
    on_receive,
    settings_of,
)
from durableq.model.message import Event, Failure
from durableq.model.text import visible
from durableq.model.units import span
from durableq.runtime.logs import facts

log = logging.getLogger("durableq.breaker")

#: In the order of their stored numbers.
_PHASES: Final = (Phase.CLOSED, Phase.OPEN, Phase.HALF_OPEN)


class StoredBreaker(NamedTuple):
    """A queue's breaker with its settings and the counter of completions; a row of BREAKER."""

    phase: int
    since_ms: int
    until_ms: int
    trips: int
    died: int
    judged: int
    completed_before: int
    reason: str
    completed: int
    breaker_share: float
    breaker_minimum: int
    breaker_window_ms: int
    breaker_open_ms: int
    breaker_open_max_ms: int
    breaker_probes: int

    @property
    def state(self) -> QueueBreaker:
        """The state."""
        phase = _PHASES[self.phase]
        return QueueBreaker(phase, self.since_ms, self.trips, self.until_ms, *self[4:8])


class Probing(NamedTuple):
    """The room that a half-open breaker leaves to a receive."""

    #: The number of messages that may be leased.
    places: int
    #: The number that is in flight, counted up to the number of probes.
    taken: int


class FailureOf(NamedTuple):
    """A failure that was judged, with the state before it."""

    before: QueueBreaker
    after: Judgement


def find(tx: Transaction, queue_id: int) -> StoredBreaker:
    """Return a queue's breaker.

    Raises:
        DatabaseUnusable: its state is not there.
    """
    found = tx.execute(tx.sql.BREAKER, (queue_id,)).fetchone()
    if found is None:
        raise missing_state()
    return StoredBreaker(*found)


def find_state(tx: Transaction, queue_id: int) -> QueueBreaker | None:
    """Return the state of a queue's breaker; None in a damaged file."""
    found = tx.execute(tx.sql.BREAKER, (queue_id,)).fetchone()
    return None if found is None else StoredBreaker(*found).state


def missing_state() -> DatabaseUnusable:
    """Return the error for a queue without a row of limits."""
    return DatabaseUnusable(
        "The state of a queue's limits is missing: something other than durableq wrote to the "
        "file, or it was damaged. durableq audit tells more; restore a backup."
    )


def room(tx: WriteTransaction, queue_id: int) -> Probing | None:
    """Return the room that is left to a receive; None means no limit.

    An open breaker begins to probe when its time is over, and one that probes may close.
    """
    stored = find(tx, queue_id)
    if _PHASES[stored.phase] is Phase.CLOSED:
        return None
    before = stored.state
    state = on_receive(before, At(tx.lease_now_ms, stored.completed), stored)
    if state is not before and not save(tx, queue_id, before, state):
        return room(tx, queue_id)  # another transaction has changed it since it was read
    return _probing(tx, queue_id, state, stored)


def waits_ms(tx: Transaction, queue_id: int, due_ms: int | None, *, is_ready: bool) -> list[int]:
    """Return the times until the breaker lets messages through; none: not before a lease ends.

    Args:
        tx: the transaction.
        queue_id: the queue.
        due_ms: the time until a message is due; None: none is delayed.
        is_ready: whether a message is ready.
    """
    stored = find(tx, queue_id)
    state = on_receive(stored.state, At(tx.lease_now_ms, stored.completed), stored)
    probing = _probing(tx, queue_id, state, stored)
    if probing is not None and probing.taken:
        is_ready = is_ready and _has_fresh(tx, queue_id)
    waits = [0] if is_ready else []
    if due_ms is not None:
        waits.append(due_ms)
    if state.phase is Phase.OPEN:
        return [max(wait, state.left_ms(tx.lease_now_ms)) for wait in waits]
    return waits if probing is None or probing.places else []


def judge_failure(
    tx: WriteTransaction, row: StoredQueue, message_id: int, failure: Failure
) -> FailureOf | None:
    """Return the effect of a failure on the breaker, which is not stored yet; None: there is none.

    Args:
        tx: the transaction.
        row: the queue, with its breaker on.
        message_id: the message.
        failure: its failure.
    """
    if failure.reason not in COUNTED:
        return None
    stored = find(tx, row.id)
    found = tx.run(tx.sql.FAILURE_OF, in_queue=row.id, of=message_id).fetchone()
    known = None if found is None else FailureRecord(*found)
    at = At(tx.lease_now_ms, stored.completed, tx.rng())
    before = stored.state
    return FailureOf(before, judge(before, known, str(message_id), failure, at, stored))


def store_failure(
    tx: WriteTransaction, row: StoredQueue, message_id: int, found: FailureOf
) -> None:
    """Store the effect of a failure whose message was moved."""
    state, record, _ = found.after
    if record is not None:
        at_ms, uncounted, completed = record
        values = {"at_ms": at_ms, "uncounted": uncounted, "completed": completed}
        tx.run(tx.sql.PUT_FAILURE, in_queue=row.id, of=message_id, **values)
    if state != found.before and not save(tx, row.id, found.before, state):
        log.debug("another process has changed the breaker of %s: its decision stands", row.name)


def prune_failures(
    tx: WriteTransaction, after: tuple[int, int], window: int, limit: int
) -> tuple[int, int]:
    """Remove records of failures that are of no use any more, from a window of their table.

    Args:
        tx: the transaction.
        after: queue and message of the row after which the window begins.
        window: the number of rows to read.
        limit: the number to remove at most.

    Returns:
        The row after which the next window begins; (0, 0) is the first one.
    """
    at = {"after_queue": after[0], "after": after[1], "lease_now": tx.lease_now_ms}
    rows = tx.run(tx.sql.FAILURE_WINDOW, window=window, **at).fetchall()
    old = [(queue_id, message_id) for queue_id, message_id, is_old in rows if is_old][:limit]
    if old:
        tx.run_many(tx.sql.DROP_FAILURE_ROWS, [{"in_queue": q, "of": m} for q, m in old])
    if len(old) == limit:
        return old[-1]
    queue_id, message_id, _ = rows[-1] if len(rows) == window else (0, 0, 0)
    return queue_id, message_id


def save(
    tx: WriteTransaction,
    queue_id: int,
    before: QueueBreaker,
    after: QueueBreaker,
    actor: str = "",
) -> bool:
    """Store a state; return False if another transaction has changed it since it was read.

    A change of phase is recorded in the history, under the negative id of the queue, and logged.
    """
    saved = tx.run(
        tx.sql.SET_BREAKER,
        in_queue=queue_id,
        seen_phase=_PHASES.index(before.phase),
        seen_since_ms=before.since_ms,
        seen_died=before.died,
        phase=_PHASES.index(after.phase),
        since_ms=after.since_ms,
        until_ms=after.until_ms,
        trips=after.trips,
        died=after.died,
        judged=after.judged,
        completed=after.completed,
        reason=after.reason,
    )
    if saved.rowcount != 1:
        return False
    if (after.phase, after.since_ms) != (before.phase, before.since_ms):
        name = tx.queue_by_id(queue_id).name
        tx.record(-queue_id, queue_id, Event.BREAKER, actor=actor, detail=after.transition)
        _log_transition(name, after)
    return True


def _log_transition(queue: str, state: QueueBreaker) -> None:
    """Log a change of phase."""
    is_open = state.phase is Phase.OPEN
    log.log(
        logging.WARNING if is_open else logging.INFO,
        "the circuit breaker of %s is %s%s: %s",
        queue,
        state.phase.label,
        f" for {span(state.left_ms(state.since_ms))}" if is_open else "",
        visible(state.reason),
        extra=facts("breaker", queue=queue, **state.transition),
    )


def _probing(
    tx: Transaction, queue_id: int, state: QueueBreaker, stored: StoredBreaker
) -> Probing | None:
    settings = settings_of(stored)
    if state.phase is Phase.CLOSED:
        return None
    limit = settings.probes if state.phase is Phase.HALF_OPEN else 0
    taken = 0
    if limit:
        taken = tx.run(tx.sql.COUNT_LEASES, in_queue=queue_id, limit=limit).fetchone()[0]
    return Probing(state.places(taken, settings) or 0, taken)


def _has_fresh(tx: Transaction, queue_id: int) -> bool:
    """Return whether a message is ready that has not raised Unavailable."""
    return tx.execute(tx.sql.READY_FRESH, (queue_id, 0, 0, 1)).fetchone() is not None
