"""Idempotency records."""

from __future__ import annotations

from durableq.engines.memory.base import MemoryBase, operation, query
from durableq.model.errors import Conflict
from durableq.model.health import KeyCounts
from durableq.model.message import IdempotencyRecord, Outcome, Receipt, RecordStatus
from durableq.model.text import shown
from durableq.store.capabilities import Idempotency


class MemoryIdempotency(MemoryBase, Idempotency):
    """Operations on idempotency records."""

    @query
    def record(self, queue: str, key: str) -> IdempotencyRecord | None:
        """Return the record of a key."""
        self._queue(queue)
        found = self._tables.records.get((queue, key))
        if found is None or found.expired(self._clock.now_ms()):
            return None
        return IdempotencyRecord(
            queue=queue,
            key=key,
            status=found.status,
            message_id=found.owner.message_id,
            payload_hash=found.payload_hash,
            result=found.result,
            created_at_ms=found.created_at_ms,
            completed_at_ms=found.completed_at_ms,
            expires_at_ms=found.expires_at_ms,
        )

    @query
    def records(
        self, queue: str, limit: int, after_key: str | None = None
    ) -> list[IdempotencyRecord]:
        """Return records in order of key."""
        self._queue(queue)
        keys = sorted(key for name, key in self._tables.records if name == queue)
        found = [self.record(queue, key) for key in keys if key > (after_key or "")]
        return [record for record in found if record is not None][:limit]

    @query
    def count_records(self, queue: str, limit: int) -> int:
        """Count records, up to a limit."""
        return len(self.records(queue, limit))

    @operation
    def forget(self, queue: str, key: str) -> bool:
        """Drop a completed record."""
        found = self.record(queue, key)
        if found is not None and found.status is RecordStatus.IN_PROGRESS:
            raise Conflict(
                f"Key {shown(key)} of queue {queue!r} is in progress; wait for its message."
            )
        if found is not None:
            del self._tables.records[queue, key]
        return found is not None

    @operation
    def attach_result(self, receipt: Receipt, key: str, result: str) -> Outcome:
        """Add a result to a completed record."""
        record = self._completed_by(receipt, key)
        if record is None:
            return Outcome.GONE
        self._tables.records[receipt.queue, key] = record._replace(result=result)
        return Outcome.DONE

    @query
    def key_counts(self) -> KeyCounts:
        """Count the idempotency keys."""
        statuses = [record.status for record in self._tables.records.values()]
        completed = statuses.count(RecordStatus.COMPLETED)
        return KeyCounts(len(statuses) - completed, completed)
