"""Messages that leave a queue, by any way, or come back to it: limits count what it stores.

A statement that removes messages from a queue returns the columns of `Left`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from durableq.engines.sql import groups
from durableq.engines.sql.transactions import WriteTransaction
from durableq.model.message import State
from durableq.model.settings import Limits

#: Limits that need to know about each message that leaves.
COUNTING_LIMITS: Final = int(Limits.BACKLOG_BYTES | Limits.GROUPS)
_BACKLOG_BYTES: Final = int(Limits.BACKLOG_BYTES)


class Left(NamedTuple):
    """A message that has left its queue. Columns in the order of `messages.left`."""

    id: int
    queue_id: int
    body_bytes: int
    state: int
    source_queue_id: int | None
    group: str | None

    def step(self, *, is_buried: bool) -> groups.Step:
        """Return the change of its group, or of the group that it held as a dead letter."""
        if self.source_queue_id is not None:
            return groups.Step(holding=-1)
        return groups.Step(-1, -int(self.state != State.BLOCKED), int(is_buried))


def left(
    tx: WriteTransaction, rows: Iterable[tuple[Any, ...]], *, is_buried: bool = False
) -> set[int]:
    """Note that messages, in the form of Left, have left their queues; return their ids.

    Args:
        tx: the transaction.
        rows: the messages.
        is_buried: whether they are dead letters now.
    """
    ids, steps = set(), []
    for row in rows:
        gone = Left(*row)
        ids.add(gone.id)
        come(tx, gone.queue_id, -gone.body_bytes)
        if gone.group is not None:
            home = gone.queue_id if gone.source_queue_id is None else gone.source_queue_id
            steps.append((home, gone.group, gone.step(is_buried=is_buried)))
    if steps:
        groups.take_steps(tx, steps)
    return ids


def come(tx: WriteTransaction, queue_id: int, body_bytes: int) -> None:
    """Note that a queue stores more, or less, bytes of bodies."""
    if tx.limits_of(queue_id) & _BACKLOG_BYTES:
        tx.count(queue_id, tx.sql.BACKLOG_BYTES, body_bytes)
