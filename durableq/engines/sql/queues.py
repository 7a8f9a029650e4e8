"""Queues: created, changed, shown, emptied and deleted."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

from durableq.engines.sql import backlog, breaker, flow, metadata, ranking, redrive, regrouping
from durableq.engines.sql.columns import FLOW_STATE
from durableq.engines.sql.queries import settings_of
from durableq.engines.sql.transactions import (
    Operations,
    StoredQueue,
    Transaction,
    WriteTransaction,
)
from durableq.model.errors import Conflict, UnknownQueue
from durableq.model.flow.info import limits_info
from durableq.model.flow.rank import level_width
from durableq.model.flow.sending import check_dead_letter_settings
from durableq.model.limits import MAX_PRIORITY
from durableq.model.message import State
from durableq.model.queues import (
    DEAD_LETTER_QUEUE,
    DEAD_LETTER_SUFFIX,
    Changes,
    Counters,
    Counts,
    check_dead_letter_queue,
    check_new_queue_name,
    checked_dead_letter_queue,
    dead_letter_name,
    settings_of_changes,
    still_served,
)
from durableq.model.settings import SETTINGS, Limits, QueueSettings
from durableq.store.capabilities import Control
from durableq.store.core import QueueInfo

_SETTINGS: Final = len(SETTINGS)
_STATE: Final = len(FLOW_STATE)
#: The place in a row of INFOS of the dead-letter queue of the dead-letter queue.
_NEXT: Final = 3 + _SETTINGS + 1
#: Ready messages of each level of priority among which the oldest is looked for.
_FIRST: Final = 1_000
#: The same with priority aging, which makes one level of all.
_FIRST_AGING: Final = 10_000
_MOST_LEVELS: Final = 2 * MAX_PRIORITY + 2
#: Less than any rank.
_LOWEST: Final = -1 << 63


class SQLQueues(Operations, Control):
    """The queues of the capability of control, and those of the core, in SQL."""

    def declare_queue(self, name: str, changes: Changes, *, creates: bool = True) -> QueueInfo:
        """Create a queue if it is missing, and change these settings."""
        with self._database.write() as tx:
            if not creates:
                tx.queue(name)
            declare(tx, name, changes)
        return self.queue(name)

    def settings(self, queue: str) -> QueueSettings:
        """Return a queue's settings."""
        with self._database.read() as tx:
            return settings_of(tx, queue)

    def queues(self, *, recount: bool = False, dead_letters: bool = False) -> list[QueueInfo]:
        """Return every queue, by name."""
        with self._database.read() as tx:
            return tx.shown(all_queues(tx, recount=recount, dead_letters=dead_letters))

    def queue(self, name: str) -> QueueInfo:
        """Return one queue."""
        with self._database.read() as tx:
            row = tx.run(tx.sql.INFO, queue=name).fetchone()
            if row is None:
                raise UnknownQueue(name)
            return tx.shown(_queue_info(tx, row))

    def purge(self, queue: str) -> int:
        """Remove every message of a queue."""
        with self._database.write() as tx:
            return purge(tx, queue)

    def delete_queue(self, name: str, *, force: bool = False) -> None:
        """Remove a queue and its dead-letter queue."""
        with self._database.write() as tx:
            delete(tx, name, force=force)


def declare(tx: WriteTransaction, name: str, changes: Changes) -> None:
    """Create a queue and its dead-letter queue, or change one; see Queueing.declare_queue."""
    row, changed = tx.find_queue(name), settings_of_changes(changes)
    wanted = checked_dead_letter_queue(changes.get(DEAD_LETTER_QUEUE))
    check_dead_letter_queue(name, wanted)
    if row is None:
        check_new_queue_name(name)
        _create(tx, name, QueueSettings().changed(changed), None)
        _point(tx, name, wanted)
        return
    before = settings_of(tx, name)
    settings = before.changed(changed)
    if DEAD_LETTER_QUEUE in changes:
        row = _point(tx, name, wanted)
    elif row.dead_letter_queue_id is None:
        check_dead_letter_settings(name, settings)
    if settings != before or _limits(tx, row, settings) != row.limits:
        _change(tx, row, before, settings)


def _limits(tx: WriteTransaction, row: StoredQueue, settings: QueueSettings) -> int:
    """Return the bits of a queue's limits under new settings."""
    return flow.stored_limits(tx, settings) | row.limits & Limits.SERVES


def _point(tx: WriteTransaction, name: str, wanted: str | None) -> StoredQueue:
    """Let the dead letters of a queue go to another, and return the queue.

    A private dead-letter queue that is given one, or that another queue names, is an ordinary
    queue from then on.

    Args:
        tx: the transaction.
        name: the queue.
        wanted: the other; None: its own, which is made if it is missing.

    Raises:
        UnknownQueue: there is no such queue.
    """
    own, row = dead_letter_name(name), tx.queue(name)
    served = [row.id] if _is_private(tx, row) else []
    if wanted in {None, own}:
        target = tx.find_queue(own)
        target_id = _create(tx, own, QueueSettings(), None) if target is None else target.id
    else:
        target = tx.queue(wanted or own)
        target_id = target.id
        if target.dead_letter_queue_id is None:
            _point(tx, target.name, None)
    tx.run(tx.sql.POINT, queue_id=row.id, to_queue=target_id)
    for queue_id in (target_id, *served):
        tx.run(tx.sql.SERVE, queue_id=queue_id, serves=int(Limits.SERVES))
    tx.known.clear()
    return tx.queue(name)


def _is_private(tx: WriteTransaction, row: StoredQueue) -> bool:
    """Return whether a queue is the private dead-letter queue of another, which names it."""
    if row.dead_letter_queue_id is not None:
        return False
    owner = tx.find_queue(row.name.removesuffix(DEAD_LETTER_SUFFIX))
    return owner is not None and owner.dead_letter_queue_id == row.id


def _change(
    tx: WriteTransaction, row: StoredQueue, before: QueueSettings, settings: QueueSettings
) -> None:
    values = {f"new_{setting}": value for setting, value in settings.as_dict().items()}
    limits = _limits(tx, row, settings)
    tx.run(tx.sql.CHANGE_QUEUE, queue_id=row.id, new_limits=limits, **values)
    flow.settings_changed(tx, row, before, settings)
    if limits & ~before.limits & Limits.BACKLOG_BYTES:
        backlog.count_bytes(tx, row.id)
    regrouping.change(tx, row, before, settings)


def limit_anew(tx: WriteTransaction) -> None:
    """Keep the limits of queues that have come from another engine in the way of this one."""
    for columns in tx.run(tx.sql.QUEUES).fetchall():
        row = StoredQueue(*columns)
        settings = settings_of(tx, row.name)
        if _limits(tx, row, settings) != row.limits:
            _change(tx, row, settings, settings)


def _create(
    tx: WriteTransaction, name: str, settings: QueueSettings, dead_letter_queue_id: int | None
) -> int:
    created = tx.run(
        tx.sql.CREATE_QUEUE,
        name=name,
        dead_letter_queue_id=dead_letter_queue_id,
        created_at_ms=tx.now_ms,
        limits=flow.stored_limits(tx, settings),
        **settings.as_dict(),
    )
    queue_id: int = created.fetchone()[0]
    tx.run(tx.sql.CREATE_COUNTERS, of_queue=queue_id)
    tx.run(tx.sql.CREATE_FLOW, of_queue=queue_id)
    return queue_id


def purge(tx: WriteTransaction, queue: str) -> int:
    """Remove every message of a queue; see Control.purge."""
    row = tx.queue(queue)
    held = regrouping.held_by(tx, row)
    removed: int = tx.run(tx.sql.PURGE, in_queue=row.id).rowcount
    tx.run(tx.sql.DROP_KEYS_IN_PROGRESS, in_queue=row.id)
    tx.run(tx.sql.DROP_DEDUPLICATION, in_queue=row.id)
    tx.count(row.id, tx.sql.PURGED, removed)
    flow.count_again(tx, row.id)
    if row.limits & Limits.BACKLOG_BYTES:
        backlog.count_bytes(tx, row.id)
    regrouping.empty(tx, row, held)
    return removed


def delete(tx: WriteTransaction, name: str, *, force: bool) -> None:
    """Remove a queue with its private dead-letter queue; see Control.delete_queue."""
    parts = [row := tx.queue(name)]
    owner = tx.find_queue(name.removesuffix(DEAD_LETTER_SUFFIX))
    if row.dead_letter_queue_id is None and owner is not None:
        raise Conflict(
            f"{name!r} is the dead-letter queue of {owner.name!r} and goes when that goes. "
            f"To empty it: durableq queue purge {name}."
        )
    private = tx.find_queue(dead_letter_name(name))
    if private is not None and private.dead_letter_queue_id is None:
        parts.append(private)
    served = [other for (other,) in tx.run(tx.sql.SERVED_BY, queue_id=row.id).fetchall()]
    if served and not force:
        raise still_served(name, served)
    for part in parts:
        if not force and tx.run(tx.sql.IN_QUEUE, in_queue=part.id).fetchone() is not None:
            raise Conflict(
                f"Queue {part.name!r} still holds messages, so {name!r} was not deleted. "
                f"Purge it first (durableq queue purge {part.name}), or force it."
            )
    for part in parts:
        _drop(tx, part)
    tx.known.clear()
    for other in served:
        _point(tx, other, None)
    redrive.clamp(tx)


def _drop(tx: WriteTransaction, part: StoredQueue) -> None:
    """Remove a queue with all that refers to it."""
    held = [queue_id for queue_id in regrouping.held_by(tx, part) if queue_id != part.id]
    for statement in (
        tx.sql.PURGE,
        tx.sql.FORGET_SOURCE,
        tx.sql.DROP_KEYS,
        tx.sql.DROP_HISTORY,
        tx.sql.DROP_COUNTERS,
        tx.sql.DROP_FLOW,
        tx.sql.DROP_GROUPS,
        tx.sql.DROP_DEDUPLICATION,
        tx.sql.DROP_FAILURES,
        tx.sql.DROP_SAMPLES,
        tx.sql.DROP_SCHEDULES,
        tx.sql.DROP_QUEUE_DOCUMENT,
        tx.sql.DROP_ATTEMPTS,
        tx.sql.DROP_REDRIVES,
    ):
        tx.run(statement, in_queue=part.id)
    metadata.drop_metadata_of(tx, part.name)
    ranking.forget(tx, part.id)
    tx.run(tx.sql.DROP_QUEUE, queue_id=part.id)
    regrouping.release(tx, held)


def all_queues(
    tx: Transaction, *, recount: bool = False, dead_letters: bool = False
) -> list[QueueInfo]:
    """Return every queue, by name; see Inspect.queues."""
    rows = tx.run(tx.sql.INFOS).fetchall()
    infos = [_queue_info(tx, row, recount=recount) for row in rows]
    shared = [row[0] if row[_NEXT] is not None else None for row in rows]
    if not dead_letters or not any(shared):
        return infos
    dead = _shared_dead_letters(tx)
    return [
        info if queue_id is None else replace(info, dead_letters=Counts(**dead[queue_id]))
        for queue_id, info in zip(shared, infos, strict=True)
    ]


def _shared_dead_letters(tx: Transaction) -> dict[int, dict[str, int]]:
    """Return the numbers of dead letters by queue, of those without a private dead-letter queue."""
    found: defaultdict[int, dict[str, int]] = defaultdict(dict)
    for source, state, is_held, number in tx.run(tx.sql.SHARED_DEAD_LETTERS).fetchall():
        found[source]["held" if is_held else State(state).label] = number
    return found


def _queue_info(tx: Transaction, row: tuple[Any, ...], *, recount: bool = False) -> QueueInfo:
    """Return a queue as it stands, from a row of INFOS."""
    queue_id, name, dead_letter_queue_id, *rest = row
    settings = QueueSettings(*rest[:_SETTINGS])
    dead_letters, _, delayed, in_flight, held, blocked, has_ready, *others = rest[_SETTINGS:]
    state, totals = others[:_STATE], others[_STATE:]
    if dead_letter_queue_id is not None:
        dead_letters = dead_letters or ""  # in a damaged file, of which audit tells more
    counters = Counters(*(total or 0 for total in totals))  # missing in a damaged file
    ready = counters.expected - delayed - in_flight - held - blocked
    # Counters may be wrong, which the audit finds. They may not hide a message or invent one.
    if recount or ready < 0 or bool(ready) != has_ready:
        (ready,) = tx.run(tx.sql.COUNT_READY, in_queue=queue_id).fetchone()
    counts = Counts(ready, delayed, in_flight, held, blocked)
    oldest = _oldest_ready_ms(tx, queue_id, settings) if has_ready else None
    flow_state = flow.of_settings(settings, state)
    limits = limits_info(flow_state, tx.lease_now_ms)
    if settings.breaker and (now := breaker.find_state(tx, queue_id)) is not None:
        limits = limits.with_breaker(now, tx.lease_now_ms)
    if settings.max_backlog_bytes:
        limits = replace(limits, backlog_bytes=backlog.stored_bytes(tx, queue_id))
    return QueueInfo(name, settings, dead_letters, counters, counts, oldest, limits)


def _oldest_ready_ms(tx: Transaction, queue_id: int, settings: QueueSettings) -> int:
    """Return the earliest arrival of the first ready messages of each level of priority.

    Messages arrive when they are sent, in order of id. Only after a redrive or a burial is one
    younger than its place, so more than the first are read. With priority aging an old message may
    be behind younger ones of higher priorities, and only so many are read.
    """
    aging_ms = settings.priority_aging_ms
    width = level_width(has_groups=bool(settings.group_concurrency), aging_ms=aging_ms)
    first = _FIRST_AGING if aging_ms else _FIRST
    oldest: int = min(
        tx.run(
            tx.sql.OLDEST_OF_LEVEL, in_queue=queue_id, start=start, end=end, first=first
        ).fetchone()[0]
        for start, end in _levels(tx, queue_id, width)
    )
    return oldest


def _levels(tx: Transaction, queue_id: int, width: int) -> Iterator[tuple[int, int]]:
    """Yield the levels that ready messages have: the lowest rank in each, and its end.

    While messages are ranked again, some have ranks of another width: no more are read than a
    queue may have levels.
    """
    rank = _LOWEST
    for _ in range(_MOST_LEVELS):
        (start,) = tx.run(tx.sql.NEXT_RANK, in_queue=queue_id, rank=rank).fetchone()
        if start is None:
            return
        end = (start // width + 1) * width
        yield start, end
        rank = end - 1
