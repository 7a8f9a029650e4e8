"""The tables behind a lock, and the steps of which operations are made."""

from __future__ import annotations

import functools
import random
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Concatenate, ParamSpec, TypeVar

from durableq.engines.memory import breaker, groups
from durableq.engines.memory.tables import Queue, Record, Row, Tables
from durableq.engines.memory.watch import MemoryWatch
from durableq.model.errors import Conflict, UnknownQueue
from durableq.model.lifecycle import (
    TOO_MANY_RECEIVES,
    Bury,
    Redeliver,
    after_failure,
    at_expiry,
    is_exhausted,
)
from durableq.model.limits import PROMOTE_BATCH, RECLAIM_BATCH
from durableq.model.message import (
    FOREVER_MS,
    Event,
    Failure,
    HistoryEvent,
    Message,
    Outcome,
    Reason,
    Receipt,
    RecordStatus,
    State,
)
from durableq.model.settings import QueueSettings
from durableq.runtime.clock import Clock, SteadyClock, SystemClock

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S", bound="MemoryBase")


def operation(method: Callable[Concatenate[S, P], R]) -> Callable[Concatenate[S, P], R]:
    """Make a method one transaction; dates in its answer are those of the wall clock."""

    @functools.wraps(method)
    def run(self: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
        with self._all_or_nothing():
            return self._answer(lambda: method(self, *args, **kwargs))

    return run


def query(method: Callable[Concatenate[S, P], R]) -> Callable[Concatenate[S, P], R]:
    """Make a method one consistent read; dates in its answer are those of the wall clock."""

    @functools.wraps(method)
    def run(self: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
        with self._lock:
            return self._answer(lambda: method(self, *args, **kwargs))

    return run


class MemoryBase:
    """The state of a store. Dates in its tables are in steady time.

    Args:
        clock: the source of time; None for this machine's clocks.
        rng: numbers in [0, 1) for the backoff's jitter.
    """

    def __init__(
        self, clock: Clock | None = None, rng: Callable[[], float] = random.random
    ) -> None:
        self._clock = SteadyClock(clock or SystemClock())
        self._rng = rng
        self._lock = threading.RLock()
        self._tables = Tables()
        self._watches: set[MemoryWatch] = set()
        self._in_transaction = False
        self._depth = self._nesting = 0
        self._turns: dict[str, int] = {}
        #: Messages whose groups are filled later.
        self._changed: list[Row] | None = None
        self._last_id = self._last_owner_id = 0

    @contextmanager
    def _all_or_nothing(self) -> Iterator[None]:
        """Undo everything inside if it raises, and end the waits of watches if it does not."""
        with self._lock:
            if self._in_transaction:
                raise Conflict(
                    "This thread is inside message.transaction(): use tx.send there, "
                    "or make this call before or after it."
                )
            self._clock.keep()
            before, self._tables = self._tables, self._tables.copy()
            if not self._nesting:
                self._turns.clear()
            self._nesting += 1
            try:
                yield
            except BaseException:
                self._tables = before
                raise
            finally:
                self._nesting -= 1
            for watch in self._watches:
                watch.ring()

    def _answer(self, call: Callable[[], R]) -> R:
        """Make a call; show the dates of its answer unless it is a part of another operation."""
        self._depth += 1
        try:
            answer = call()
        finally:
            self._depth -= 1
        return answer if self._depth else self._clock.shown(answer)

    # ---- reading the tables

    def _queue(self, name: str) -> Queue:
        if name not in self._tables.queues:
            raise UnknownQueue(name)
        return self._tables.queues[name]

    def _judge(self, receipt: Receipt) -> Row | Outcome:
        """Return the leased message of a valid receipt, or the outcome that refuses the receipt."""
        row = self._tables.rows.get(receipt.message_id)
        if row is None:
            return Outcome.GONE
        return row if row.receipt == receipt else Outcome.STALE

    def _settle(self, receipt: Receipt, step: Callable[[Row], Outcome]) -> Outcome:
        """Apply a step to the leased message of a receipt, if that is valid."""
        found = self._judge(receipt)
        return found if isinstance(found, Outcome) else step(found)

    def _as_message(self, row: Row) -> Message:
        return Message(
            id=row.id,
            queue=row.queue,
            body=row.draft.body,
            key=row.draft.key,
            attributes=row.draft.attributes,
            priority=row.draft.priority,
            state=row.state,
            receive_count=row.receive_count,
            recovery_count=row.recovery_count,
            sent_at_ms=row.sent_at_ms,
            enqueued_at_ms=row.enqueued_at_ms,
            delayed_until_ms=(
                row.delayed_until_ms if row.state is State.DELAYED and not row.over_budget else 0
            ),
            lease_left_ms=self._lease_left_ms(row),
            source_queue=row.source_queue,
            receipt=None,
            group=row.group,
            expires_at_ms=None if row.expires_at_ms == FOREVER_MS else row.expires_at_ms,
        )

    def _lease_left_ms(self, row: Row) -> int:
        return max(0, row.lease.until_ms - self._clock.lease_ms()) if row.lease else 0

    # ---- changing a message

    def _put(self, row: Row, **changes: Any) -> Row:
        changed = self._tables.rows[row.id] = row._replace(**changes)
        return changed

    def _wait(self, row: Row, until_ms: int | None, **changes: Any) -> None:
        """Make a message delayed, ready (0), or ready and due since it was (None)."""
        state = State.DELAYED if until_ms else State.READY
        until_ms = row.delayed_until_ms if until_ms is None else until_ms
        changes = {"deferred": False, "lease": None} | changes
        self._put(row, state=state, delayed_until_ms=until_ms, **changes)

    def _put_back(self, row: Row, until_ms: int | None = None, **changes: Any) -> Outcome:
        """End a lease without an end of the message."""
        self._wait(row, until_ms, **changes)
        self._free_key(row)
        if groups.is_grouped(self._queue(row.queue), row):
            self._put(self._tables.rows[row.id], state=State.BLOCKED)
            self._fill_groups(row)
        return Outcome.DONE

    def _move(self, row: Row, queue: str, until_ms: int, **changes: Any) -> None:
        """Move a message to another queue, where its receives count from 0."""
        now_ms, settings = self._clock.now_ms(), self._queue(queue).settings
        rank = groups.rank_of(settings, row.draft.priority, until_ms or now_ms)
        changes = {"keeps_age": False} | changes
        changes |= {"queue": queue, "enqueued_at_ms": now_ms, "rank": rank}
        self._wait(row, until_ms, receive_count=0, **changes)
        moved = self._tables.rows[row.id]
        if groups.is_grouped(self._queue(queue), moved):
            self._last_id += 1  # the end of its group, behind all that were sent
            self._put(moved, state=State.BLOCKED, sequence=self._last_id)
        self._fill_groups(row, moved)
        self._count(row.queue, moved_out=1)
        self._count(queue, moved_in=1)

    def _end(self, row: Row, counter: str) -> None:
        del self._tables.rows[row.id]
        self._count(row.queue, **{counter: 1})
        self._fill_groups(row)

    def _count(self, queue: str, **plus: int) -> None:
        found = self._queue(queue)
        counters = {name: getattr(found.counters, name) + number for name, number in plus.items()}
        counted = found._replace(counters=replace(found.counters, **counters))
        self._tables.queues[queue] = counted

    def _fail(self, row: Row, failure: Failure, actor: str, event: Event) -> Outcome:
        """Record a failure and retry, bury or drop, as `after_failure` decides."""
        settings, dead_letter_queue, _ = self._queue(row.queue)
        uncounted = bool(settings.breaker) and breaker.judge_failure(
            self._tables, row, failure, self._now(), self._rng
        )
        event = Event.UNAVAILABLE if uncounted else event
        trace = failure.traceback
        self._record(row, event, actor=actor, traceback=trace, **failure.history_fields)
        decision = after_failure(
            failure,
            row.receive_count,
            settings,
            self._rng(),
            has_dead_letter_queue=dead_letter_queue is not None,
            is_uncounted=uncounted,
            expires_in_ms=row.expires_at_ms - self._clock.now_ms(),
        )
        if decision == Bury(failure.reason):
            self._free_key(row)
            self._bury(row, failure, actor)
            return Outcome.BURIED
        if not isinstance(decision, Redeliver):
            return self._expire(row, actor)
        wait_ms = decision.wait_ms
        until_ms = self._clock.now_ms() + wait_ms if wait_ms else None
        self._put_back(row, until_ms, receive_count=row.receive_count - uncounted)
        return Outcome.RETRY

    def _give_back(self, row: Row) -> Outcome:
        """End a lease at once, counted."""
        if row.expires_at_ms <= self._clock.now_ms():
            return self._expire(row)
        settings, dead_letter_queue, _ = self._queue(row.queue)
        is_last = is_exhausted(row.receive_count, settings.max_receives) and not settings.bury_at
        if is_last and dead_letter_queue is not None:
            self._free_key(row)
            self._bury(row, TOO_MANY_RECEIVES, "", receives=row.receive_count)
            return Outcome.BURIED
        return self._put_back(row)

    def _expire(self, row: Row, actor: str = "") -> Outcome:
        """End a message whose `expires_in` has ended, as `at_expiry` decides."""
        self._free_key(row)
        settings, dead_letter_queue, _ = self._queue(row.queue)
        has_dead_letter_queue, reason = dead_letter_queue is not None, Reason.MESSAGE_EXPIRED
        cause = Failure(reason, "", reason.sentence)
        if isinstance(at_expiry(settings, has_dead_letter_queue=has_dead_letter_queue), Bury):
            self._bury(row, cause, actor)
        else:
            self._record(row, Event.EXPIRED, actor=actor, **cause.history_fields)
            self._end(row, "expired")
        return Outcome.EXPIRED

    def _bury(self, row: Row, killed_by: Failure, actor: str, receives: int | None = None) -> None:
        dead_letter_queue = self._queue(row.queue).dead_letter_queue
        if dead_letter_queue is None:
            raise Conflict(f"Queue {row.queue!r} has no dead-letter queue: nothing dies there.")
        settings = self._queue(row.queue).settings
        self._move(
            row,
            dead_letter_queue,
            0,
            keeps_age=bool(settings.bury_at) and not settings.group_concurrency,
            source_queue=row.queue,
            killed_by=killed_by,
            expires_at_ms=FOREVER_MS,
        )
        detail = {} if receives is None else {"receives": receives}
        self._record(row, Event.BURIED, actor=actor, detail=detail, **killed_by.history_fields)

    def _record(self, row: Row, event: Event, *, actor: str = "", **texts: Any) -> None:
        """Add an event to a message's history."""
        self._note(row.id, row.queue, event, actor=actor, **texts)

    def _note(
        self, message_id: str, queue: str, event: Event, *, actor: str = "", **texts: Any
    ) -> None:
        """Add an event to the history of a message, stored or not."""
        at_ms = self._clock.now_ms()
        recorded = HistoryEvent(message_id, queue, event, at_ms, actor, **texts)
        self._tables.add_event(recorded)

    # ---- keys

    def _free_key(self, row: Row) -> None:
        """Drop the record of a message that did not succeed; those deferred behind it are ready."""
        key = row.guarded_key
        record = self._tables.records.get(key) if key else None
        if key is None or record is None or record.status is not RecordStatus.IN_PROGRESS:
            return
        if record.owner == row.receipt:
            del self._tables.records[key]
            self._wake_deferred(key)

    def _wake_deferred(self, key: tuple[str, str]) -> None:
        due_ms = self._clock.now_ms()
        for row in list(self._tables.rows.values()):
            if row.deferred and row.guarded_key == key:
                self._put(row, state=State.READY, deferred=False, delayed_until_ms=due_ms)

    def _completed_by(self, receipt: Receipt, key: str) -> Record | None:
        """Return the record of a key, if this receipt completed it."""
        record = self._tables.records.get((receipt.queue, key))
        if record is None or record.status is not RecordStatus.COMPLETED:
            return None
        return record if record.owner == receipt else None

    # ---- groups

    def _regroup(self, name: str, before: QueueSettings) -> None:
        """Apply a change of settings to the groups of the messages that a queue has already."""
        after, tables = self._queue(name).settings, self._tables
        if after.group_concurrency and self._queue(name).dead_letter_queue is None:
            raise Conflict(f"{name!r} is a dead-letter queue, which has no groups.")
        if before.group_concurrency and not after.group_concurrency:
            groups.unblock(tables, name, self._clock.now_ms())
        elif after.group_concurrency and not before.group_concurrency:
            groups.block(tables, name)
        elif after.group_concurrency:
            groups.cut_debts(tables, name, self._clock.lease_ms())
            if after.group_concurrency < before.group_concurrency:
                groups.block(tables, name)
            self._fill_groups(*tables.in_queue(name))
        had, has = bool(before.group_concurrency), bool(after.group_concurrency)
        if (had, before.priority_aging_ms) != (has, after.priority_aging_ms):
            groups.rank_again(tables, name)

    @contextmanager
    def _filling_later(self) -> Iterator[None]:
        """Fill the groups of messages that change in the block when all have changed.

        One of them may die, and hold a group in which another one has left its place.
        """
        self._changed = changed = list[Row]()
        try:
            yield
        finally:
            self._changed = None
        self._fill_groups(*changed)

    def _fill_groups(self, *changed: Row) -> None:
        """Make messages active in the groups of changed messages, and in those that they hold."""
        if self._changed is not None:
            self._changed += changed
            return
        for row in changed:
            for queue in filter(None, (row.queue, row.source_queue)):
                if row.group is not None and self._queue(queue).settings.group_concurrency:
                    self._fill_group(queue, row.group)

    def _fill_group(self, queue: str, name: str) -> None:
        now_ms, lease_ms = self._clock.now_ms(), self._clock.lease_ms()
        settings = self._queue(queue).settings
        for head in groups.fill(self._tables, queue, name, now_ms, lease_ms):
            turn = self._take_turn(queue)
            self._put(head, rank=groups.rank_of_head(settings, head.draft.priority, turn))

    def _take_turn(self, queue: str) -> int:
        """Return the rank of the heads of this transaction."""
        if queue not in self._turns:
            turn = groups.next_turn(self._tables.turns.get(queue, 0), self._clock.now_ms())
            self._turns[queue] = self._tables.turns[queue] = turn
        return self._turns[queue]

    # ---- time

    def _now(self) -> breaker.Now:
        moment = self._clock.moment()
        return breaker.Now(moment.now_ms, moment.lease_ms)

    def _promote(self, queue: str) -> int:
        """Make due messages ready; return their number."""
        now_ms = self._clock.now_ms()
        waiting = [row for row in self._tables.in_queue(queue) if row.state is State.DELAYED]
        due = [row for row in waiting if row.delayed_until_ms <= now_ms]
        due = sorted(due, key=lambda row: (row.delayed_until_ms, int(row.id)))[:PROMOTE_BATCH]
        for row in due:
            self._put(row, state=State.READY, deferred=False)
        return len(due)

    def _reclaim_expired(self, queue: str) -> int:
        now_ms, rows = self._clock.lease_ms(), self._tables.in_queue(queue)
        expired = [row for row in rows if row.lease and row.lease.until_ms <= now_ms]
        return self._reclaim(expired, Reason.LEASE_EXPIRED, RECLAIM_BATCH)

    def _reclaim(self, rows: Iterable[Row], reason: Reason, limit: int | None = None) -> int:
        """End these leases, the earliest first; return their number."""
        leased = [(row.lease.until_ms, int(row.id), row, row.lease) for row in rows if row.lease]
        chosen = sorted(leased)[:limit]
        for *_, row, lease in chosen:
            if self._queue(row.queue).settings.bury_at:
                self._give_back(row)
                continue
            worker = self._tables.workers.get(lease.owner_id)
            failure = Failure(reason, error_type="", error_message=reason.sentence)
            self._fail(row, failure, worker.name if worker else "", Event.LEASE_EXPIRED)
        return len(chosen)
