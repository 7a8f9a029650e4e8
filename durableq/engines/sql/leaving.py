"""Messages that leave a queue, by any way, or come back to it: limits count what it stores.

A statement that removes messages from a queue returns the columns of `Left`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

from durableq.engines.sql import groups
from durableq.engines.sql.transactions import Token, WriteTransaction
from durableq.model.message import State
from durableq.model.settings import Limits

#: Limits that need to know about each message that leaves. Dead letters may hold groups elsewhere.
COUNTING_LIMITS: Final = int(Limits.BACKLOG_BYTES | Limits.GROUPS | Limits.SERVES)
_BACKLOG_BYTES: Final = int(Limits.BACKLOG_BYTES)
#: Limits that change with the end of a message, or that its group's next message waits for.
_CHANGES_WITH_THE_END: Final = COUNTING_LIMITS | int(Limits.IN_FLIGHT) | groups.SLOW


class Left(NamedTuple):
    """A message that has left its queue. Columns in the order of `messages.left`."""

    id: int
    queue_id: int
    body_bytes: int
    state: int
    source_queue_id: int | None
    group: str | None

    def steps(self, *, is_buried: bool) -> Iterator[tuple[int, str, groups.Step]]:
        """Yield the changes of its group, and of the group that it held as a dead letter."""
        if self.group is None:
            return
        if self.source_queue_id is not None:
            yield self.source_queue_id, self.group, groups.Step(holding=-1)
        place = groups.Step(-int(self.state != State.BLOCKED), int(is_buried))
        yield self.queue_id, self.group, place


_SOURCE: Final = Left._fields.index("source_queue_id")


def left(
    tx: WriteTransaction, rows: Iterable[tuple[Any, ...]], *, is_buried: bool = False
) -> set[int]:
    """Note that messages, in the form of Left, have left their queues; return their ids.

    Args:
        tx: the transaction.
        rows: the messages.
        is_buried: whether they are dead letters now.
    """
    ids, steps = set(), list[tuple[int, str, groups.Step]]()
    for row in rows:
        gone = Left(*row)
        ids.add(gone.id)
        come(tx, gone.queue_id, -gone.body_bytes)
        steps += gone.steps(is_buried=is_buried)
    if steps:
        groups.take_steps(tx, steps)
    return ids


def complete_counted(
    tx: WriteTransaction, queue_id: int, limits: int, token: Token, ids: list[int]
) -> list[tuple[int, str | None]]:
    """Complete leased messages of a queue that counts what it stores, or of a dead-letter queue.

    Returns:
        Their ids and keys.
    """
    sql = tx.sql
    tx.known["limits", queue_id] = limits
    if limits & _CHANGES_WITH_THE_END == groups.GROUPS:
        text, listed = tx.listed(sql.COMPLETE_GROUPED, sql.COMPLETE_GROUPED_ONE, ids)
        rows = tx.execute(text, (listed, queue_id, token)).fetchall()
        if rows:
            groups.completed(tx, queue_id, [row[2] for row in rows])
        return [row[:2] for row in rows]
    text, listed = tx.listed(sql.COMPLETE_COUNTED, sql.COMPLETE_COUNTED_ONE, ids)
    rows = tx.execute(text, (listed, queue_id, token)).fetchall()
    if rows:
        counter = sql.COMPLETED_IN_FLIGHT if limits & Limits.IN_FLIGHT else sql.COMPLETED
        tx.execute(counter, (len(rows), queue_id))
        left(tx, [row[:-1] for row in rows])
    # The key of a dead letter guards nothing. The statement cannot leave it out: in a RETURNING,
    # SQLite 3.40 takes a column that follows one that is NOT NULL for NOT NULL too.
    return [(row[0], row[-1] if row[_SOURCE] is None else None) for row in rows]


def come(tx: WriteTransaction, queue_id: int, body_bytes: int) -> None:
    """Note that a queue stores more, or less, bytes of bodies."""
    if tx.limits_of(queue_id) & _BACKLOG_BYTES:
        tx.count(queue_id, tx.sql.BACKLOG_BYTES, body_bytes)
