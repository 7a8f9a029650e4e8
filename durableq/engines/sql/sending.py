"""Sending: all of a batch is stored, or nothing."""

from __future__ import annotations

from collections.abc import Sequence

from durableq.engines.sql import statements as sql
from durableq.engines.sql.transactions import WriteTransaction
from durableq.model import codec
from durableq.model.errors import Conflict, DurableQError, InvalidBody, InvalidInput, UnknownQueue
from durableq.model.limits import MAX_SEND_BATCH
from durableq.model.message import Draft, State
from durableq.model.queues import DEAD_LETTER_SUFFIX


def check_batch(drafts: Sequence[Draft]) -> None:
    """Refuse a batch that no single transaction should hold.

    Raises:
        InvalidInput: more than MAX_SEND_BATCH messages.
    """
    if len(drafts) > MAX_SEND_BATCH:
        raise InvalidInput(
            f"A batch has at most {MAX_SEND_BATCH} messages, got {len(drafts)}. "
            "Send several batches, or use queue.producer()."
        )


def send(tx: WriteTransaction, queue: str, drafts: Sequence[Draft]) -> list[str]:
    """Store drafts and return their ids in order.

    Raises:
        UnknownQueue: there is no such queue.
        InvalidBody: a body is over the queue's limit.
    """
    if not drafts:
        return []
    row = tx.run(sql.SEND_TO, queue=queue).fetchone()
    if row is None:
        raise _refused(tx, queue)
    queue_id, queue_delay_ms, max_body_bytes, last_id = row
    first_id = last_id + 1
    now_ms = tx.now_ms
    ready, delayed = State.READY.value, State.DELAYED.value
    rows = []
    for number, draft in enumerate(drafts):
        body_bytes = codec.size(draft.body)
        if body_bytes > max_body_bytes:
            raise _too_large(number, draft, queue, max_body_bytes)
        delay_ms = queue_delay_ms if draft.delay_ms is None else draft.delay_ms
        due_ms = now_ms + delay_ms
        rows.append(
            {
                "id": first_id + number,
                "queue_id": queue_id,
                "state": delayed if delay_ms else ready,
                "rank": -draft.priority,
                "priority": draft.priority,
                "delayed_until_ms": due_ms if delay_ms else 0,
                "now_ms": now_ms,
                "retention_from_ms": due_ms,
                "body_bytes": body_bytes,
                "key": draft.key,
                "payload_hash": draft.payload_hash,
                "attributes": draft.attributes,
                "body": draft.body,
            }
        )
    tx.run(sql.SENT, of_queue=queue_id, count=len(drafts))
    if len(rows) == 1:
        tx.run(sql.INSERT, **rows[0])
    else:
        tx.run_many(sql.INSERT, rows)
    return [str(first_id + number) for number in range(len(drafts))]


def _refused(tx: WriteTransaction, queue: str) -> DurableQError:
    if tx.find_queue(queue) is None:
        return UnknownQueue(queue)
    return Conflict(
        f"{queue!r} is a dead-letter queue: only failed messages come there. "
        f"Send to {queue.removesuffix(DEAD_LETTER_SUFFIX)!r}."
    )


def _too_large(number: int, draft: Draft, queue: str, limit: int) -> InvalidBody:
    return InvalidBody(
        f"Message {number + 1} of this batch has a body of {codec.size(draft.body)} bytes; queue "
        f"{queue!r} takes at most {limit}. Nothing of the batch was sent. Store the data elsewhere "
        "and send a reference, or raise the queue's max_body_bytes."
    )
