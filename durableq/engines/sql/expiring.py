"""The end of messages that wait and whose `expires_in` has ended."""

from __future__ import annotations

from collections.abc import Sequence

from durableq.engines.sql.burying import bury
from durableq.engines.sql.columns import NO_RECEIPT
from durableq.engines.sql.leaving import left
from durableq.engines.sql.settling import MESSAGE_EXPIRED, LeasedMessage
from durableq.engines.sql.transactions import StoredQueue, WriteTransaction
from durableq.model.lifecycle import Bury
from durableq.model.message import Event, State
from durableq.model.settings import Limits


def expire_waiting(
    tx: WriteTransaction, row: StoredQueue, waiting: Sequence[tuple[int, int]]
) -> set[int]:
    """End messages of a queue, given by id and state, as `at_expiry` decides.

    Returns the ids of those that were still there.
    """
    if isinstance(row.at_expiry, Bury):
        return {
            message_id
            for message_id, state in waiting
            if bury(tx, row, _dying(tx, row, message_id), State(state), MESSAGE_EXPIRED)
        }
    ids = tx.list_of([message_id for message_id, _ in waiting])
    ended = left(tx, tx.run(tx.sql.END_WAITING, ids=ids))
    tx.count(row.id, tx.sql.EXPIRED, len(ended))
    for message_id in ended:
        tx.record(message_id, row.id, Event.EXPIRED, **MESSAGE_EXPIRED.history_fields)
    return ended


def _dying(tx: WriteTransaction, row: StoredQueue, message_id: int) -> LeasedMessage:
    """Return a message that is no dead letter; its group is read where it matters."""
    group = None
    if (row.dead_letter_limits or 0) & Limits.GROUPS:
        (group,) = tx.run(tx.sql.GROUP_OF, of=message_id).fetchone() or (None,)
    return LeasedMessage(message_id, None, 0, group, NO_RECEIPT)


def expire_messages(tx: WriteTransaction, limit: int) -> int:
    """End at most `limit` messages, of any queue, those first that expired first.

    Returns the number of those that ended.
    """
    found = tx.run(tx.sql.EXPIRED_MESSAGES, now_ms=tx.now_ms, limit=limit).fetchall()
    of_queue: dict[int, list[tuple[int, int]]] = {}
    for message_id, queue_id, state in found:
        of_queue.setdefault(queue_id, []).append((message_id, state))
    return sum(
        len(expire_waiting(tx, tx.queue_by_id(queue_id), waiting))
        for queue_id, waiting in of_queue.items()
    )
