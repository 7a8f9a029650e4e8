"""The messages behind the head of a group, which are leased together with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from durableq.engines.sql import groups
from durableq.engines.sql.admission import (
    GROUP,
    ID,
    IS_PLAIN,
    KEY,
    RECEIVE_COUNT,
    Row,
    Terms,
    has_damaged_key,
)
from durableq.engines.sql.transactions import WriteTransaction
from durableq.model.lifecycle import is_exhausted
from durableq.model.message import Message


class Batches:
    """The messages behind each head of a receive.

    Args:
        tx: the transaction.
        terms: of the receive.
        retention_ms: the retention of the queue.
        fills: whether other groups come after the first, and messages that were received before
            may be behind a head.
        retries_are_free: whether no limit counts those.
    """

    def __init__(
        self,
        tx: WriteTransaction,
        terms: Terms,
        retention_ms: int,
        *,
        fills: bool,
        retries_are_free: bool,
    ) -> None:
        self._tx, self._terms, self._retention_ms = tx, terms, retention_ms
        self._fills, self._received_too = fills, fills and retries_are_free
        self._groups: set[str | None] = {None}
        self.rows: dict[int, list[Row]] = {}

    @classmethod
    def of(
        cls,
        tx: WriteTransaction,
        terms: Terms,
        retention_ms: int,
        fills: bool,
        retries: int | None,
        probing: object,
    ) -> Terms:
        """Return the terms of a receive with its batches; a budget or a breaker counts retries."""
        is_free = retries is None and probing is None
        made = cls(tx, terms, retention_ms, fills=fills, retries_are_free=is_free)
        return terms._replace(behind=made)

    def take(self, head: Row, left: int, taken: set[str]) -> int:
        """Find the messages behind a head; return by how many the receive is to be shorter.

        Args:
            head: the message.
            left: how many may be behind it.
            taken: the keys that the receive takes; those of the messages are added.
        """
        rows: list[Row] = []
        if left and head[GROUP] not in self._groups:  # behind another, where several are active
            self._groups.add(head[GROUP])
            of_head = self._terms, head, left, self._retention_ms
            rows = following(self._tx, *of_head, taken, received_too=self._received_too)
            self.rows[head[ID]] = rows
        return len(rows) if self._fills else left


def with_following(
    tx: WriteTransaction,
    terms: Terms,
    behind: Mapping[int, list[Row]],
    heads: list[Row],
    leased: list[Message],
    deliver: Callable[..., list[Message]],
) -> list[Message]:
    """Lease the messages behind leased heads, more than may be active; return all in order.

    Args:
        tx: the transaction.
        terms: of the receive.
        behind: by the id of a head.
        heads: the messages that were to be leased.
        leased: those that were.
        deliver: leases messages in another state than ready.
    """
    found = {message.id: message for message in leased}
    led = {row[ID]: behind.get(row[ID], ()) for row in heads if str(row[ID]) in found}
    rows = [row for rows in led.values() for row in rows]
    if not rows:
        return leased
    for head in heads:
        if number := len(led.get(head[ID], ())):
            tx.execute(tx.sql.ADD_ACTIVE, (number, terms.queue_id, head[GROUP]))
    forms = tx.sql.LEASE_FOLLOWING, tx.sql.LEASE_FOLLOWING_ONE
    found |= {message.id: message for message in deliver(tx, terms, rows, {}, forms)}
    order = (str(row[ID]) for head in heads for row in (head, *led.get(head[ID], ())))
    return [found[message_id] for message_id in order if message_id in found]


def following(
    tx: WriteTransaction,
    terms: Terms,
    head: Row,
    limit: int,
    retention_ms: int,
    taken: set[str],
    *,
    received_too: bool = False,
) -> list[Row]:
    """Return blocked messages of a head's group in order, up to the first that has to wait.

    That one is a duplicate, expired, not due, behind a key in progress, damaged, or it has had all
    its receives: it is looked at when it is the head. Unless `received_too`, a message that was
    received before is delivered alone, so that a batch which fails as a whole is tried again one by
    one.

    Args:
        tx: the transaction.
        terms: of the receive.
        head: the message that it leases.
        limit: the largest number.
        retention_ms: the retention of the queue.
        taken: the keys that the receive takes; those of the returned messages are added.
        received_too: whether messages that were received before are returned too.
    """
    name = head[GROUP]
    if name is None or not limit or (head[RECEIVE_COUNT] and not received_too):
        return []
    if terms.tokens is not None:
        limit = min(limit, terms.tokens.left(name))
    found: list[Row] = []
    values = terms.queue_id, name, tx.now_ms - retention_ms, tx.now_ms, limit
    in_order = terms.limits & groups.BURY_AT_RECEIVE
    text = tx.sql.FOLLOWING_IN_ORDER if in_order else tx.sql.FOLLOWING
    rows = tx.raw.execute(text, values)
    try:
        for row in rows:
            key = row[KEY]
            is_taken = key is not None and (key in taken or has_damaged_key(row))
            if not row[IS_PLAIN] or is_taken:
                break
            if row[RECEIVE_COUNT] and not (received_too and _may_be_received(tx, terms, row)):
                break
            if key is not None:
                taken.add(key)
            found.append(row)
    finally:
        rows.close()
    if terms.tokens is not None:
        terms.tokens.take(name, len(found))
    return found


def _may_be_received(tx: WriteTransaction, terms: Terms, row: Row) -> bool:
    """Return whether a message has not had all its receives."""
    return not is_exhausted(row[RECEIVE_COUNT], tx.queue(terms.queue).max_receives)
