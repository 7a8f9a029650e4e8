"""Messages that leave a queue, by any way, or come back to it: limits count what it stores.

A statement that removes messages from a queue returns the columns of `Left`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from durableq.engines.sql.transactions import WriteTransaction
from durableq.model.settings import Limits

#: Limits that need to know about each message that leaves.
COUNTING_LIMITS: Final = int(Limits.BACKLOG_BYTES)


class Left(NamedTuple):
    """A message that has left its queue. Columns in the order of `messages.left`."""

    id: int
    queue_id: int
    body_bytes: int


def left(tx: WriteTransaction, rows: Iterable[tuple[int, ...]]) -> set[int]:
    """Note that messages, in the form of Left, have left their queues; return their ids."""
    ids = set()
    for row in rows:
        gone = Left(*row)
        ids.add(gone.id)
        come(tx, gone.queue_id, -gone.body_bytes)
    return ids


def come(tx: WriteTransaction, queue_id: int, body_bytes: int) -> None:
    """Note that a queue stores more, or less, bytes of bodies."""
    if tx.queue_by_id(queue_id).limits & COUNTING_LIMITS:
        tx.count(queue_id, tx.sql.BACKLOG_BYTES, body_bytes)
