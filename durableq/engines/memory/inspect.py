"""Reads of the tables, for people and for the other operations."""

from __future__ import annotations

import platform
import threading
from collections.abc import Sequence

from durableq.engines.memory.tables import Queue, Record, Row, Tables
from durableq.model.arguments import check_page_start
from durableq.model.dead_letters import (
    RECOVERY_ACTOR,
    DeadLetterGroup,
    Recovered,
    RecoveredFate,
)
from durableq.model.errors import InvalidInput, UnknownQueue
from durableq.model.health import KeyCounts, Storage
from durableq.model.message import (
    DeadLetter,
    Event,
    HistoryEvent,
    IdempotencyRecord,
    Message,
    Reason,
    Receipt,
    RecordStatus,
    State,
)
from durableq.model.queues import Counts, QueueSettings
from durableq.runtime.clock import Clock, SteadyClock
from durableq.store.core import QueueInfo, WorkerInfo


class MemoryMonitor:
    """The reads of the store, and the helpers of its writes."""

    def __init__(self, clock: Clock) -> None:
        self._clock = SteadyClock(clock)
        self._lock = threading.RLock()
        self._tables = Tables()

    def queues(self) -> list[QueueInfo]:
        """Every queue, by name."""
        with self._lock:
            infos = [self._queue_info(name) for name in sorted(self._tables.queues)]
            return self._clock.shown(infos)

    def queue(self, name: str) -> QueueInfo:
        """One queue."""
        with self._lock:
            return self._clock.shown(self._queue_info(name))

    def settings(self, queue: str) -> QueueSettings:
        """A queue's settings."""
        with self._lock:
            return self._queue(queue).settings

    def message(self, message_id: str) -> Message | None:
        """One message."""
        with self._lock:
            row = self._tables.rows.get(message_id)
            return None if row is None else self._clock.shown(self._as_message(row))

    def peek(self, queue: str, limit: int, after_id: str | None = None) -> list[Message]:
        """Messages of a queue in order of id."""
        with self._lock:
            self._queue(queue)
            after = check_page_start(after_id)
            rows = [row for row in self._tables.in_queue(queue) if int(row.id) > after]
            return self._clock.shown([self._as_message(row) for row in rows[:limit]])

    def history(self, message_id: str) -> list[HistoryEvent]:
        """Return a message's exceptional events."""
        with self._lock:
            return self._clock.shown(list(self._tables.history.get(message_id, ())))

    def dead_letter(self, message_id: str) -> DeadLetter | None:
        """A dead letter with its story."""
        with self._lock:
            row = self._tables.rows.get(message_id)
            return None if row is None else self._clock.shown(self._dead_letter(row))

    def dead_letter_groups(self, queue: str | None = None) -> list[DeadLetterGroup]:
        """Group the dead letters by cause."""
        with self._lock:
            if queue is not None:
                self._queue(queue)
            groups: dict[tuple[str, Reason, str], list[DeadLetter]] = {}
            by_burial = sorted(self._tables.rows.values(), key=lambda row: row.burial)
            for dead_letter in filter(None, map(self._dead_letter, by_burial)):
                if queue in {None, dead_letter.source_queue}:
                    group = dead_letter.source_queue, dead_letter.reason, dead_letter.fingerprint
                    groups.setdefault(group, []).append(dead_letter)
            newest = {row.id: row.burial for row in by_burial}
            found = [_as_group(dead_letters) for dead_letters in groups.values()]
            found.sort(key=lambda group: (-group.count, -newest[group.example_id]))
            return self._clock.shown(found)

    def recoveries(self, queue: str, since_ms: int, limit: int) -> list[Recovered]:
        """Return the messages that recovery processes sent back to this queue."""
        with self._lock:
            dead_letters, since_ms = (
                self._queue(queue).dead_letter_queue,
                self._clock.of_wall(since_ms),
            )
            found = []
            for message_id, events in self._tables.history.items():
                ours = [e for e in events if e.queue == dead_letters and _is_recovery(e)]
                if ours and ours[-1].at_ms >= since_ms:
                    since = events[events.index(ours[-1]) :]
                    found.append(Recovered(message_id, ours[-1].at_ms, self._fate(since)))
            found.sort(key=lambda recovered: (recovered.at_ms, int(recovered.message_id)))
            return self._clock.shown(found[::-1][:limit])

    def get_metadata(self, name: str) -> str | None:
        """Return the text stored under a name."""
        with self._lock:
            return self._tables.notes.get(name)

    def record(self, queue: str, key: str) -> IdempotencyRecord | None:
        """Return the record of a key."""
        with self._lock:
            self._queue(queue)
            found = self._remembered(queue, key)
            return None if found is None else self._clock.shown(_as_record(queue, key, found))

    def records(
        self, queue: str, limit: int, after_key: str | None = None
    ) -> list[IdempotencyRecord]:
        """Return records in order of key."""
        with self._lock:
            self._queue(queue)
            keys = sorted(key for name, key in self._tables.records if name == queue)
            found = [self.record(queue, key) for key in keys if key > (after_key or "")]
            return [record for record in found if record is not None][:limit]

    def workers(self) -> list[WorkerInfo]:
        """The registered workers."""
        with self._lock:
            return self._clock.shown(list(self._tables.workers.values()))

    def key_counts(self) -> KeyCounts:
        """Count the idempotency keys."""
        with self._lock:
            statuses = [record.status for record in self._tables.records.values()]
        completed = statuses.count(RecordStatus.COMPLETED)
        return KeyCounts(len(statuses) - completed, completed)

    def storage(self) -> Storage:
        """Return the storage; its size is not measured."""
        return Storage("memory", platform.python_version(), "none", 0, 0)

    def leases_of(self, owner_id: int) -> list[Message]:
        """Return the messages leased by a worker."""
        start = mark(owner_id)
        with self._lock:
            leased = [row for row in self._tables.rows.values() if row.state is State.IN_FLIGHT]
            held = [row for row in leased if row.token.startswith(start)]
            messages = [self._as_message(r, Receipt(r.queue, r.id, r.token)) for r in held]
            return self._clock.shown(messages)

    def ready_in_ms(self, queues: Sequence[str]) -> int | None:
        """Return the time until a receive on one of these may return a message."""
        with self._lock:
            for name in queues:
                self._queue(name)
            open_ = [name for name in queues if not self._queue(name).settings.paused]
            rows = [row for name in open_ for row in self._tables.in_queue(name)]
            waits_ms = [self._ready_in_ms(row) for row in rows if not row.held]
            return min(waits_ms, default=None)

    # ---- within: dates are in steady time here, and shown by the public methods

    def _queue_info(self, name: str) -> QueueInfo:
        settings, dead_letter_queue, counters = self._queue(name)
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
        return QueueInfo(name, settings, dead_letter_queue, counters, counts, oldest_ms)

    def _dead_letter(self, row: Row) -> DeadLetter | None:
        source = row.source_queue
        return None if source is None else self._as_dead_letter(self._as_message(row), source)

    def _as_dead_letter(self, message: Message, source_queue: str) -> DeadLetter:
        events = self._tables.history.get(message.id, ())
        died = next((event for event in reversed(events) if event.event is Event.BURIED), None)
        return DeadLetter(
            message,
            source_queue,
            # The burial itself may have been crowded out of a very long history.
            Reason(died.reason) if died else Reason.HANDLER_ERROR,
            message.enqueued_at_ms,
            events,
            self._queue(source_queue).settings.max_recoveries,
            died.fingerprint if died else "",
        )

    def _fate(self, since: Sequence[HistoryEvent]) -> RecoveredFate:
        if any(event.event is Event.BURIED for event in since):
            return RecoveredFate.DIED
        there = since[0].message_id in self._tables.rows
        return RecoveredFate.PENDING if there else RecoveredFate.ENDED

    def _ready_in_ms(self, row: Row) -> int:
        if row.state is State.IN_FLIGHT:
            return max(0, row.lease_until_ms - self._clock.lease_ms())
        if row.state is State.READY:
            return 0
        return max(0, row.delayed_until_ms - self._clock.now_ms())

    def _queue(self, name: str) -> Queue:
        if name not in self._tables.queues:
            raise UnknownQueue(name)
        return self._tables.queues[name]

    def _remembered(self, queue: str, key: str) -> Record | None:
        found = self._tables.records.get((queue, key))
        return None if found is None or found.expired(self._clock.now_ms()) else found

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
            delayed_until_ms=row.delayed_until_ms if row.state is State.DELAYED else 0,
            lease_left_ms=max(0, row.lease_until_ms - self._clock.lease_ms()) if leased else 0,
            source_queue=row.source_queue,
            receipt=receipt,
        )


def mark(owner_id: int) -> str:
    """Return the first characters of every token a worker is given."""
    if not 0 < owner_id < 1 << 32:
        raise InvalidInput(f"{owner_id} is not the owner id of a worker, as register() returns it.")
    return f"{owner_id:08x}"


def _is_recovery(event: HistoryEvent) -> bool:
    back = event.event in {Event.RETRIED, Event.REQUEUED}
    return back and event.actor.startswith(RECOVERY_ACTOR)


def _as_group(dead_letters: list[DeadLetter]) -> DeadLetterGroup:
    """Return the group of letters that died in this order."""
    example, died_ms = dead_letters[-1], [dead_letter.died_at_ms for dead_letter in dead_letters]
    burial = example.burial
    return DeadLetterGroup(
        example.source_queue,
        example.reason,
        example.fingerprint,
        burial.error_type if burial else "",
        burial.error_message if burial else "",
        burial.place if burial else "",
        len(dead_letters),
        min(died_ms),
        max(died_ms),
        example.id,
    )


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
