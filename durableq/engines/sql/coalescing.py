"""Messages that stand for others: deduplication at send, and those that replace older ones."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from durableq.engines.sql.leaving import left
from durableq.engines.sql.transactions import WriteTransaction
from durableq.model.drafts import DraftFlow
from durableq.model.flow.sending import Backlog, Facts, Plan, Waiting
from durableq.model.message import Event


def facts_of(
    tx: WriteTransaction, queue_id: int, flows: Iterable[DraftFlow], backlog: Backlog
) -> Facts:
    """Return the state of a queue that decides about a send to it."""
    sent: dict[tuple[str, str], int] = {}
    waiting: dict[str, Sequence[Waiting]] = {}
    for flow in flows:
        first, key = flow.sent_as, flow.replace_key
        if first is not None and first not in sent:
            before = tx.execute(tx.sql.SENT_BEFORE, (queue_id, *first, tx.now_ms)).fetchone()
            if before is not None:
                sent[first] = before[0]
        if key is not None and key not in waiting:
            rows = tx.execute(tx.sql.WAITING, (queue_id, key)).fetchall()
            waiting[key] = [*map(Waiting._make, rows)]
    return Facts(backlog, tx.now_ms, sent, waiting)


def carry_out(tx: WriteTransaction, queue_id: int, made: Plan) -> None:
    """End the messages that newer ones replace, and remember the deduplication ids of a send.

    Messages that are replaced by later ones of the same send are never stored, but they count as
    sent and replaced, like any other.
    """
    tx.count(queue_id, tx.sql.DEDUPLICATED, made.deduplicated)
    for sent_as, message_id in made.remembered.items():
        tx.execute(tx.sql.REMEMBER_SENT, (*sent_as, message_id, tx.now_ms, queue_id))
    if not made.replaced:
        return
    stored = {*made.stored}
    older = [message_id for message_id in made.replaced if message_id not in stored]
    ended = left(tx, tx.run(tx.sql.END_REPLACED, ids=tx.list_of(older)).fetchall()) | stored
    for message_id, newer in made.replaced.items():
        if message_id in ended:
            tx.count(queue_id, tx.sql.REPLACED)
            detail = {"by": str(newer)}
            tx.record(message_id, queue_id, Event.REPLACED, detail=detail)
