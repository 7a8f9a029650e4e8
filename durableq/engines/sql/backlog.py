"""Backlog limits of a send: how much the queue stores, and whether the disk has room."""

from __future__ import annotations

from typing import Final

from durableq.engines.sql.transactions import Transaction, WriteTransaction
from durableq.model.errors import StorageFull
from durableq.model.flow.sending import UNLIMITED, Backlog
from durableq.model.settings import Limits

_OF_BACKLOG: Final = int(Limits.BACKLOG | Limits.BACKLOG_BYTES)
_FREE_SPACE: Final = int(Limits.FREE_SPACE)


def backlog_of(tx: WriteTransaction, queue: str, queue_id: int, limits: int) -> Backlog:
    """Return what a queue stores and may store, in the transaction of a send to it.

    Args:
        tx: the transaction.
        queue: the name of the queue.
        queue_id: its id.
        limits: the bits of its limits.

    Raises:
        StorageFull: the file system has less free space than `min_free_bytes`.
    """
    tx.write_counters()  # of earlier operations of this transaction
    backlog, min_free_bytes = read_backlog(tx, queue_id)
    if limits & _FREE_SPACE and tx.free_bytes is not None:
        free = tx.free_bytes()
        if free < min_free_bytes:
            raise StorageFull(
                f"The file system has {free:,} bytes free, and queue {queue!r} leaves "
                f"{min_free_bytes:,} of them (min_free_bytes). Nothing was sent; stored messages "
                "can be handled as before. Make room on the disk, or lower min_free_bytes."
            )
    return backlog if limits & _OF_BACKLOG else UNLIMITED


def read_backlog(tx: Transaction, queue_id: int) -> tuple[Backlog, int]:
    """Return what a queue stores and may store, and its `min_free_bytes`."""
    *columns, min_free_bytes = tx.execute(tx.sql.BACKLOG, (queue_id,)).fetchone()
    return Backlog(*columns), min_free_bytes


def stored_bytes(tx: Transaction, queue_id: int) -> int:
    """Return the counter of a queue's stored bytes; 0 if it is missing, in a damaged file."""
    row = tx.execute(tx.sql.BACKLOG, (queue_id,)).fetchone()
    return 0 if row is None else Backlog(*row[:-1]).body_bytes


def count_bytes(tx: WriteTransaction, queue_id: int) -> None:
    """Set the counter of a queue's stored bytes to their sum."""
    tx.run(tx.sql.SUM_BACKLOG_BYTES, in_queue=queue_id)
