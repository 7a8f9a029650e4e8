"""Taking leases back: those that have ended, and those whose owner is dead."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from durableq.engines.sql.columns import OWNER_BASE
from durableq.engines.sql.releasing import give_back
from durableq.engines.sql.settling import LeasedMessage, fail_one
from durableq.engines.sql.transactions import StoredQueue, WriteTransaction
from durableq.model.info import check_owner
from durableq.model.limits import RECLAIM_BATCH
from durableq.model.message import Event, Failure, Outcome, Reason


def reclaim_expired(tx: WriteTransaction, row: StoredQueue) -> int:
    """Take back leases of a queue that have ended, at most RECLAIM_BATCH; return the number."""
    values = {"in_queue": row.id, "lease_now": tx.lease_now_ms, "limit": RECLAIM_BATCH}
    expired = tx.execute(tx.sql.EXPIRED_LEASES, values).fetchall()
    if not expired:
        return 0
    return sum(
        _take_back(tx, row, LeasedMessage(*lease), owner, Reason.LEASE_EXPIRED)
        for *lease, owner in expired
    )


def reclaim_lost(tx: WriteTransaction, owner_id: int) -> int:
    """Take back every lease of a dead worker."""
    return reclaim_from(tx, stored_owner(owner_id))


def reclaim_from(tx: WriteTransaction, owner: int, limit: int | None = None) -> int:
    """Take back leases of an owner, as stored: every one, or at most `limit`."""
    return _reclaim(tx, _some(tx.run(tx.sql.LEASES_OF_OWNER, owner=owner), limit))


def reclaim_all(tx: WriteTransaction, limit: int | None = None) -> int:
    """Take back every lease, or at most `limit`."""
    return _reclaim(tx, _some(tx.run(tx.sql.ALL_LEASES), limit))


def _some(cursor: Any, limit: int | None) -> list[Any]:
    """Return the rows of a statement: every one, or at most `limit`; the others are not read."""
    if limit is None:
        return [*cursor.fetchall()]
    rows: list[Any] = cursor.fetchmany(limit)
    cursor.close()
    return rows


def _reclaim(tx: WriteTransaction, leases: Iterable[Any]) -> int:
    return sum(
        _take_back(tx, tx.queue_by_id(queue_id), LeasedMessage(*lease), owner, Reason.WORKER_LOST)
        for *lease, owner, queue_id in leases
    )


def _take_back(
    tx: WriteTransaction, row: StoredQueue, leased: LeasedMessage, owner: int, reason: Reason
) -> bool:
    """End one delivery as failed; return whether its lease was still there.

    In a queue that buries at the next receive it is no failure: it leaves no event and no wait.
    """
    if row.buries_at_receive:
        return give_back(tx, row, leased) is not Outcome.STALE
    name = tx.run(tx.sql.WORKER_NAME, of=owner - OWNER_BASE).fetchone()
    failure = Failure(reason, error_type="", error_message=reason.sentence)
    actor = name[0] if name else ""
    outcome = fail_one(tx, row, leased, failure, actor, event=Event.LEASE_EXPIRED)
    return outcome is not Outcome.STALE


def stored_owner(owner_id: int) -> int:
    """Return the owner as a message's row names it."""
    check_owner(owner_id)
    return OWNER_BASE + owner_id
