"""The messages behind the head of a group, which are leased together with it."""

from __future__ import annotations

from durableq.engines.sql.admission import (
    GROUP,
    IS_PLAIN,
    KEY,
    RECEIVE_COUNT,
    Row,
    Terms,
    has_damaged_key,
)
from durableq.engines.sql.transactions import WriteTransaction


def following(
    tx: WriteTransaction, terms: Terms, head: Row, limit: int, retention_ms: int
) -> list[Row]:
    """Return blocked messages of a head's group in order, up to the first that has to wait.

    That one is a duplicate, expired, not due, behind a key in progress, or damaged: it is looked at
    when it is the head. A message that was received before is delivered alone, so that a batch
    which fails as a whole is tried again one by one.

    Args:
        tx: the transaction.
        terms: of the receive.
        head: the message that it leases.
        limit: the largest number.
        retention_ms: the retention of the queue.
    """
    name = head[GROUP]
    if name is None or head[RECEIVE_COUNT] or not limit:
        return []
    if terms.tokens is not None:
        limit = min(limit, terms.tokens.left(name))
    found, taken = [], {head[KEY]}
    values = terms.queue_id, name, tx.now_ms - retention_ms, tx.now_ms, limit
    rows = tx.raw.execute(tx.sql.FOLLOWING, values)
    try:
        for row in rows:
            key = row[KEY]
            is_taken = key is not None and (key in taken or has_damaged_key(row))
            if not row[IS_PLAIN] or is_taken or row[RECEIVE_COUNT]:
                break
            taken.add(key)
            found.append(row)
    finally:
        rows.close()
    if terms.tokens is not None:
        terms.tokens.take(name, len(found))
    return found
