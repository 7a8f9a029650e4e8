"""Burying: a message moves to the dead-letter queue of its queue."""

from __future__ import annotations

from durableq.engines.sql.flow import count_leases
from durableq.engines.sql.leaving import COUNTING_LIMITS, Left, left
from durableq.engines.sql.transactions import StoredQueue, Token, WriteTransaction
from durableq.model.errors import Conflict
from durableq.model.message import Event, Failure, State


def bury(
    tx: WriteTransaction,
    row: StoredQueue,
    message_id: int,
    token: Token,
    from_state: State,
    cause: Failure,
) -> bool:
    """Move a message to its queue's dead-letter queue and record the cause.

    Returns False if the message is no longer in that state under that receipt.
    """
    moved = move_to_dead_letters(tx, row, message_id, token, from_state, cause)
    if moved:
        tx.record(message_id, row.id, Event.BURIED, **cause.history_fields)
    return moved


def move_to_dead_letters(
    tx: WriteTransaction,
    row: StoredQueue,
    message_id: int,
    token: Token,
    from_state: State,
    cause: Failure,
) -> bool:
    """Move a message to its queue's dead-letter queue, without a record of the cause.

    Raises:
        Conflict: its queue has none.
    """
    to_queue = row.dead_letter_queue_id
    if to_queue is None:
        raise Conflict(f"Queue {row.name!r} has no dead-letter queue: nothing is buried from it.")
    buried = tx.run(
        tx.sql.BURY,
        of=message_id,
        token=token,
        from_state=from_state.value,
        from_queue=row.id,
        to_queue=to_queue,
        reason=cause.reason.value,
        fingerprint=cause.fingerprint,
        now_ms=tx.now_ms,
    )
    moved = buried.fetchall()
    if not moved:
        return False
    if row.limits and from_state is State.IN_FLIGHT:
        count_leases(tx, row.id, row.limits, -1)
    if row.limits & COUNTING_LIMITS:
        body_bytes, group = moved[0]
        gone = Left(message_id, row.id, body_bytes, from_state.value, None, group)
        left(tx, [gone], is_buried=True)
    tx.count(row.id, tx.sql.MOVED_OUT)
    tx.count(to_queue, tx.sql.MOVED_IN)
    return True
