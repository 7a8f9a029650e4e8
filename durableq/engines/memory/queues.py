"""Queues: created, changed, and as they stand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from durableq.engines.memory import breaker
from durableq.engines.memory.base import operation, query
from durableq.engines.memory.coalescing import MemoryCoalescing
from durableq.engines.memory.tables import Queue, Row
from durableq.model.endpoint import QueueDocument
from durableq.model.errors import UnknownQueue
from durableq.model.flow.info import limits_info
from durableq.model.flow.sending import check_dead_letter_settings
from durableq.model.info import QueueInfo
from durableq.model.message import State
from durableq.model.queues import (
    DEAD_LETTER_QUEUE,
    Changes,
    Counters,
    Counts,
    check_dead_letter_queue,
    check_new_queue_name,
    checked_dead_letter_queue,
    dead_letter_name,
    settings_of_changes,
)
from durableq.model.settings import QueueSettings


def _counts_of(rows: Sequence[Row]) -> Counts:
    """Return the number of messages in each state."""
    states = [row.state for row in rows if not row.held]
    return Counts(
        ready=states.count(State.READY),
        delayed=states.count(State.DELAYED),
        in_flight=states.count(State.IN_FLIGHT),
        held=len(rows) - len(states),
        blocked=states.count(State.BLOCKED),
    )


class MemoryQueues(MemoryCoalescing):
    """The queues of the core."""

    @operation
    def declare_queue(self, name: str, changes: Changes, *, creates: bool = True) -> QueueInfo:
        """Create a queue if it is missing, and change these settings."""
        queues, changed = self._tables.queues, settings_of_changes(changes)
        wanted = checked_dead_letter_queue(changes.get(DEAD_LETTER_QUEUE))
        check_dead_letter_queue(name, wanted)
        is_new = name not in queues
        if is_new and not creates:
            raise UnknownQueue(name)
        if is_new:
            check_new_queue_name(name)
            queues[name] = Queue(QueueSettings(), None, Counters())
            self._add_document(name)
        before = queues[name].settings
        settings = before.changed(changed)
        if is_new or DEAD_LETTER_QUEUE in changes:
            self._point(name, wanted)
        elif queues[name].dead_letter_queue is None:
            check_dead_letter_settings(name, settings)
        queues[name] = queues[name]._replace(settings=settings)
        self._settings_changed(name, before)
        self._regroup(name, before)
        return self._queue_info(name)

    def _add_document(self, name: str) -> None:
        now_ms = self._clock.now_ms()
        self._tables.documents[name] = QueueDocument(name, now_ms, modified_at_ms=now_ms)

    def _point(self, name: str, wanted: str | None) -> None:
        """Let the dead letters of a queue go to another, or to its own."""
        own, queues = dead_letter_name(name), self._tables.queues
        if wanted in {None, own}:
            if own not in queues:
                queues[own] = Queue(QueueSettings(), None, Counters())
                self._add_document(own)
        elif self._queue(wanted or own).dead_letter_queue is None:
            self._point(wanted or own, None)
        queues[name] = queues[name]._replace(dead_letter_queue=wanted or own)

    def _queue_info(self, name: str) -> QueueInfo:
        settings, dead_letter_queue, counters = self._queue(name)
        rows = self._tables.in_queue(name)
        counts = _counts_of(rows)
        ready = [row.enqueued_at_ms for row in rows if row.state is State.READY]
        oldest_ms = min(ready, default=None)
        now_ms = self._clock.lease_ms()
        limits = limits_info(self._flow_state(name), now_ms)
        if settings.breaker:
            limits = limits.with_breaker(breaker.state_of(self._tables, name), now_ms)
        if settings.max_backlog_bytes:
            limits = replace(limits, backlog_bytes=self._backlog(name).body_bytes)
        return QueueInfo(name, settings, dead_letter_queue, counters, counts, oldest_ms, limits)

    def _dead_letters_of(self, info: QueueInfo) -> Counts | None:
        """Return the numbers of a queue's dead letters; None if all that are there are its own."""
        there = info.dead_letter_queue
        if there is None or self._queue(there).dead_letter_queue is None:
            return None
        rows = self._tables.rows.values()
        return _counts_of([row for row in rows if row.source_queue == info.name])

    @query
    def settings(self, queue: str) -> QueueSettings:
        """Return a queue's settings."""
        return self._queue(queue).settings
