"""Queries for people: short reads, paged by key, that never write."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from durableq.engines.sql import flow
from durableq.engines.sql.marks import MARKS
from durableq.engines.sql.transactions import Operations, StoredQueue, Transaction, row_id
from durableq.model.arguments import check_page_start
from durableq.model.endpoint import Readiness
from durableq.model.errors import UnknownQueue
from durableq.model.info import GroupInfo
from durableq.model.message import (
    FOREVER_MS,
    OVER_BUDGET_MS,
    Message,
    Ready,
    Receipt,
    State,
)
from durableq.model.queues import ApproximateCounts, Counters
from durableq.model.settings import RECEIVE_LIMITS, QueueSettings

#: By stored value, which is quicker than to call the enum.
_STATES: Final = {state.value: state for state in State}
#: Rows of all queues that `peek` reads for each message wanted, before it turns to the indexes.
_WINDOW: Final = 100


def find_queue(tx: Transaction, name: str) -> StoredQueue:
    """Return a queue by name.

    Raises:
        UnknownQueue: there is none.
    """
    row = tx.execute(tx.sql.QUEUE, (name,)).fetchone()
    if row is None:
        raise UnknownQueue(name)
    return StoredQueue(*row[:-1])


def settings_of(tx: Transaction, name: str) -> QueueSettings:
    """Return all settings of a queue.

    Raises:
        UnknownQueue: there is none.
    """
    row = tx.run(tx.sql.SETTINGS_OF, queue=name).fetchone()
    if row is None:
        raise UnknownQueue(name)
    return QueueSettings(*row)


class SQLMessages(Operations):
    """The messages of the capability of inspection, in SQL."""

    def approximate_counts(self, queue: str) -> ApproximateCounts:
        """Return the numbers of a queue's messages at this moment, as SQS reports them."""
        with self._database.read() as tx:
            at = {"now_ms": tx.now_ms, "lease_now": tx.lease_now_ms}
            row = tx.run(tx.sql.APPROXIMATE, queue=queue, **at).fetchone()
            if row is None:
                raise UnknownQueue(queue)
            in_flight, delayed, *counters = row
            visible = Counters(*counters).expected - in_flight - delayed
            return ApproximateCounts(max(0, visible), in_flight, delayed)

    def message(self, message_id: str) -> Message | None:
        """Return one message."""
        with self._database.read() as tx:
            return tx.shown(one_message(tx, message_id))

    def group(self, queue: str, name: str, limit: int = 10) -> GroupInfo:
        """Return the active messages of a group, and its dead letters."""
        with self._database.read() as tx:
            of_group = {"in_queue": find_queue(tx, queue).id, "name": name, "limit": limit}
            active, dead = (
                [as_message(row, tx) for row in tx.run(text, **of_group).fetchall()]
                for text in (tx.sql.GROUP_ACTIVE, tx.sql.GROUP_DEAD)
            )
            return tx.shown(GroupInfo(active, dead))

    def peek(self, queue: str, limit: int, after_id: str | None = None) -> list[Message]:
        """Return messages of a queue in order of id."""
        after = check_page_start(after_id)
        with self._database.read() as tx:
            row = find_queue(tx, queue)
            return tx.shown(messages_of(tx, _next_ids(tx, row.id, after, limit)))


def _next_ids(tx: Transaction, queue_id: int, after: int, limit: int) -> list[int]:
    """Return the next ids of a queue's messages, in order.

    No index has a queue's messages of all states in order of id, for each send would pay for it.
    A queue with many messages has enough of them among the next rows of the table; one with few
    has few to sort.
    """
    values = {"in_queue": queue_id, "after": after, "limit": limit}
    near = tx.run(tx.sql.PEEK_NEAR, window=_WINDOW * limit, **values).fetchall()
    found = near if len(near) == limit else tx.run(tx.sql.PEEK_FAR, **values).fetchall()
    return sorted(row[0] for row in found)[:limit]


def one_message(tx: Transaction, message_id: str) -> Message | None:
    """Return a message, wherever it stands."""
    row = tx.run(tx.sql.MESSAGE, of=row_id(message_id)).fetchone()
    return None if row is None else as_message(row, tx)


def messages_of(tx: Transaction, ids: list[int]) -> list[Message]:
    """Return the messages with these ids that are there, in order of id."""
    found = tx.run(tx.sql.MESSAGES, ids=tx.list_of(ids)).fetchall()
    return [as_message(row, tx) for row in found]


def leased(tx: Transaction, owner: int) -> list[Message]:
    """Return the messages that an owner, as stored, has leased, with receipts."""
    return [_leased(row, tx) for row in tx.run(tx.sql.LEASED_BY, owner=owner).fetchall()]


def ready_in_ms(tx: Transaction, names: Sequence[str]) -> int | None:
    """Return in how long a receive on one of these queues may bring something."""
    rows = tx.run(tx.sql.READY_IN, names=tx.list_of(list(names))).fetchall()
    if len(rows) < len(names):  # or a name comes twice
        found = {row[0] for row in rows}
        for name in names:
            if name not in found:
                raise UnknownQueue(name)
    waits_ms = []
    for row in rows:
        wait_ms = _ready_in_ms(tx, row)
        if wait_ms is not None:
            waits_ms.append(wait_ms)
    return min(waits_ms, default=None)


def readiness(tx: Transaction, wanted: Mapping[str, int]) -> dict[str, Readiness]:
    """Return when each queue has messages for a receive; see Endpoint.readiness."""
    found = {}
    for row in tx.run(tx.sql.READY_IN, names=tx.list_of(list(wanted))).fetchall():
        name, _, _, queue_id, *_ = row
        due_ms = _ready_in_ms(tx, row)
        number = count_ready(tx, queue_id, wanted[name]).number if due_ms == 0 else 0
        found[name] = Readiness(due_ms, number)
    return found


def _ready_in_ms(tx: Transaction, row: tuple[Any, ...]) -> int | None:
    """Return in how long a receive on the queue of a row of READY_IN may bring something."""
    _, revision, paused, queue_id, limits, is_ready, delayed_until_ms, lease_until_ms = row
    if revision in MARKS:
        return 0  # a receive says where the store was moved
    if paused:
        return None
    due_ms = None
    if delayed_until_ms is not None and delayed_until_ms < OVER_BUDGET_MS:
        due_ms = max(0, delayed_until_ms - tx.now_ms)
    waits_ms: list[int] = []
    if limits & RECEIVE_LIMITS:
        waits_ms += flow.waits_ms(tx, queue_id, limits, due_ms, is_ready=bool(is_ready))
    elif is_ready:
        return 0
    elif due_ms is not None:
        waits_ms.append(due_ms)
    if lease_until_ms is not None:
        waits_ms.append(max(0, lease_until_ms - tx.lease_now_ms))
    return min(waits_ms, default=None)


def count_ready(tx: Transaction, queue_id: int, limit: int) -> Ready:
    """Count the messages that a receive may find ready; see Queueing.count_ready."""
    values = {"in_queue": queue_id, "limit": limit, "now_ms": tx.now_ms}
    found = tx.run(tx.sql.COUNT_GATHERED, lease_now=tx.lease_now_ms, **values).fetchall()
    waits = [
        (tx.lease_now_ms if state == State.IN_FLIGHT else tx.now_ms) - since_ms
        for state, number, since_ms in found
        if number
    ]
    return Ready(min(limit, sum(number for _, number, _ in found)), max(waits, default=0))


def _leased(row: tuple[Any, ...], tx: Transaction) -> Message:
    found = as_message(row, tx)
    return found._replace(receipt=Receipt(found.queue, found.id, row[-1].hex()))


def as_message(row: tuple[Any, ...], tx: Transaction) -> Message:
    """Return the message of a row of `select_messages`."""
    *start, state, receives, recoveries, sent, enqueued, delayed_until, lease_until = row[:13]
    message_id, name, body, key, attributes, priority = start
    source, group, expires_at_ms = row[13:16]
    in_flight = state == State.IN_FLIGHT
    left_ms = lease_until - tx.lease_now_ms if in_flight else 0
    return Message(
        str(message_id),
        name,
        body,
        key,
        attributes,
        priority,
        _STATES[state],
        receives,
        recoveries,
        sent,
        enqueued,
        delayed_until if state == State.DELAYED and delayed_until != OVER_BUDGET_MS else 0,
        max(0, left_ms),
        source,
        None,
        group,
        None if expires_at_ms == FOREVER_MS else expires_at_ms,
    )
