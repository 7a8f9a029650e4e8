"""The store: every capability of the engine."""

from __future__ import annotations

import platform
from dataclasses import replace

from durableq.engines.memory import groups
from durableq.engines.memory.base import operation, query
from durableq.engines.memory.dead_letters import MemoryDeadLetters
from durableq.engines.memory.endpoint import MemoryEndpoint
from durableq.engines.memory.events import MemoryEvents
from durableq.engines.memory.fleet import MemoryFleet
from durableq.engines.memory.idempotency import MemoryIdempotency
from durableq.engines.memory.items import MemoryItems
from durableq.engines.memory.once import MemoryOnce
from durableq.engines.memory.progress import MemoryProgress
from durableq.engines.memory.schedules import MemorySchedules
from durableq.engines.memory.tables import Row
from durableq.engines.memory.transactions import MemoryTransactions
from durableq.model.arguments import check_page_start
from durableq.model.health import Storage
from durableq.model.info import (
    ANYTHING,
    GroupInfo,
    QueueInfo,
    Sample,
    Search,
    SearchPage,
    check_metadata,
)
from durableq.model.limits import SEARCHED
from durableq.model.message import Message, State
from durableq.model.queues import ApproximateCounts
from durableq.store.capabilities import Inspect, Metadata
from durableq.store.core import Capability, Store


class MemoryStore(
    MemoryTransactions,
    MemoryDeadLetters,
    MemoryIdempotency,
    MemoryFleet,
    MemoryOnce,
    MemoryProgress,
    MemorySchedules,
    MemoryItems,
    MemoryEndpoint,
    MemoryEvents,
    Inspect,
    Metadata,
    Store,
):
    """A Store in this process's memory: for tests, for trying out, and as the others' model."""

    scheme = "memory"
    capabilities = frozenset(Capability) - {Capability.REDRIVE, Capability.MAINTENANCE}

    # ---- Inspect

    @query
    def queues(self, *, recount: bool = False, dead_letters: bool = False) -> list[QueueInfo]:
        """Return every queue, by name."""
        infos = [self._queue_info(name) for name in sorted(self._tables.queues)]
        if not dead_letters:
            return infos
        return [replace(info, dead_letters=self._dead_letters_of(info)) for info in infos]

    @query
    def queue(self, name: str) -> QueueInfo:
        """Return one queue."""
        return self._queue_info(name)

    @query
    def approximate_counts(self, queue: str) -> ApproximateCounts:
        """Return the numbers of a queue's messages at this moment, as SQS reports them."""
        self._queue(queue)
        now_ms, lease_ms = self._clock.now_ms(), self._clock.lease_ms()
        rows = self._tables.in_queue(queue)
        in_flight = sum(row.lease is not None and row.lease.until_ms > lease_ms for row in rows)
        waits = {State.DELAYED, State.BLOCKED}
        delayed = sum(row.state in waits and row.delayed_until_ms > now_ms for row in rows)
        return ApproximateCounts(len(rows) - in_flight - delayed, in_flight, delayed)

    @query
    def message(self, message_id: str) -> Message | None:
        """Return one message."""
        row = self._tables.rows.get(message_id)
        return None if row is None else self._as_message(row)

    @query
    def group(self, queue: str, name: str, limit: int = 10) -> GroupInfo:
        """Return the active messages of a group, and its dead letters."""
        self._queue(queue)
        members = groups.members(self._tables, queue, name)
        active = [row for row in members if row.state is not State.BLOCKED]
        rows = sorted(self._tables.rows.values(), key=lambda row: int(row.id))
        dead = [row for row in rows if row.source_queue == queue and row.group == name]
        return GroupInfo(
            *([self._as_message(row) for row in part[:limit]] for part in (active, dead))
        )

    @query
    def peek(self, queue: str, limit: int, after_id: str | None = None) -> list[Message]:
        """Return messages of a queue in order of id."""
        self._queue(queue)
        after = check_page_start(after_id)
        rows = [row for row in self._tables.in_queue(queue) if int(row.id) > after]
        return [self._as_message(row) for row in rows[:limit]]

    @query
    def search(
        self, queue: str, limit: int, wanted: Search = ANYTHING, before_id: str | None = None
    ) -> SearchPage:
        """Return messages of a queue, newest first."""
        before = wanted.check(before_id)
        self._queue(queue)
        older = [row for row in reversed(self._tables.in_queue(queue)) if int(row.id) < before]
        looked_at = older[:SEARCHED]
        found = [self._as_message(row) for row in looked_at if _matches(row, wanted)][:limit]
        if len(found) == limit:
            return SearchPage(found, found[-1].id)
        return SearchPage(found, looked_at[-1].id if len(older) > SEARCHED else None)

    @query
    def samples(self, queue: str, since_ms: int) -> list[Sample]:
        """Return nothing: no maintenance takes samples here."""
        self._queue(queue)
        return []

    def storage(self) -> Storage:
        """Return the storage; its size is not measured."""
        return Storage("memory", platform.python_version(), "none", 0, 0)

    # ---- Metadata

    @query
    def get_metadata(self, name: str) -> str | None:
        """Return the text stored under a name."""
        return self._tables.metadata.get(name)

    @operation
    def compare_and_set(self, name: str, text: str, *, expected: str | None) -> bool:
        """Store a text under a name if the present one is as expected."""
        check_metadata(name, text)
        if self._tables.metadata.get(name) != expected:
            return False
        self._tables.metadata[name] = text
        return True


def _matches(row: Row, wanted: Search) -> bool:
    body = row.draft.body
    return (
        wanted.state in {None, row.state}
        and wanted.key in {None, row.draft.key}
        and (wanted.text is None or (isinstance(body, str) and wanted.text in body))
    )
