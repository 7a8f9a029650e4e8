"""Single messages, and whole queues."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from durableq.engines.memory import breaker
from durableq.engines.memory.base import operation, query
from durableq.engines.memory.queueing import MemoryQueueing
from durableq.engines.memory.tables import Row
from durableq.model import lifecycle
from durableq.model.control import check_ids, check_note
from durableq.model.errors import Conflict
from durableq.model.flow.queue_breaker import by_hand
from durableq.model.info import BreakerInfo, metadata_suffix, no_breaker
from durableq.model.message import Event, Refusal, State
from durableq.model.queues import dead_letter_name, still_served
from durableq.model.units import due_ms
from durableq.store.capabilities import Control


class MemoryControl(MemoryQueueing, Control):
    """Operations on single messages, and on whole queues."""

    @operation
    def cancel(
        self, ids: Sequence[str], *, queue: str | None = None, actor: str = "", note: str = ""
    ) -> list[Refusal | None]:
        """Remove messages that are ready or delayed."""

        def step(row: Row) -> None:
            self._record(row, Event.CANCELLED, actor=actor, reason=note)
            self._end(row, "cancelled")

        check_ids(ids)
        check_note(note)
        return self._control(ids, queue, None, step)

    @operation
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
        moment = self._clock.moment()
        wall_ms = moment.now_ms + moment.offset_ms
        until_ms = due_ms(delay_ms, at_ms, wall_ms) - moment.offset_ms
        step = partial(self._reschedule, until_ms=until_ms, actor=actor, note=note)
        return self._control(ids, queue, until_ms, step)

    def _reschedule(self, row: Row, until_ms: int, actor: str, note: str) -> None:
        wait_ms = max(0, until_ms - self._clock.now_ms())
        if row.state is State.READY and not wait_ms:
            return
        detail = {"delay_ms": wait_ms}
        self._record(row, Event.RESCHEDULED, actor=actor, reason=note, detail=detail)
        state = State.DELAYED if wait_ms else State.READY
        due_at_ms = self._clock.now_ms() + wait_ms
        self._put(row, state=state, deferred=False, delayed_until_ms=due_at_ms)

    def _control(
        self,
        ids: Sequence[str],
        queue: str | None,
        until_ms: int | None,
        step: Callable[[Row], None],
    ) -> list[Refusal | None]:
        """Apply a step to the messages that are not refused, and return the refusals."""
        if queue is not None:
            self._queue(queue)
        rows = [self._tables.rows[one] for one in ids if one in self._tables.rows]
        now_ms = self._clock.lease_ms()
        ended = (
            row.queue
            for row in rows
            if row.source_queue is None and row.lease and row.lease.until_ms <= now_ms
        )
        for name in dict.fromkeys(ended):
            self._reclaim_expired(name)
        refusals = {one: self._change(one, queue, until_ms, step) for one in dict.fromkeys(ids)}
        return [refusals[one] for one in ids]

    def _change(
        self, one: str, queue: str | None, until_ms: int | None, step: Callable[[Row], None]
    ) -> Refusal | None:
        row = self._tables.rows.get(one)
        if row is None:
            return Refusal.UNKNOWN
        if queue is not None and queue not in {row.queue, row.source_queue}:
            return Refusal.ELSEWHERE
        now_ms = self._clock.now_ms()
        becomes_ready = until_ms is not None and until_ms <= now_ms
        refused = lifecycle.refusal(
            row.state,
            row.delayed_until_ms,
            is_dead=row.source_queue is not None,
            is_behind_key=becomes_ready and row.deferred and row.delayed_until_ms > now_ms,
            is_cancelled=until_ms is None,
            is_too_late=until_ms is not None and max(until_ms, now_ms) >= row.expires_at_ms,
        )
        if refused is None:
            step(row)
        return refused

    @query
    def breaker(self, queue: str) -> BreakerInfo:
        """Return the circuit breaker of a queue."""
        settings, tables = self._queue(queue).settings, self._tables
        return BreakerInfo.of(
            queue,
            breaker.state_of(tables, queue),
            self._clock.lease_ms(),
            tables.history.get(breaker.subject(queue), ()),
            is_on=bool(settings.breaker),
        )

    @operation
    def set_breaker(
        self, queue: str, *, is_open: bool, open_ms: int | None = None, actor: str = ""
    ) -> BreakerInfo:
        """Open or close the circuit breaker of a queue."""
        settings, now = self._queue(queue).settings, self._now()
        if not settings.breaker:
            raise no_breaker(queue)
        state = breaker.state_of(self._tables, queue)
        at = breaker.at(self._tables, queue, now, self._rng())
        state = by_hand(state, at, settings, actor, open_ms, is_open=is_open)
        breaker.save(self._tables, queue, state, now, actor)
        return self.breaker(queue)

    @operation
    def purge(self, queue: str) -> int:
        """Remove every message of a queue."""
        self._queue(queue)
        removed = self._tables.in_queue(queue)
        for row in removed:
            self._end(row, "purged")
            self._free_key(row)
        sent = self._tables.sent.items()
        self._tables.sent = {at: known for at, known in sent if at[0] != queue}
        return len(removed)

    @operation
    def delete_queue(self, name: str, *, force: bool = False) -> None:
        """Remove a queue and its dead-letter queue."""
        tables, own = self._tables, dead_letter_name(name)
        if self._queue(name).dead_letter_queue is None:
            raise Conflict(f"{name!r} is a dead-letter queue: it goes with the queue it serves.")
        is_private = own in tables.queues and tables.queues[own].dead_letter_queue is None
        both = {name, own} if is_private else {name}
        served = [n for n in sorted(tables.queues) if tables.queues[n].dead_letter_queue == name]
        if served and not force:
            raise still_served(name, served)
        if not force and any(row.queue in both for row in tables.rows.values()):
            raise Conflict(f"Queue {name!r} still holds messages. Purge it first, or force it.")
        gone = [row for row in tables.rows.values() if row.queue in both]
        for row in tables.rows.copy().values():
            if row.source_queue in both:
                self._put(row, source_queue=None, killed_by=None)
        tables.flow = {n: flow for n, flow in tables.flow.items() if n not in both}
        tables.turns = {n: turn for n, turn in tables.turns.items() if n not in both}
        tables.group_tats = {at: tat for at, tat in tables.group_tats.items() if at[0] not in both}
        tables.queues = {n: queue for n, queue in tables.queues.items() if n not in both}
        tables.rows = {n: row for n, row in tables.rows.items() if row.queue not in both}
        tables.sent = {at: known for at, known in tables.sent.items() if at[0] not in both}
        tables.records = {at: record for at, record in tables.records.items() if at[0] not in both}
        tables.drop_events(both)
        tables.breakers = {n: one for n, one in tables.breakers.items() if n not in both}
        tables.failures = {of: one for of, one in tables.failures.items() if of[0] not in both}
        tables.schedules = {n: one for n, one in tables.schedules.items() if one[0].queue != name}
        tables.documents = {n: one for n, one in tables.documents.items() if n not in both}
        tables.attempts = {of: one for of, one in tables.attempts.items() if of[0] not in both}
        suffixes = tuple(map(metadata_suffix, both))
        tables.metadata = {n: t for n, t in tables.metadata.items() if not n.endswith(suffixes)}
        for other in served:
            self._point(other, None)
        for row in gone:
            if row.source_queue in tables.queues:
                self._fill_groups(row._replace(queue=row.source_queue or ""))
