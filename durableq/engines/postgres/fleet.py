"""Registered workers on PostgreSQL: their rows, and the locks that show that they live.

These operations touch one worker's row each, so they do not wait for the lock of the writes: a
beat is not late because another process purges a queue.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Final

from durableq.engines.postgres.end_watch import EndWatch
from durableq.engines.sql import fleet
from durableq.model.info import WorkerInfo, WorkerStats

if TYPE_CHECKING:
    from durableq.engines.postgres.database import Database

#: Time after which a lock that is free means something: after a restart of the server, or the loss
#: of the own connection, all processes take their locks again.
SETTLING_SECONDS: Final = 5.0
#: The workers without their lock, and whether their supervisor has its own.
_ENDED: Final = """\
WITH held AS MATERIALIZED (
  SELECT classid::bigint AS kind, objid::bigint AS worker FROM pg_locks
  WHERE locktype = 'advisory' AND granted AND objsubid = 2
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))
SELECT w.id, EXISTS (SELECT FROM held WHERE kind = $2::bigint AND worker = w.id)
FROM durableq_worker AS w
WHERE clock_timestamp() - pg_postmaster_start_time() > make_interval(secs => $3::double precision)
AND NOT EXISTS (SELECT FROM held WHERE kind = $1::bigint AND worker = w.id)"""
_UNSIGNED: Final = (1 << 32) - 1


class PostgresFleet(fleet.SQLFleet):
    """The capability of a fleet."""

    _database: Database
    _end_watch: EndWatch | None = None

    def register(self, worker: WorkerInfo) -> WorkerInfo:
        """Register a worker, whose lock this process holds from now on."""
        presence = self._database.presence
        if presence is None:
            with self._database.beside() as tx:
                return tx.shown(fleet.enter(tx, worker))
        return presence.register(worker)

    def beat(
        self,
        owner_id: int,
        stats: WorkerStats | None = None,
        *,
        queues: Sequence[str] | None = None,
    ) -> bool:
        """Record that a worker lives; one that others took for dead is entered again."""
        for _ in range(2):
            with self._database.beside() as tx:
                if fleet.beat(tx, owner_id, stats, queues):
                    return True
            presence = self._database.presence
            if presence is None or not presence.enter_again(owner_id):
                return False
        return False

    def unregister(self, owner_id: int) -> None:
        """Remove a worker, and reclaim its leases, if there are any."""
        if self.leases_of(owner_id):
            super().unregister(owner_id)
        else:
            with self._database.beside() as tx:
                tx.run(tx.sql.UNREGISTER, of=owner_id)
        if self._database.presence is not None:
            self._database.presence.leave(owner_id)

    def ended(self) -> dict[int, bool]:
        """Return the workers without a connection, and whether their supervisors have one."""
        presence = self._database.presence
        if presence is None or not presence.lasts(SETTLING_SECONDS):
            return {}
        kinds = self._database.worker_locks, self._database.supervisor_locks
        values = (*(kind & _UNSIGNED for kind in kinds), SETTLING_SECONDS)
        with self._database.read() as tx:
            return dict(tx.execute(self._database.in_schema(_ENDED), values).fetchall())

    def answer_for(self, owner_ids: Collection[int]) -> None:
        """Hold the locks of a supervisor of these workers, and of no others."""
        if self._database.presence is not None:
            self._database.presence.answer_for(owner_ids)

    def follow(self, owner_id: int | None, on_end: Callable[[], None]) -> None:
        """Call a function at the end of this worker's connection."""
        if self._database.presence is None:
            return
        if self._end_watch is None:
            if owner_id is None:
                return
            self._end_watch = EndWatch(self._database, on_end)
        self._end_watch.follow(owner_id)

    def close(self) -> None:
        """Close this process's connections."""
        if self._end_watch is not None:
            self._end_watch.close()
            self._end_watch = None
        self._database.close()
