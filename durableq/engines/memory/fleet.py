"""Registered workers, and their leases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace

from durableq.engines.memory.base import MemoryBase, operation, query
from durableq.engines.memory.tables import Row
from durableq.model.info import WorkerInfo, WorkerStats, check_owner
from durableq.model.message import Message, Reason
from durableq.store.capabilities import Fleet


class MemoryFleet(MemoryBase, Fleet):
    """Operations of workers and supervisors."""

    @operation
    def register(self, worker: WorkerInfo) -> WorkerInfo:
        """Register a worker."""
        self._last_owner_id += 1
        owner_id, now_ms = self._last_owner_id, self._clock.now_ms()
        registered = replace(worker, owner_id=owner_id, started_at_ms=now_ms, beat_at_ms=now_ms)
        self._tables.workers[owner_id] = registered
        return registered

    @operation
    def beat(
        self,
        owner_id: int,
        stats: WorkerStats | None = None,
        *,
        queues: Sequence[str] | None = None,
    ) -> bool:
        """Record that a worker lives."""
        found = self._tables.workers.get(owner_id)
        if found is None:
            return False
        changes = {} if stats is None else asdict(stats)
        if queues is not None:
            changes["queues"] = tuple(queues)
        self._tables.workers[owner_id] = replace(found, beat_at_ms=self._clock.now_ms(), **changes)
        return True

    @operation
    def drain(self, owner_id: int) -> bool:
        """Ask a worker to end."""
        found = self._tables.workers.get(owner_id)
        if found is not None:
            self._tables.workers[owner_id] = replace(found, draining=True)
        return found is not None

    @operation
    def unregister(self, owner_id: int) -> None:
        """Remove a worker, and reclaim its leases."""
        self.reclaim(owner_id=owner_id)
        self._tables.workers.pop(owner_id, None)

    @query
    def workers(self) -> list[WorkerInfo]:
        """Return the registered workers."""
        return list(self._tables.workers.values())

    @query
    def leases_of(self, owner_id: int) -> list[Message]:
        """Return the messages leased by a worker."""
        rows = self._leased_by(owner_id)
        return [self._as_message(row)._replace(receipt=row.receipt) for row in rows]

    @operation
    def reclaim(self, *, owner_id: int | None = None) -> int:
        """Reclaim expired leases, or all leases of a dead worker."""
        if owner_id is not None:
            return self._reclaim(self._leased_by(owner_id), Reason.WORKER_LOST)
        return sum(self._reclaim_expired(name) for name in sorted(self._tables.queues))

    def _leased_by(self, owner_id: int) -> list[Row]:
        check_owner(owner_id)
        rows = self._tables.rows.values()
        return [row for row in rows if row.lease and row.lease.owner_id == owner_id]
