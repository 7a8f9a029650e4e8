"""The store: every capability of the engine."""

from __future__ import annotations

import platform

from durableq.engines.memory.base import operation, query
from durableq.engines.memory.dead_letters import MemoryDeadLetters
from durableq.engines.memory.fleet import MemoryFleet
from durableq.engines.memory.idempotency import MemoryIdempotency
from durableq.engines.memory.transactions import MemoryTransactions
from durableq.model.arguments import check_page_start
from durableq.model.errors import Conflict
from durableq.model.health import Storage
from durableq.model.info import QueueInfo, check_metadata, metadata_suffix
from durableq.model.message import Message
from durableq.store.capabilities import Control, Inspect, Metadata
from durableq.store.core import Capability, Store


class MemoryStore(
    MemoryTransactions,
    MemoryDeadLetters,
    MemoryIdempotency,
    MemoryFleet,
    Inspect,
    Control,
    Metadata,
    Store,
):
    """A Store in this process's memory: for tests, for trying out, and as the others' model."""

    scheme = "memory"
    capabilities = frozenset(Capability) - {Capability.REDRIVE, Capability.MAINTENANCE}

    # ---- Inspect

    @query
    def queues(self, *, recount: bool = False) -> list[QueueInfo]:
        """Return every queue, by name."""
        return [self._queue_info(name) for name in sorted(self._tables.queues)]

    @query
    def queue(self, name: str) -> QueueInfo:
        """Return one queue."""
        return self._queue_info(name)

    @query
    def message(self, message_id: str) -> Message | None:
        """Return one message."""
        row = self._tables.rows.get(message_id)
        return None if row is None else self._as_message(row)

    @query
    def peek(self, queue: str, limit: int, after_id: str | None = None) -> list[Message]:
        """Return messages of a queue in order of id."""
        self._queue(queue)
        after = check_page_start(after_id)
        rows = [row for row in self._tables.in_queue(queue) if int(row.id) > after]
        return [self._as_message(row) for row in rows[:limit]]

    def storage(self) -> Storage:
        """Return the storage; its size is not measured."""
        return Storage("memory", platform.python_version(), "none", 0, 0)

    # ---- Control

    @operation
    def purge(self, queue: str) -> int:
        """Remove every message of a queue."""
        self._queue(queue)
        removed = self._tables.in_queue(queue)
        for row in removed:
            self._end(row, "purged")
            self._free_key(row)
        return len(removed)

    @operation
    def delete_queue(self, name: str, *, force: bool = False) -> None:
        """Remove a queue and its dead-letter queue."""
        dead_letter_queue = self._queue(name).dead_letter_queue
        if dead_letter_queue is None:
            raise Conflict(f"{name!r} is a dead-letter queue: it goes with the queue it serves.")
        both, tables = {name, dead_letter_queue}, self._tables
        if not force and any(row.queue in both for row in tables.rows.values()):
            raise Conflict(f"Queue {name!r} still holds messages. Purge it first, or force it.")
        tables.queues = {n: queue for n, queue in tables.queues.items() if n not in both}
        tables.rows = {n: row for n, row in tables.rows.items() if row.queue not in both}
        tables.records = {at: record for at, record in tables.records.items() if at[0] not in both}
        tables.history = {
            n: tuple(event for event in events if event.queue not in both)
            for n, events in tables.history.items()
        }
        suffixes = tuple(map(metadata_suffix, both))
        tables.metadata = {n: t for n, t in tables.metadata.items() if not n.endswith(suffixes)}

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
