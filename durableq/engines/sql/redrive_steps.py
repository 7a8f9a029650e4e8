"""Steps of redrive tasks: the messages that are next, and what becomes of them.

A step leases its messages and decides about them as a recovery process does, so each decision is
fenced, counted and recorded as usual. Dead letters by a filter are taken in order of id. Those of a
whole queue are taken as a receive would: in order, and the next of a group after the one before it.
"""

from __future__ import annotations

import time
from itertools import takewhile
from typing import Final, NamedTuple

from durableq.engines.sql.admission import choose
from durableq.engines.sql.columns import OWNER_BASE
from durableq.engines.sql.dead_letters import decide_one, meant_by, send_back
from durableq.engines.sql.flow import count_leases
from durableq.engines.sql.receiving import lease_ready, new_token, promote
from durableq.engines.sql.reclaiming import reclaim_expired
from durableq.engines.sql.settling import LeasedMessage
from durableq.engines.sql.transactions import StoredQueue, Token, WriteTransaction
from durableq.model.dead_letters import (
    DeadLetterFilter,
    RedriveFailure,
    RedriveState,
    RedriveTask,
    WholeQueue,
)
from durableq.model.decisions import Discard
from durableq.model.message import Outcome, State

#: Length of a step's own leases, which its transaction ends.
_LEASE_MS: Final = 1_000
#: Messages that are decided about between two looks at the time.
PAGE: Final = 10


class Room:
    """The room of a step: a number of messages, and a time after which it begins no other page.

    A step decides about one page at least, so that a task always comes to its end.

    Args:
        limit: the number of messages.
        within_ms: the time; None: no limit.
    """

    def __init__(self, limit: int, within_ms: int | None) -> None:
        self._left = limit
        self._until = None if within_ms is None else time.monotonic() + within_ms / 1000
        self._is_used = False

    @property
    def page(self) -> int:
        """The number of messages of the next page; 0: the step is over."""
        if self._is_used and self._until is not None and time.monotonic() >= self._until:
            return 0
        return min(self._left, PAGE)

    def use(self, number: int) -> None:
        """Note that so many messages were decided about."""
        self._left -= number
        self._is_used = True


class Position(NamedTuple):
    """The messages that a task covers, and how far it is."""

    #: Messages that came by a later event of the history are not meant; nor are higher ids.
    last_event: int
    last_message: int
    #: The message that was decided about last, and its rank.
    cursor: int = 0
    cursor_rank: int = -1 << 63


class Step(NamedTuple):
    """The work of a step: how many were moved and passed over, and where to go on."""

    state: RedriveState
    moved: int
    skipped: int
    cursor: int
    cursor_rank: int
    failure: RedriveFailure | None = None


class Found(NamedTuple):
    """A message of a task. Columns in the order of DEAD_LETTERS_MEANT and READY_MEANT."""

    id: int
    queue_id: int
    state: int
    recovery_count: int
    #: None: it was sent to its queue.
    source_queue_id: int | None
    known_source_id: int | None
    group: str | None
    rank: int

    def leased(self, token: Token) -> LeasedMessage:
        """Return the message as a step has leased it."""
        return LeasedMessage(
            self.id,
            None,
            1,
            self.group,
            token,
            recovery_count=self.recovery_count,
            source_queue_id=self.source_queue_id,
        )


def take_step(tx: WriteTransaction, task: RedriveTask, at: Position, room: Room) -> Step:
    """Decide about the next messages of a task, as many as there is room for."""
    to_queue = None
    if task.to_queue is not None:
        to_queue = tx.find_queue(task.to_queue)
        if to_queue is None or to_queue.dead_letter_queue_id is None:
            failure = RedriveFailure.NO_TARGET
            return Step(RedriveState.FAILED, 0, 0, at.cursor, at.cursor_rank, failure)
    if isinstance(task.wanted, WholeQueue):
        return _of_queue(tx, task, tx.queue(task.wanted.name), at, room, to_queue)
    return _of_filter(tx, task, task.wanted, at, room, to_queue)


def _of_filter(
    tx: WriteTransaction,
    task: RedriveTask,
    wanted: DeadLetterFilter,
    at: Position,
    room: Room,
    to_queue: StoredQueue | None,
) -> Step:
    """Decide about the next dead letters that match a filter."""
    moved = skipped = 0
    while limit := room.page:
        # One more than are decided about: the last page then knows that it is the last.
        found = _letters(tx, wanted, at, limit + 1)
        page = found[:limit]
        free = [one for one in page if one.state != State.IN_FLIGHT]
        gone, failure = _decide(tx, task, free, to_queue)
        room.use(len(page))
        moved += gone
        skipped += 0 if failure else len(page) - gone
        if page:
            at = at._replace(cursor=page[-1].id)
        if failure or len(found) <= limit:
            ended = RedriveState.FAILED if failure else RedriveState.DONE
            return Step(ended, moved, skipped, at.cursor, at.cursor_rank, failure)
    return Step(RedriveState.RUNNING, moved, skipped, at.cursor, at.cursor_rank)


def _letters(
    tx: WriteTransaction, wanted: DeadLetterFilter, at: Position, limit: int
) -> list[Found]:
    """Return the next dead letters that match a filter.

    Leases of theirs that have ended are taken back, so that the task does not skip them.
    """
    meant = meant_by(wanted, at.cursor) | {"last_event": at.last_event, "limit": limit}
    found = [Found(*row) for row in tx.run(tx.sql.DEAD_LETTERS_MEANT, **meant).fetchall()]
    leased_in = {one.queue_id for one in found if one.state == State.IN_FLIGHT}
    if sum(reclaim_expired(tx, tx.queue_by_id(queue_id)) for queue_id in leased_in):
        found = [Found(*row) for row in tx.run(tx.sql.DEAD_LETTERS_MEANT, **meant).fetchall()]
    return found


def _of_queue(
    tx: WriteTransaction,
    task: RedriveTask,
    row: StoredQueue,
    at: Position,
    room: Room,
    to_queue: StoredQueue | None,
) -> Step:
    """Move the next messages of a queue."""
    promote(tx, row.id)
    reclaim_expired(tx, row)
    moved, start = 0, Position(at.last_event, at.last_message)
    while limit := room.page:
        page = _ready(tx, row, at, limit)
        if page:
            at = at._replace(cursor=page[-1].id, cursor_rank=page[-1].rank)
        elif at != start:
            at = start  # others have come back since, or became the next of their groups
            continue
        else:
            page = _delayed(tx, row, at, limit)
        gone, failure = _decide(tx, task, page, to_queue)
        moved += gone
        if failure is not None:
            return Step(RedriveState.FAILED, moved, 0, at.cursor, at.cursor_rank, failure)
        if not gone:  # there is none, or another process has just taken them
            break
        room.use(gone)
    if _ready(tx, row, at, 1) or _ready(tx, row, start, 1) or _delayed(tx, row, at, 1):
        return Step(RedriveState.RUNNING, moved, 0, at.cursor, at.cursor_rank)
    marks = {"last_event": at.last_event, "last_message": at.last_message}
    (skipped,) = tx.run(tx.sql.COUNT_PASSED_OVER, in_queue=row.id, **marks).fetchone()
    return Step(RedriveState.DONE, moved, skipped, at.cursor, at.cursor_rank)


def _ready(tx: WriteTransaction, row: StoredQueue, at: Position, limit: int) -> list[Found]:
    """Return the next ready messages of a queue that a task means, in the order of receiving."""
    after = {"at_rank": at.cursor_rank, "after_id": at.cursor}
    return _meant(tx, tx.sql.READY_MEANT, row, at, limit, **after)


def _delayed(tx: WriteTransaction, row: StoredQueue, at: Position, limit: int) -> list[Found]:
    """Return the first delayed messages of a queue that a task means; a held one is the last."""
    return _meant(tx, tx.sql.DELAYED_MEANT, row, at, limit)


def _meant(
    tx: WriteTransaction, text: str, row: StoredQueue, at: Position, limit: int, **after: int
) -> list[Found]:
    rows = tx.run(
        text,
        in_queue=row.id,
        last_event=at.last_event,
        last_message=at.last_message,
        oldest_ms=tx.now_ms - row.retention_ms,
        now_ms=tx.now_ms,
        limit=limit,
        **after,
    )
    return [Found(*columns) for columns in rows.fetchall()]


def _decide(
    tx: WriteTransaction, task: RedriveTask, found: list[Found], to_queue: StoredQueue | None
) -> tuple[int, RedriveFailure | None]:
    """Lease messages and decide about them, up to the first one that has nowhere to go.

    Returns:
        The number of those that moved, and why the next one cannot.
    """
    needs_source = to_queue is None and not isinstance(task.decision, Discard)
    known = [*takewhile(lambda one: one.known_source_id or not needs_source, found)]
    failure = RedriveFailure.NO_SOURCE if len(known) < len(found) else None
    if not known:
        return 0, failure
    for queue_id in {one.queue_id for one in known}:
        choose(tx, queue_id, [one.id for one in known if one.queue_id == queue_id])
    token = new_token()
    leased = {*lease_ready(tx, [one.id for one in known], token, _LEASE_MS, OWNER_BASE)}
    return sum(_move(tx, task, one, token, to_queue) for one in known if one.id in leased), failure


def _move(
    tx: WriteTransaction,
    task: RedriveTask,
    one: Found,
    token: Token,
    to_queue: StoredQueue | None,
) -> bool:
    """Decide about a message that is leased; return whether it was still there."""
    row, message = tx.queue_by_id(one.queue_id), one.leased(token)
    count_leases(tx, row.id, row.limits, 1)
    if isinstance(task.decision, Discard):
        outcome = decide_one(tx, row, message, task.decision, task.actor)
    else:
        target = to_queue or tx.queue_by_id(one.source_queue_id or 0)
        outcome = send_back(tx, row, message, target, task.decision, task.actor)
    return outcome is Outcome.DONE
