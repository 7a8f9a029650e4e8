"""Groups of a whole queue: after a change of settings, and after a purge.

Each is one transaction that reads all messages of the queue. Where the number of active messages is
lowered, those that are too many are blocked again, except for those in flight.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Final

from durableq.engines.sql import groups, ranking
from durableq.engines.sql.columns import LEASE_EPOCH_MS
from durableq.engines.sql.groups import Step
from durableq.engines.sql.transactions import StoredQueue, WriteTransaction
from durableq.model.errors import Conflict
from durableq.model.flow.groups import Group, limited_debt
from durableq.model.flow.rank import RANKS_PER_MS, weight
from durableq.model.settings import Limits, QueueSettings

#: No limit.
_ALL: Final = 1 << 62


def change(
    tx: WriteTransaction, row: StoredQueue, before: QueueSettings, after: QueueSettings
) -> None:
    """Apply a change of settings to the messages that a queue has already.

    Raises:
        Conflict: it is a dead-letter queue, which has no groups.
    """
    had, has = before.limits & Limits.GROUPS, after.limits & Limits.GROUPS
    if has and row.dead_letter_queue_id is None:
        raise Conflict(
            f"{row.name!r} is a dead-letter queue, which has no groups: set group_concurrency of "
            "the queue that it serves."
        )
    if had and not has:
        tx.run(tx.sql.UNBLOCK, in_queue=row.id, now_ms=tx.now_ms)
        tx.run(tx.sql.DROP_GROUPS, in_queue=row.id)
    elif has and not had:
        tx.run(tx.sql.BLOCK, in_queue=row.id, concurrency=after.group_concurrency)
        _count(tx, row.id)
    elif has:
        if after.group_concurrency < before.group_concurrency:
            _lower(tx, row.id, after.group_concurrency)
        if (before.group_rate, before.group_burst) != (after.group_rate, after.group_burst):
            _cut_debts(tx, row.id, after)
        if _room(before) != _room(after):  # otherwise no group has more or less room than before
            groups.fill(tx, row.id)
    if bool(had) != bool(has):
        _rank(tx, row.id, after)
        ranking.forget(tx, row.id)
    elif before.priority_aging_ms != after.priority_aging_ms:
        ranking.rank_later(tx, row.id)


def _room(settings: QueueSettings) -> tuple[int, int]:
    """Return the settings that say how many messages of a group are active."""
    return settings.group_concurrency, settings.group_on_dead


def held_by(tx: WriteTransaction, row: StoredQueue) -> list[int]:
    """Return the queues whose groups dead letters in a queue may hold."""
    found = [source_id for (source_id,) in tx.run(tx.sql.SOURCES_IN, in_queue=row.id).fetchall()]
    return [source_id for source_id in found if tx.limits_of(source_id) & groups.GROUPS]


def empty(tx: WriteTransaction, row: StoredQueue, held: list[int]) -> None:
    """Let all messages of a queue leave their groups, and its dead letters those that they hold.

    Args:
        tx: the transaction.
        row: the queue, whose messages are gone.
        held: of `held_by`, before they went.
    """
    if row.limits & groups.GROUPS:
        tx.run(tx.sql.EMPTY_GROUPS, in_queue=row.id)
    release(tx, held)


def release(tx: WriteTransaction, held: Iterable[int]) -> None:
    """Count the dead letters that hold groups of these queues again, after some are gone."""
    for source_id in held:
        tx.run(tx.sql.RELEASE_GROUPS, in_queue=source_id)
        elsewhere = tx.run(tx.sql.COUNT_HOLDING, in_queue=source_id).fetchall()
        groups.change(tx, source_id, {name: Step(holding=number) for name, number in elsewhere})
        groups.fill(tx, source_id)
    prune(tx, _ALL)


def prune(tx: WriteTransaction, limit: int) -> int:
    """Forget groups that have no messages, no dead letters and no debt; return their number.

    Args:
        tx: the transaction.
        limit: the largest number; -1 for all.
    """
    now_ns = (tx.lease_now_ms - LEASE_EPOCH_MS) * 1_000_000
    number: int = tx.run(tx.sql.PRUNE_GROUPS, lease_now_ns=now_ns, limit=limit).rowcount
    return number


def _count(tx: WriteTransaction, queue_id: int) -> None:
    """Store the counts of all groups of a queue."""
    counted = tx.run(tx.sql.COUNT_GROUPS, in_queue=queue_id).fetchall()
    found = {name: Group(active) for name, active in counted}
    for name, holding in tx.run(tx.sql.COUNT_HOLDING, in_queue=queue_id).fetchall():
        found[name] = found.get(name, Group())._replace(holding=holding)
    groups.write(tx, queue_id, found)


def _lower(tx: WriteTransaction, queue_id: int, concurrency: int) -> None:
    """Block the active messages of each group that are too many, except for those in flight."""
    blocked = tx.run(tx.sql.BLOCK, in_queue=queue_id, concurrency=concurrency).fetchall()
    numbers = Counter(name for (name,) in blocked)
    groups.change(tx, queue_id, {name: Step(active=-number) for name, number in numbers.items()})


def _cut_debts(tx: WriteTransaction, queue_id: int, after: QueueSettings) -> None:
    """Let a new rate apply at once: a group owes at most one burst of it."""
    most_ns = limited_debt(1 << 62, after, tx.lease_now_ms - LEASE_EPOCH_MS)
    tx.run(tx.sql.CUT_DEBTS, in_queue=queue_id, most_ns=most_ns)


def _rank(tx: WriteTransaction, queue_id: int, after: QueueSettings) -> None:
    """Rank all messages of a queue again, by the time at which each became due."""
    has_groups, aging_ms = bool(after.group_concurrency), after.priority_aging_ms
    tx.run(
        tx.sql.RANK_ALL,
        in_queue=queue_id,
        per_ms=RANKS_PER_MS if has_groups or aging_ms else 0,
        weight=weight(has_groups=has_groups, aging_ms=aging_ms),
    )
