"""Idempotency records."""

from __future__ import annotations

from typing import Any

from durableq.engines.sql.queries import find_queue
from durableq.engines.sql.settling import fence_of
from durableq.engines.sql.transactions import Operations, row_id
from durableq.model.errors import Conflict
from durableq.model.health import KeyCounts
from durableq.model.message import IdempotencyRecord, Outcome, Receipt, RecordStatus
from durableq.model.text import shown
from durableq.store.capabilities import Idempotency


class SQLIdempotency(Operations, Idempotency):
    """The capability of idempotency, in SQL."""

    def record(self, queue: str, key: str) -> IdempotencyRecord | None:
        """Return the record of a key, unless it has expired."""
        with self._database.read() as tx:
            row = tx.run(tx.sql.RECORD, in_queue=find_queue(tx, queue).id, of_key=key).fetchone()
            if row is None:
                return None
            found = _record(row, queue)
            expired = found.expires_at_ms is not None and found.expires_at_ms <= tx.now_ms
            return None if expired else tx.shown(found)

    def records(
        self, queue: str, limit: int, after_key: str | None = None
    ) -> list[IdempotencyRecord]:
        """Return a queue's records in order of key."""
        with self._database.read() as tx:
            row, after = find_queue(tx, queue), after_key or ""
            found = tx.run(
                tx.sql.RECORDS, in_queue=row.id, after=after, now_ms=tx.now_ms, limit=limit
            )
            return tx.shown([_record(record, queue) for record in found.fetchall()])

    def count_records(self, queue: str, limit: int) -> int:
        """Count a queue's records, up to a limit."""
        with self._database.read() as tx:
            of_queue = {"in_queue": find_queue(tx, queue).id, "now_ms": tx.now_ms}
            (number,) = tx.run(tx.sql.COUNT_RECORDS, limit=limit, **of_queue).fetchone()
            return tx.shown(int(number))

    def forget(self, queue: str, key: str) -> bool:
        """Drop a completed record."""
        with self._database.write() as tx:
            row = tx.queue(queue)
            found = tx.run(tx.sql.RECORD, in_queue=row.id, of_key=key).fetchone()
            if found is not None and found[2] == RecordStatus.IN_PROGRESS:
                raise Conflict(
                    f"Key {shown(key)} of queue {queue!r} is in progress: message {found[3]} "
                    "holds it. Wait until that message is settled."
                )
            dropped = tx.run(tx.sql.DROP_RECORD, in_queue=row.id, of_key=key, now_ms=tx.now_ms)
            return bool(dropped.rowcount)

    def attach_result(self, receipt: Receipt, key: str, result: str) -> Outcome:
        """Add a result to a completed record."""
        with self._database.write() as tx:
            fence = fence_of(tx, receipt.queue, receipt.token)
            if fence is None:
                return Outcome.GONE
            row, token = fence
            attached = tx.run(
                tx.sql.ATTACH_RESULT,
                in_queue=row.id,
                of_key=key,
                of=row_id(receipt.message_id),
                token=token,
                new_result=result,
            )
            return Outcome.DONE if attached.rowcount == 1 else Outcome.GONE

    def key_counts(self) -> KeyCounts:
        """Count the idempotency keys of all queues."""
        with self._database.read() as tx:
            in_progress = tx.run(tx.sql.KEYS_IN_PROGRESS).fetchone()[0]
            return KeyCounts(in_progress, tx.run(tx.sql.KEYS_COMPLETED).fetchone()[0])


def _record(row: tuple[Any, ...], name: str) -> IdempotencyRecord:
    _, key, status, owner, _, payload_hash, result, created, completed, expires = row
    return IdempotencyRecord(
        name,
        key,
        RecordStatus(status),
        str(owner),
        payload_hash,
        result,
        created,
        completed,
        expires,
    )
