"""Queues: created, changed, shown, emptied and deleted."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import delete as delete_from
from sqlalchemy import func, insert, literal_column, select, update

from durableq.engines.sql import metadata, redrive
from durableq.engines.sql import statements as sql
from durableq.engines.sql.dialect import Statement
from durableq.engines.sql.queries import find_queue
from durableq.engines.sql.statements import parameter, status_is
from durableq.engines.sql.tables import counters, history, idempotency, is_state, message, queue
from durableq.engines.sql.transactions import (
    Operations,
    StoredQueue,
    Transaction,
    WriteTransaction,
)
from durableq.model.errors import Conflict
from durableq.model.message import FOREVER_MS, RecordStatus, State
from durableq.model.queues import (
    BOUNDS,
    Counters,
    Counts,
    QueueSettings,
    check_new_queue_name,
    dead_letter_name,
)
from durableq.store.capabilities import Control
from durableq.store.core import QueueInfo

_m, _r, _q, _h = message.c, idempotency.c, queue.c, history.c

_CREATE_QUEUE = Statement(
    insert(queue)
    .values(
        {
            name: parameter(name)
            for name in ("name", "dead_letter_queue_id", "created_at_ms", *BOUNDS)
        }
    )
    .returning(_q.id)
)
_CREATE_COUNTERS = Statement(insert(counters).values(queue_id=parameter("of_queue")))
_CHANGE_QUEUE = Statement(
    update(queue)
    .where(_q.id == parameter("queue_id"))
    .values({name: parameter(f"new_{name}") for name in BOUNDS})
)
_OWNER_OF_QUEUE = Statement(select(_q.name).where(_q.dead_letter_queue_id == parameter("queue_id")))
_IN_QUEUE = Statement(select(_m.id).where(_m.queue_id == parameter("in_queue")).limit(1))
_PURGE = Statement(delete_from(message).where(_m.queue_id == parameter("in_queue")))
_DROP_KEYS_IN_PROGRESS = Statement(
    delete_from(idempotency).where(
        _r.queue_id == parameter("in_queue"), status_is(RecordStatus.IN_PROGRESS)
    )
)
_DROP_KEYS = Statement(delete_from(idempotency).where(_r.queue_id == parameter("in_queue")))
_DROP_HISTORY = Statement(delete_from(history).where(_h.queue_id == parameter("in_queue")))
_DROP_COUNTERS = Statement(
    delete_from(counters).where(counters.c.queue_id == parameter("in_queue"))
)
_DROP_QUEUE = Statement(delete_from(queue).where(_q.id == parameter("queue_id")))
_in_queue = _m.queue_id == parameter("in_queue")
_COUNTS = Statement(
    select(
        *(
            select(func.count()).where(_in_queue, is_state(state)).scalar_subquery()
            for state in (State.READY, State.DELAYED, State.IN_FLIGHT)
        ),
        select(func.count())
        .where(
            _in_queue,
            is_state(State.DELAYED),
            _m.delayed_until_ms == literal_column(str(FOREVER_MS)),
        )
        .scalar_subquery(),
    )
)
_OLDEST_READY = Statement(
    select(func.min(_m.enqueued_at_ms)).where(_in_queue, is_state(State.READY))
)


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
            removed: int = tx.run(_PURGE, in_queue=row.id).rowcount
            tx.run(_DROP_KEYS_IN_PROGRESS, in_queue=row.id)
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
        tx.run(_CHANGE_QUEUE, queue_id=row.id, **values)


def _create(
    tx: WriteTransaction, name: str, settings: QueueSettings, dead_letter_queue_id: int | None
) -> int:
    created = tx.run(
        _CREATE_QUEUE,
        name=name,
        dead_letter_queue_id=dead_letter_queue_id,
        created_at_ms=tx.now_ms,
        **settings.as_dict(),
    )
    queue_id: int = created.fetchone()[0]
    tx.run(_CREATE_COUNTERS, of_queue=queue_id)
    return queue_id


def _delete(tx: WriteTransaction, name: str, *, force: bool) -> None:
    """Remove a queue with its dead-letter queue; see Control.delete_queue."""
    parts = [row := tx.queue(name)]
    if row.dead_letter_queue_id is not None:
        parts.append(tx.queue_by_id(row.dead_letter_queue_id))
    elif owner := tx.run(_OWNER_OF_QUEUE, queue_id=row.id).fetchone():
        raise Conflict(
            f"{name!r} is the dead-letter queue of {owner[0]!r} and goes when that goes. "
            f"To empty it: durableq queue purge {name}."
        )
    for part in parts:
        if not force and tx.run(_IN_QUEUE, in_queue=part.id).fetchone() is not None:
            raise Conflict(
                f"Queue {part.name!r} still holds messages, so {name!r} was not deleted. "
                f"Purge it first (durableq queue purge {part.name}), or force it."
            )
    for part in parts:
        for statement in (_PURGE, _DROP_KEYS, _DROP_HISTORY, _DROP_COUNTERS):
            tx.run(statement, in_queue=part.id)
        metadata.drop_metadata_of(tx, part.name)
        tx.run(_DROP_QUEUE, queue_id=part.id)
    redrive.clamp(tx)


def _queue_info(tx: Transaction, row: StoredQueue) -> QueueInfo:
    """Return a queue as it stands."""
    dead_letters = None
    if row.dead_letter_queue_id is not None:
        pair = tx.run(sql.QUEUE_BY_ID, queue_id=row.dead_letter_queue_id).fetchone()
        dead_letters = pair[1] if pair else ""  # in a damaged file, of which audit tells more
    ready, delayed, in_flight, held = tx.run(_COUNTS, in_queue=row.id).fetchone()
    (oldest,) = tx.run(_OLDEST_READY, in_queue=row.id).fetchone()
    counts = Counts(ready=ready, delayed=delayed - held, in_flight=in_flight, held=held)
    totals = tx.run(sql.TOTALS, of_queue=row.id).fetchone() or ()  # in a damaged file
    counters = Counters(**dict(zip(sql.COUNTERS, totals, strict=False)))
    return QueueInfo(row.name, row.settings, dead_letters, counters, counts, oldest)


def all_queues(tx: Transaction) -> list[QueueInfo]:
    """Return every queue, by name."""
    return [_queue_info(tx, StoredQueue(*row)) for row in tx.run(sql.QUEUES).fetchall()]
