"""Receives of the SQS endpoint that are repeated under the id of the first."""

from __future__ import annotations

import json
from collections.abc import Sequence

from durableq.engines.sql.queries import messages_of
from durableq.engines.sql.transactions import WriteTransaction
from durableq.model.endpoint import ATTEMPT_MS
from durableq.model.limits import MAX_VISIBILITY_MS
from durableq.model.message import Message, Receipt
from durableq.model.units import check_whole


def repeated(
    tx: WriteTransaction, queue: str, attempt_id: str, visibility_ms: int | None
) -> list[Message] | None:
    """Return the messages of the receive with this id again, leased from now.

    None: there was none within ATTEMPT_MS, or not all of its messages have the lease that it gave.

    Raises:
        UnknownQueue: there is no such queue.
        InvalidInput: the length of the lease is out of bounds.
    """
    row = tx.queue(queue)
    of_attempt = {"in_queue": row.id, "attempt_id": attempt_id}
    found = tx.run(tx.sql.ATTEMPT, now_ms=tx.now_ms, **of_attempt).fetchone()
    if found is None:
        return None
    token, listed, until_ms = found
    order: list[int] = json.loads(listed)
    ids = tx.list_of(order)
    held = tx.run(tx.sql.STILL_LEASED, ids=ids, token=token, until=until_ms).fetchone()
    if until_ms <= tx.lease_now_ms or held[0] < len(order):
        return None
    until_ms = _until_ms(tx, visibility_ms, row.visibility_timeout_ms)
    tx.run(tx.sql.EXTEND, ids=ids, in_queue=row.id, token=token, until=until_ms)
    tx.run(tx.sql.RENEW_ATTEMPT, in_queue=row.id, of_attempt=attempt_id, until=until_ms)
    messages = {one.id: one for one in tx.shown(messages_of(tx, order))}
    text = bytes(token).hex()
    return [messages[name]._replace(receipt=Receipt(queue, name, text)) for name in map(str, order)]


def keep(
    tx: WriteTransaction,
    queue: str,
    attempt_id: str,
    visibility_ms: int | None,
    messages: Sequence[Message],
) -> None:
    """Remember the messages of a receive under its id."""
    receipt = messages[0].receipt
    if receipt is None:
        raise AssertionError("Received messages have receipts.")
    row = tx.queue(queue)
    tx.run(
        tx.sql.KEEP_ATTEMPT,
        in_queue=row.id,
        attempt_id=attempt_id,
        token=bytes.fromhex(receipt.token),
        messages=json.dumps([int(message.id) for message in messages]),
        until=_until_ms(tx, visibility_ms, row.visibility_timeout_ms),
        expires_at_ms=tx.now_ms + ATTEMPT_MS,
    )


def _until_ms(tx: WriteTransaction, visibility_ms: int | None, default_ms: int) -> int:
    if visibility_ms is None:
        visibility_ms = default_ms
    else:
        check_whole(visibility_ms, "A visibility timeout in ms", 1, MAX_VISIBILITY_MS)
    return tx.lease_now_ms + visibility_ms
