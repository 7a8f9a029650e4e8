"""The ranks of messages that a queue stored before its `priority_aging` changed.

A change applies to later sends. A note says which messages are left, by id, and each slice of
maintenance ranks a window of them again, so that no transaction is long. Messages in any state are
ranked: one that is in flight may come back.
"""

from __future__ import annotations

import json
from typing import Final

from durableq.engines.sql.metadata import own_values, set_own_value
from durableq.engines.sql.transactions import WriteTransaction
from durableq.model.flow.rank import RANKS_PER_MS, weight
from durableq.model.settings import Limits

#: The names of the notes in durableq_meta begin so; the id of the queue follows.
NOTE: Final = "rank:"


def rank_later(tx: WriteTransaction, queue_id: int) -> None:
    """Let maintenance rank all messages that a queue has now."""
    (last_id,) = tx.run(tx.sql.LAST_MESSAGE).fetchone()
    set_own_value(tx, f"{NOTE}{queue_id}", json.dumps([0, last_id]))


def forget(tx: WriteTransaction, queue_id: int) -> None:
    """Drop the note of a queue that is deleted, or whose messages were all ranked."""
    set_own_value(tx, f"{NOTE}{queue_id}", None)


def rank_slice(tx: WriteTransaction, window: int) -> bool:
    """Rank the next messages of one queue, among `window` rows; return whether any may be left."""
    notes = own_values(tx, NOTE)
    for name, text in notes.items():
        queue_id = int(name.removeprefix(NOTE))
        after, last = json.loads(text)
        number, to = tx.run(tx.sql.MESSAGE_WINDOW, after=after, window=window).fetchone()
        done = number < window or to >= last
        if number:
            _rank(tx, queue_id, after, min(to, last))
        if done:
            forget(tx, queue_id)
        else:
            set_own_value(tx, name, json.dumps([to, last]))
        return not done or len(notes) > 1
    return False


def _rank(tx: WriteTransaction, queue_id: int, after: int, to: int) -> None:
    _, aging_ms = tx.execute(tx.sql.AT_SEND, (queue_id,)).fetchone()
    has_groups = bool(tx.limits_of(queue_id) & Limits.GROUPS)
    tx.run(
        tx.sql.RANK_WINDOW,
        in_queue=queue_id,
        after=after,
        to=to,
        per_ms=RANKS_PER_MS if has_groups or aging_ms else 0,
        weight=weight(has_groups=has_groups, aging_ms=aging_ms),
    )
