"""Burials by other decisions than those about a failure."""

from __future__ import annotations

from durableq.engines.sql.settling import LeasedMessage, move_to_dead_letters
from durableq.engines.sql.transactions import StoredQueue, WriteTransaction
from durableq.model.message import Event, Failure, State


def bury(
    tx: WriteTransaction,
    row: StoredQueue,
    message: LeasedMessage,
    state: State,
    cause: Failure,
    receives: int | None = None,
) -> bool:
    """Move a message to its queue's dead-letter queue and record the cause.

    The history has the number of receives where it does not have an event of each.

    Returns False if the message is no longer in that state under that receipt.
    """
    moved = move_to_dead_letters(tx, row, message, state, cause)
    if moved:
        detail = None if receives is None else {"receives": receives}
        tx.record(message.id, row.id, Event.BURIED, detail=detail, **cause.history_fields)
    return moved
