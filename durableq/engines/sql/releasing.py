"""Leases that go on, and those that are given back. Both are fenced by the receipt."""

from __future__ import annotations

from collections.abc import Sequence

from durableq.engines.sql.burying import bury
from durableq.engines.sql.settling import (
    MESSAGE_EXPIRED,
    LeasedMessage,
    by_receive,
    drop_expired,
    drop_key,
    find_leased,
    put_back,
    refusal,
)
from durableq.engines.sql.transactions import Operations, StoredQueue, WriteTransaction
from durableq.model.lifecycle import TOO_MANY_RECEIVES, Bury, is_exhausted
from durableq.model.limits import MAX_VISIBILITY_MS
from durableq.model.message import Event, Outcome, Receipt, State
from durableq.model.units import check_whole


class Releasing(Operations):
    """The part of the core that extends and releases, in SQL."""

    def extend(self, receipts: Sequence[Receipt], visibility_ms: int) -> list[Outcome]:
        """Let leases end later."""
        return self._database.run(extend, receipts, visibility_ms)

    def release(self, receipts: Sequence[Receipt]) -> list[Outcome]:
        """Return messages to their queues, uncounted."""
        return self._database.run(release, receipts)


def extend(tx: WriteTransaction, receipts: Sequence[Receipt], visibility_ms: int) -> list[Outcome]:
    """Let leases end later; see Queueing.extend."""
    check_whole(visibility_ms, "A visibility timeout in ms", 0, MAX_VISIBILITY_MS)
    if not visibility_ms:
        return _give_back_each(tx, receipts)
    until = tx.lease_now_ms + visibility_ms
    done: set[Receipt] = set()
    for queue, token, positions in by_receive(receipts):
        row = tx.find_queue(queue)
        if row is None:
            continue
        ids = tx.list_of([*positions])
        moved = tx.run(tx.sql.EXTEND, ids=ids, in_queue=row.id, token=token, until=until)
        done.update(receipts[positions[message_id]] for (message_id,) in moved.fetchall())
    return [Outcome.DONE if r in done else refusal(tx, r) for r in receipts]


def _give_back_each(tx: WriteTransaction, receipts: Sequence[Receipt]) -> list[Outcome]:
    leased = find_leased(tx, receipts)
    return [
        refusal(tx, receipt) if found is None else give_back(tx, *found)
        for receipt in receipts
        for found in [leased.pop(receipt, None)]
    ]


def give_back(tx: WriteTransaction, row: StoredQueue, leased: LeasedMessage) -> Outcome:
    """End a lease at once, counted: the message is ready, or has expired, or had its last receive.

    In a queue that buries at the next receive, that decides about the last one.
    """
    if leased.expires_at_ms <= tx.now_ms:
        return _expire(tx, row, leased)
    has_ended = not row.buries_at_receive and is_exhausted(leased.receive_count, row.max_receives)
    if has_ended and row.dead_letter_queue_id is not None:
        moved = bury(tx, row, leased, State.IN_FLIGHT, TOO_MANY_RECEIVES, leased.receive_count)
        if moved:
            drop_key(tx, row, leased)
        return Outcome.BURIED if moved else Outcome.STALE
    return Outcome.DONE if put_back(tx, row, leased, State.READY, None) else Outcome.STALE


def release(tx: WriteTransaction, receipts: Sequence[Receipt]) -> list[Outcome]:
    """Return messages uncounted; see Queueing.release."""
    outcomes, leased = [], find_leased(tx, receipts)
    for receipt in receipts:
        found = leased.pop(receipt, None)
        if found is None:
            outcomes.append(refusal(tx, receipt))
        elif found[1].expires_at_ms <= tx.now_ms:
            outcomes.append(_expire(tx, *found))
        else:
            moved = put_back(tx, *found, State.READY, None, uncounted=1)
            outcomes.append(Outcome.DONE if moved else Outcome.STALE)
    return outcomes


def release_all(tx: WriteTransaction) -> int:
    """Return every leased message of a copy, whose owners do not use it; return their number."""
    receipts = []
    for *columns, _, queue_id in tx.run(tx.sql.ALL_LEASES).fetchall():
        leased = LeasedMessage(*columns)
        queue = tx.queue_by_id(queue_id).name
        receipts.append(Receipt(queue, str(leased.id), leased.token.hex()))
    release(tx, receipts)
    return len(receipts)


def _expire(tx: WriteTransaction, row: StoredQueue, leased: LeasedMessage) -> Outcome:
    """End the lease of a message that has expired."""
    if isinstance(row.at_expiry, Bury):
        moved = bury(tx, row, leased, State.IN_FLIGHT, MESSAGE_EXPIRED)
    else:
        moved = drop_expired(tx, row, leased)
        if moved:
            tx.record(leased.id, row.id, Event.EXPIRED, **MESSAGE_EXPIRED.history_fields)
    if not moved:
        return Outcome.STALE
    drop_key(tx, row, leased)
    return Outcome.EXPIRED
