"""What a person may ask of the tables. Nothing here writes."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from durableq.books import Counts
from durableq.clock import Clock
from durableq.engines.memory.tables import Queue, Record, Row, Tables
from durableq.errors import InvalidInput, UnknownQueue
from durableq.message import (
    DeadLetter,
    Event,
    HistoryEvent,
    IdempotencyRecord,
    Message,
    Reason,
    Receipt,
    State,
)
from durableq.store import QueueInfo, WorkerInfo


class MemoryMonitor:
    """The Monitor half of the store."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.RLock()
        self._tables = Tables()

    def queues(self) -> list[QueueInfo]:
        """Every queue, by name."""
        with self._lock:
            return [self.queue(name) for name in sorted(self._tables.queues)]

    def queue(self, name: str) -> QueueInfo:
        """One queue."""
        with self._lock:
            settings, dead_letter_queue, totals = self._queue(name)
            rows = self._tables.in_queue(name)
            states = [row.state for row in rows if not row.held]
            counts = Counts(
                ready=states.count(State.READY),
                delayed=states.count(State.DELAYED),
                in_flight=states.count(State.IN_FLIGHT),
                held=len(rows) - len(states),
            )
            ready = [row.enqueued_at_ms for row in rows if row.state is State.READY]
            oldest_ms = min(ready, default=None)
            return QueueInfo(name, settings, dead_letter_queue, totals, counts, oldest_ms)

    def message(self, message_id: str) -> Message | None:
        """One message."""
        with self._lock:
            row = self._tables.rows.get(message_id)
            return None if row is None else self._as_message(row)

    def peek(self, queue: str, limit: int, after_id: str | None = None) -> list[Message]:
        """Messages of a queue in order of id."""
        with self._lock:
            self._queue(queue)
            after = int(after_id or 0)
            rows = [row for row in self._tables.in_queue(queue) if int(row.id) > after]
            return [self._as_message(row) for row in rows[:limit]]

    def history(self, message_id: str) -> list[HistoryEvent]:
        """A message's exceptional events."""
        with self._lock:
            return list(self._tables.history.get(message_id, ()))

    def dead_letter(self, message_id: str) -> DeadLetter | None:
        """A dead letter with its story."""
        with self._lock:
            found = self.message(message_id)
            if found is None or found.source_queue is None:
                return None
            events = self.history(message_id)
            burials = [event for event in events if event.event is Event.BURIED]
            return DeadLetter(
                found,
                found.source_queue,
                # The burial itself may have been crowded out of a very long history.
                Reason(burials[-1].reason) if burials else Reason.HANDLER_ERROR,
                found.enqueued_at_ms,
                tuple(events),
                self._queue(found.source_queue).settings.max_recoveries,
            )

    def record(self, queue: str, key: str) -> IdempotencyRecord | None:
        """What is remembered of a key."""
        with self._lock:
            self._queue(queue)
            found = self._remembered(queue, key)
            return None if found is None else _as_record(queue, key, found)

    def records(
        self, queue: str, limit: int, after_key: str | None = None
    ) -> list[IdempotencyRecord]:
        """What is remembered, in order of key."""
        with self._lock:
            self._queue(queue)
            keys = sorted(key for name, key in self._tables.records if name == queue)
            found = [self.record(queue, key) for key in keys if key > (after_key or "")]
            return [record for record in found if record is not None][:limit]

    def workers(self) -> list[WorkerInfo]:
        """The registered workers."""
        with self._lock:
            return list(self._tables.workers.values())

    def held(self, holder: int) -> list[Message]:
        """The messages a worker has leased."""
        start = mark(holder)
        with self._lock:
            leased = [row for row in self._tables.rows.values() if row.state is State.IN_FLIGHT]
            held = [row for row in leased if row.token.startswith(start)]
            return [self._as_message(r, Receipt(r.queue, r.id, r.token)) for r in held]

    def ready_in_ms(self, queues: Sequence[str]) -> int | None:
        """In how long a receive on one of these may bring something."""
        with self._lock:
            for name in queues:
                self._queue(name)
            rows = [row for name in queues for row in self._tables.in_queue(name)]
            waits_ms = [self._ready_in_ms(row) for row in rows if not row.held]
            return min(waits_ms, default=None)

    # ---- within

    def _ready_in_ms(self, row: Row) -> int:
        if row.state is State.IN_FLIGHT:
            return max(0, row.lease_until_ms - self._clock.lease_ms())
        return max(0, row.delayed_until_ms - self._clock.wall_ms())

    def _queue(self, name: str) -> Queue:
        if name not in self._tables.queues:
            raise UnknownQueue(name)
        return self._tables.queues[name]

    def _remembered(self, queue: str, key: str) -> Record | None:
        found = self._tables.records.get((queue, key))
        return None if found is None or found.expired(self._clock.wall_ms()) else found

    def _as_message(self, row: Row, receipt: Receipt | None = None) -> Message:
        leased = row.state is State.IN_FLIGHT
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
            delayed_until_ms=row.delayed_until_ms,
            lease_left_ms=max(0, row.lease_until_ms - self._clock.lease_ms()) if leased else 0,
            source_queue=row.source_queue,
            receipt=receipt,
        )


def mark(holder: int) -> str:
    """Return the first characters of every token a worker is given."""
    if not 0 < holder < 1 << 32:
        raise InvalidInput(f"{holder} is not a worker's mark: see Store.register.")
    return f"{holder:08x}"


def _as_record(queue: str, key: str, record: Record) -> IdempotencyRecord:
    return IdempotencyRecord(
        queue=queue,
        key=key,
        status=record.status,
        message_id=record.owner_id,
        payload_hash=record.payload_hash,
        result=record.result,
        created_at_ms=record.created_at_ms,
        completed_at_ms=record.completed_at_ms,
        expires_at_ms=record.expires_at_ms,
    )
