"""Registered workers, and their leases."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import Any, Final

from durableq.engines.sql import queries, reclaiming
from durableq.engines.sql.transactions import Operations, Transaction
from durableq.model.message import Message
from durableq.store.capabilities import Fleet
from durableq.store.core import WorkerInfo, WorkerStats

_STATS: Final = [field.name for field in dataclasses.fields(WorkerStats)]


class SQLFleet(Operations, Fleet):
    """The capability of a fleet, in SQL."""

    def register(self, worker: WorkerInfo) -> WorkerInfo:
        """Register a worker."""
        with self._database.write() as tx:
            return tx.shown(enter(tx, worker))

    def beat(
        self,
        owner_id: int,
        stats: WorkerStats | None = None,
        *,
        queues: Sequence[str] | None = None,
    ) -> bool:
        """Record that a worker lives."""
        with self._database.write() as tx:
            return beat(tx, owner_id, stats, queues)

    def drain(self, owner_id: int) -> bool:
        """Ask a worker to end."""
        with self._database.write() as tx:
            return bool(tx.run(tx.sql.DRAIN, of=owner_id).rowcount)

    def unregister(self, owner_id: int) -> None:
        """Remove a worker, and reclaim its leases."""
        with self._database.write() as tx:
            reclaiming.reclaim_lost(tx, owner_id)
            tx.run(tx.sql.UNREGISTER, of=owner_id)

    def workers(self) -> list[WorkerInfo]:
        """Return the registered workers."""
        with self._database.read() as tx:
            return tx.shown(workers(tx))

    def leases_of(self, owner_id: int) -> list[Message]:
        """Return the messages leased by a worker."""
        with self._database.read() as tx:
            return tx.shown(queries.leased(tx, reclaiming.stored_owner(owner_id)))

    def reclaim(self, *, owner_id: int | None = None) -> int:
        """Reclaim expired leases, or all leases of a dead worker."""
        with self._database.write() as tx:
            if owner_id is not None:
                return reclaiming.reclaim_lost(tx, owner_id)
            rows = [tx.queue_by_id(row[0]) for row in tx.run(tx.sql.QUEUES).fetchall()]
            return sum(reclaiming.reclaim_expired(tx, row) for row in rows)


def enter(tx: Transaction, worker: WorkerInfo) -> WorkerInfo:
    """Enter a worker, and return it with its owner id and its times."""
    entered = dataclasses.replace(worker, started_at_ms=tx.now_ms, beat_at_ms=tx.now_ms)
    owner_id = tx.run(tx.sql.REGISTER, **as_row(entered)).fetchone()[0]
    return dataclasses.replace(entered, owner_id=owner_id)


def as_row(worker: WorkerInfo) -> dict[str, Any]:
    """Return the values of a worker's row by column, without its id."""
    stored = {
        "queues": _as_stored(worker.queues),
        "draining": int(worker.draining),
        "schedules": _as_stored(worker.schedules),
    }
    values = dataclasses.asdict(worker) | stored
    del values["owner_id"]
    return values


def beat(
    tx: Transaction, owner_id: int, stats: WorkerStats | None, queues: Sequence[str] | None
) -> bool:
    """Record that a worker lives; return False if it is not there."""
    if queues is not None:
        tx.run(tx.sql.TELL_QUEUES, of=owner_id, queues=_as_stored(queues))
    if stats is None:
        return bool(tx.run(tx.sql.BEAT, of=owner_id, now_ms=tx.now_ms).rowcount)
    values = dataclasses.asdict(stats)
    return bool(tx.run(tx.sql.BEAT_AND_TELL, of=owner_id, now_ms=tx.now_ms, **values).rowcount)


def workers(tx: Transaction) -> list[WorkerInfo]:
    """Return the registered workers."""
    rows = tx.run(tx.sql.WORKERS).fetchall()
    return [
        WorkerInfo(*(*told, _names(queues), host_id, bool(draining), _names(schedules) or ()))
        for *told, queues, host_id, draining, schedules in rows
    ]


def _names(stored: str) -> tuple[str, ...] | None:
    """Return the names in a JSON array; None for text that is none."""
    try:
        return tuple(json.loads(stored))
    except (ValueError, TypeError):
        return None


def _as_stored(queues: Sequence[str] | None) -> str:
    return "" if queues is None else json.dumps(queues)
