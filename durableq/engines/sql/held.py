"""Receipts that a transaction of user code holds."""

from __future__ import annotations

from collections.abc import Iterable

from durableq.engines.sql.settling import by_receive, find_leased
from durableq.engines.sql.transactions import WriteTransaction
from durableq.model.message import Receipt


def first_stale(tx: WriteTransaction, receipts: Iterable[Receipt]) -> Receipt | None:
    """Return the first receipt whose lease is gone, or None."""
    receipts = list(receipts)
    held = 0
    for queue, token, positions in by_receive(receipts):
        text, ids = tx.listed(tx.sql.HELD, tx.sql.HELD_ONE, [*positions])
        found = tx.execute(text, (queue, ids, token)).fetchone()
        if found is not None:
            tx.revision, number = found
            held += number
    if held == len(receipts):
        return None
    leased = find_leased(tx, receipts)
    return next((receipt for receipt in receipts if receipt not in leased), None)
