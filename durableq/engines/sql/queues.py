"""Queues: created, changed, shown, emptied and deleted."""

from __future__ import annotations

from collections.abc import Mapping

from durableq.engines.sql import metadata, redrive
from durableq.engines.sql.columns import COUNTERS
from durableq.engines.sql.queries import find_queue
from durableq.engines.sql.transactions import (
    Operations,
    StoredQueue,
    Transaction,
    WriteTransaction,
)
from durableq.model.errors import Conflict
from durableq.model.queues import (
    Counters,
    Counts,
    QueueSettings,
    check_new_queue_name,
    dead_letter_name,
)
from durableq.store.capabilities import Control
from durableq.store.core import QueueInfo


class SQLQueues(Operations, Control):
    """The capability of control, and the operations on queues of the core, in SQL."""

    def declare_queue(self, name: str, changes: Mapping[str, int]) -> QueueInfo:
        """Create a queue if it is missing, and change these settings."""
        with self._database.write() as tx:
            _declare(tx, name, changes)
        return self.queue(name)

    def settings(self, queue: str) -> QueueSettings:
        """Return a queue's settings."""
        with self._database.read() as tx:
            return find_queue(tx, queue).settings

    def queues(self) -> list[QueueInfo]:
        """Return every queue, by name."""
        with self._database.read() as tx:
            return tx.shown(all_queues(tx))

    def queue(self, name: str) -> QueueInfo:
        """Return one queue."""
        with self._database.read() as tx:
            return tx.shown(_queue_info(tx, find_queue(tx, name)))

    def purge(self, queue: str) -> int:
        """Remove every message of a queue."""
        with self._database.write() as tx:
            row = tx.queue(queue)
            removed: int = tx.run(tx.sql.PURGE, in_queue=row.id).rowcount
            tx.run(tx.sql.DROP_KEYS_IN_PROGRESS, in_queue=row.id)
            tx.count(row.id, "purged", removed)
            return removed

    def delete_queue(self, name: str, *, force: bool = False) -> None:
        """Remove a queue and its dead-letter queue."""
        with self._database.write() as tx:
            _delete(tx, name, force=force)


def _declare(tx: WriteTransaction, name: str, changes: Mapping[str, int]) -> None:
    """Create a queue and its dead-letter queue, or change one; see Queueing.declare_queue."""
    row = tx.find_queue(name)
    if row is None:
        check_new_queue_name(name)
        dead_letters = _create(tx, dead_letter_name(name), QueueSettings(), None)
        _create(tx, name, QueueSettings().changed(changes), dead_letters)
        return
    settings = row.settings.changed(changes)
    if settings != row.settings:
        values = {f"new_{setting}": value for setting, value in settings.as_dict().items()}
        tx.run(tx.sql.CHANGE_QUEUE, queue_id=row.id, **values)


def _create(
    tx: WriteTransaction, name: str, settings: QueueSettings, dead_letter_queue_id: int | None
) -> int:
    created = tx.run(
        tx.sql.CREATE_QUEUE,
        name=name,
        dead_letter_queue_id=dead_letter_queue_id,
        created_at_ms=tx.now_ms,
        **settings.as_dict(),
    )
    queue_id: int = created.fetchone()[0]
    tx.run(tx.sql.CREATE_COUNTERS, of_queue=queue_id)
    return queue_id


def _delete(tx: WriteTransaction, name: str, *, force: bool) -> None:
    """Remove a queue with its dead-letter queue; see Control.delete_queue."""
    parts = [row := tx.queue(name)]
    if row.dead_letter_queue_id is not None:
        parts.append(tx.queue_by_id(row.dead_letter_queue_id))
    elif owner := tx.run(tx.sql.OWNER_OF_QUEUE, queue_id=row.id).fetchone():
        raise Conflict(
            f"{name!r} is the dead-letter queue of {owner[0]!r} and goes when that goes. "
            f"To empty it: durableq queue purge {name}."
        )
    for part in parts:
        if not force and tx.run(tx.sql.IN_QUEUE, in_queue=part.id).fetchone() is not None:
            raise Conflict(
                f"Queue {part.name!r} still holds messages, so {name!r} was not deleted. "
                f"Purge it first (durableq queue purge {part.name}), or force it."
            )
    for part in parts:
        for statement in (
            tx.sql.PURGE,
            tx.sql.DROP_KEYS,
            tx.sql.DROP_HISTORY,
            tx.sql.DROP_COUNTERS,
        ):
            tx.run(statement, in_queue=part.id)
        metadata.drop_metadata_of(tx, part.name)
        tx.run(tx.sql.DROP_QUEUE, queue_id=part.id)
    redrive.clamp(tx)


def _queue_info(tx: Transaction, row: StoredQueue) -> QueueInfo:
    """Return a queue as it stands."""
    dead_letters = None
    if row.dead_letter_queue_id is not None:
        pair = tx.run(tx.sql.QUEUE_BY_ID, queue_id=row.dead_letter_queue_id).fetchone()
        dead_letters = pair[1] if pair else ""  # in a damaged file, of which audit tells more
    ready, delayed, in_flight, held = tx.run(tx.sql.COUNTS, in_queue=row.id).fetchone()
    (oldest,) = tx.run(tx.sql.OLDEST_READY, in_queue=row.id).fetchone()
    counts = Counts(ready=ready, delayed=delayed - held, in_flight=in_flight, held=held)
    totals = tx.run(tx.sql.TOTALS, of_queue=row.id).fetchone() or ()  # in a damaged file
    counters = Counters(**dict(zip(COUNTERS, totals, strict=False)))
    return QueueInfo(row.name, row.settings, dead_letters, counters, counts, oldest)


def all_queues(tx: Transaction) -> list[QueueInfo]:
    """Return every queue, by name."""
    return [_queue_info(tx, StoredQueue(*row)) for row in tx.run(tx.sql.QUEUES).fetchall()]
