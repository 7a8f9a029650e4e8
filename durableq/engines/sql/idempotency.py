"""Idempotency records."""

from __future__ import annotations

from typing import Any

from sqlalchemy import case, delete, func, select, true

from durableq.engines.sql import statements as sql
from durableq.engines.sql.dialect import Statement
from durableq.engines.sql.queries import find_queue
from durableq.engines.sql.settling import fence_of
from durableq.engines.sql.statements import parameter, status_is
from durableq.engines.sql.tables import idempotency, is_state, message
from durableq.engines.sql.transactions import Operations, row_id
from durableq.model.errors import Conflict
from durableq.model.health import KeyCounts
from durableq.model.message import IdempotencyRecord, Outcome, Receipt, RecordStatus, State
from durableq.model.text import shown
from durableq.store.capabilities import Idempotency

_p, _m, _r = parameter, message.c, idempotency.c

_KEYS_COMPLETED = Statement(
    select(func.count()).select_from(idempotency).where(status_is(RecordStatus.COMPLETED))
)
#: A key is in progress while its message is in flight: few rows, where records are many.
_KEYS_IN_PROGRESS = Statement(
    select(func.count()).where(
        is_state(State.IN_FLIGHT), _m.key.is_not(None), _m.source_queue_id.is_(None)
    )
)
_live = case((_r.status == 1, _r.expires_at_ms > _p("now_ms")), else_=true())
_RECORDS = Statement(
    select(idempotency)
    .where(_r.queue_id == _p("in_queue"), _r.key > _p("after"), _live)
    .order_by(_r.key)
    .limit(_p("limit"))
)
_DROP_RECORD = Statement(
    delete(idempotency).where(
        _r.queue_id == parameter("in_queue"),
        _r.key == parameter("of_key"),
        status_is(RecordStatus.COMPLETED),
        _r.expires_at_ms > parameter("now_ms"),
    )
)


class SQLIdempotency(Operations, Idempotency):
    """The capability of idempotency, in SQL."""

    def record(self, queue: str, key: str) -> IdempotencyRecord | None:
        """Return the record of a key, unless it has expired."""
        with self._database.read() as tx:
            row = tx.run(sql.RECORD, in_queue=find_queue(tx, queue).id, of_key=key).fetchone()
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
            found = tx.run(_RECORDS, in_queue=row.id, after=after, now_ms=tx.now_ms, limit=limit)
            return tx.shown([_record(record, queue) for record in found.fetchall()])

    def forget(self, queue: str, key: str) -> bool:
        """Drop a completed record."""
        with self._database.write() as tx:
            row = tx.queue(queue)
            found = tx.run(sql.RECORD, in_queue=row.id, of_key=key).fetchone()
            if found is not None and found[2] == RecordStatus.IN_PROGRESS:
                raise Conflict(
                    f"Key {shown(key)} of queue {queue!r} is in progress: message {found[3]} "
                    "holds it. Wait until that message is settled."
                )
            dropped = tx.run(_DROP_RECORD, in_queue=row.id, of_key=key, now_ms=tx.now_ms)
            return bool(dropped.rowcount)

    def attach_result(self, receipt: Receipt, key: str, result: str) -> Outcome:
        """Add a result to a completed record."""
        with self._database.write() as tx:
            fence = fence_of(tx, receipt.queue, receipt.token)
            if fence is None:
                return Outcome.GONE
            row, token = fence
            attached = tx.run(
                sql.ATTACH_RESULT,
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
            in_progress = tx.run(_KEYS_IN_PROGRESS).fetchone()[0]
            return KeyCounts(in_progress, tx.run(_KEYS_COMPLETED).fetchone()[0])


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
