"""Single messages: cancelled, delayed until another time, or made ready."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from durableq.engines.sql.leaving import left
from durableq.engines.sql.reclaiming import reclaim_expired
from durableq.engines.sql.transactions import Operations, WriteTransaction, row_id
from durableq.model import lifecycle
from durableq.model.control import check_ids, check_note
from durableq.model.message import Event, Refusal, State
from durableq.model.units import due_ms


class _Named(NamedTuple):
    """A message named by its id. Columns in the order of NAMED."""

    id: int
    queue_id: int
    state: int
    source_queue_id: int | None
    delayed_until_ms: int
    deferred: int
    lease_until_ms: int
    expires_at_ms: int

    def refusal(self, until_ms: int | None, now_ms: int) -> Refusal | None:
        """Return why it cannot be made due at `until_ms`, or cancelled (None)."""
        becomes_ready = until_ms is not None and until_ms <= now_ms
        return lifecycle.refusal(
            State(self.state),
            self.delayed_until_ms,
            is_dead=self.source_queue_id is not None,
            is_behind_key=becomes_ready and bool(self.deferred) and self.delayed_until_ms > now_ms,
            is_cancelled=until_ms is None,
            is_too_late=until_ms is not None and max(until_ms, now_ms) >= self.expires_at_ms,
        )


#: Changes messages that are not refused, and returns the ids of those that it changed.
_Change = Callable[[WriteTransaction, list[_Named]], set[int]]


class SQLControl(Operations):
    """The single messages of the capability of control, in SQL."""

    def cancel(
        self, ids: Sequence[str], *, queue: str | None = None, actor: str = "", note: str = ""
    ) -> list[Refusal | None]:
        """Remove messages that are ready or delayed."""
        check_ids(ids)
        check_note(note)
        with self._database.write() as tx:
            return _control(tx, ids, queue, None, partial(_cancel, actor=actor, note=note))

    def reschedule(
        self,
        ids: Sequence[str],
        *,
        delay_ms: int = 0,
        at_ms: int | None = None,
        queue: str | None = None,
        actor: str = "",
        note: str = "",
    ) -> list[Refusal | None]:
        """Delay messages until another time, or make them ready."""
        check_ids(ids)
        check_note(note)
        with self._database.write() as tx:
            wall_ms = tx.now_ms + tx.offset_ms
            until_ms = due_ms(delay_ms, at_ms, wall_ms) - tx.offset_ms
            change = partial(_reschedule, until_ms=until_ms, actor=actor, note=note)
            return _control(tx, ids, queue, until_ms, change)


def _control(
    tx: WriteTransaction,
    ids: Sequence[str],
    queue: str | None,
    until_ms: int | None,
    change: _Change,
) -> list[Refusal | None]:
    """Change the messages that are not refused, and return the refusals in order of the ids."""
    queue_id = None if queue is None else tx.queue(queue).id
    named = _named(tx, ids)
    if _reclaim(tx, named):
        named = _named(tx, ids)
    refusals = {one: _refusal(tx, named.get(one), queue_id, until_ms) for one in ids}
    free = [named[one] for one, refused in refusals.items() if refused is None]
    moved = change(tx, free) if free else set()
    lost = [str(message.id) for message in free if message.id not in moved]
    if lost:  # another process has taken them since they were read
        named = _named(tx, lost)
        for one in lost:
            again = _refusal(tx, named.get(one), queue_id, until_ms)
            refusals[one] = again or Refusal.IN_FLIGHT
    return [refusals[one] for one in ids]


def _named(tx: WriteTransaction, ids: Sequence[str]) -> dict[str, _Named]:
    """Return the messages that are there, by id."""
    found = tx.run(tx.sql.NAMED, ids=tx.list_of([*map(row_id, ids)])).fetchall()
    return {str(row[0]): _Named(*row) for row in found}


def _reclaim(tx: WriteTransaction, named: dict[str, _Named]) -> int:
    """Take back ended leases of the queues in which messages have such a lease."""
    ended = (
        message.queue_id
        for message in named.values()
        if message.state == State.IN_FLIGHT
        and message.source_queue_id is None
        and message.lease_until_ms <= tx.lease_now_ms
    )
    return sum(reclaim_expired(tx, tx.queue_by_id(queue_id)) for queue_id in dict.fromkeys(ended))


def _refusal(
    tx: WriteTransaction, message: _Named | None, queue_id: int | None, until_ms: int | None
) -> Refusal | None:
    if message is None:
        return Refusal.UNKNOWN
    if queue_id is not None and queue_id not in {message.queue_id, message.source_queue_id}:
        return Refusal.ELSEWHERE
    return message.refusal(until_ms, tx.now_ms)


def _cancel(tx: WriteTransaction, messages: list[_Named], actor: str, note: str) -> set[int]:
    ended = left(tx, tx.run(tx.sql.CANCEL, ids=tx.list_of([message.id for message in messages])))
    for message in messages:
        if message.id in ended:
            tx.count(message.queue_id, tx.sql.CANCELLED)
            tx.record(message.id, message.queue_id, Event.CANCELLED, actor=actor, reason=note)
    return ended


def _reschedule(
    tx: WriteTransaction, messages: list[_Named], until_ms: int, actor: str, note: str
) -> set[int]:
    """Make messages due at `until_ms`; those that are ready already stay so."""
    is_later = until_ms > tx.now_ms
    stay = set() if is_later else {m.id for m in messages if m.state == State.READY}
    ids = [message.id for message in messages if message.id not in stay]
    statement = tx.sql.DELAY if is_later else tx.sql.RUN_NOW
    moved = tx.moved(statement, ids=tx.list_of(ids), until=max(until_ms, tx.now_ms))
    told: dict[str, Any] = {"actor": actor, "reason": note}
    told["detail"] = {"delay_ms": max(0, until_ms - tx.now_ms)}
    for message in messages:
        if message.id in moved:
            tx.record(message.id, message.queue_id, Event.RESCHEDULED, **told)
    return moved | stay
