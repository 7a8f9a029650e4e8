"""The reads of the store: each question is one short read transaction."""

from __future__ import annotations

from collections.abc import Sequence

from durableq.engines.sql import (
    dead_letters,
    orphans,
    queries,
    receiving,
    redrive,
    upkeep,
)
from durableq.engines.sqlite.database import Database, driver_version
from durableq.engines.sqlite.location import log_bytes
from durableq.model.dead_letters import DeadLetterGroup, Recovered, RedriveTask
from durableq.model.health import Finding, KeyCounts, Storage
from durableq.model.message import DeadLetter, HistoryEvent, IdempotencyRecord, Message
from durableq.model.queues import QueueSettings
from durableq.store.core import QueueInfo, WorkerInfo


class SQLMonitor:
    """The Inspect capability of a file.

    Args:
        database: the file.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def queues(self) -> list[QueueInfo]:
        """Every queue, by name."""
        with self._database.read() as tx:
            return tx.shown(queries.queues(tx))

    def queue(self, name: str) -> QueueInfo:
        """One queue."""
        with self._database.read() as tx:
            return tx.shown(queries.queue_info(tx, queries.find_queue(tx, name)))

    def settings(self, queue: str) -> QueueSettings:
        """A queue's settings."""
        with self._database.read() as tx:
            return queries.find_queue(tx, queue).settings

    def message(self, message_id: str) -> Message | None:
        """One message."""
        with self._database.read() as tx:
            return tx.shown(queries.one_message(tx, message_id))

    def peek(self, queue: str, limit: int, after_id: str | None = None) -> list[Message]:
        """Messages of a queue in order of id."""
        with self._database.read() as tx:
            return tx.shown(queries.peek(tx, queue, limit, after_id))

    def history(self, message_id: str) -> list[HistoryEvent]:
        """A message's exceptional events."""
        with self._database.read() as tx:
            return tx.shown(queries.message_history(tx, message_id))

    def dead_letter(self, message_id: str) -> DeadLetter | None:
        """A dead letter with its story."""
        with self._database.read() as tx:
            return tx.shown(queries.dead_letter(tx, message_id))

    def dead_letter_groups(self, queue: str | None = None) -> list[DeadLetterGroup]:
        """The dead letters, grouped by their last failure."""
        with self._database.read() as tx:
            return tx.shown(dead_letters.dead_letter_groups(tx, queue))

    def redrive_tasks(self) -> list[RedriveTask]:
        """The redrive tasks, newest first."""
        with self._database.read() as tx:
            return tx.shown(redrive.redrive_tasks(tx))

    def redrive_task(self, task_id: str) -> RedriveTask:
        """One redrive task."""
        with self._database.read() as tx:
            return tx.shown(redrive.find(tx, task_id).task)

    def recoveries(self, queue: str, since_ms: int, limit: int) -> list[Recovered]:
        """The messages that recovery processes sent back to this queue."""
        with self._database.read() as tx:
            since_ms -= tx.offset_ms
            return tx.shown(dead_letters.recoveries(tx, queue, since_ms, limit))

    def get_metadata(self, name: str) -> str | None:
        """The metadata entry of a name."""
        with self._database.read() as tx:
            return upkeep.get_metadata(tx, name)

    def record(self, queue: str, key: str) -> IdempotencyRecord | None:
        """The idempotency record of a key."""
        with self._database.read() as tx:
            return tx.shown(queries.record(tx, queue, key))

    def records(
        self, queue: str, limit: int, after_key: str | None = None
    ) -> list[IdempotencyRecord]:
        """The idempotency records of a queue, in order of key."""
        with self._database.read() as tx:
            return tx.shown(queries.records(tx, queue, limit, after_key))

    def workers(self) -> list[WorkerInfo]:
        """The registered workers."""
        with self._database.read() as tx:
            return tx.shown(queries.workers(tx))

    def leases_of(self, owner_id: int) -> list[Message]:
        """The messages a worker has leased."""
        with self._database.read() as tx:
            return tx.shown(queries.leased(tx, receiving.stored_owner(owner_id)))

    def key_counts(self) -> KeyCounts:
        """How many idempotency keys are known."""
        with self._database.read() as tx:
            return queries.key_counts(tx)

    def storage(self) -> Storage:
        """The file and its log."""
        location = self._database.location
        return Storage(
            "sqlite",
            driver_version(),
            location.synchronous,
            location.path.stat().st_size,
            log_bytes(location),
        )

    def orphans(self) -> list[Finding]:
        """The rows that refer to no queue or message."""
        with self._database.read() as tx:
            return orphans.find(tx)

    def ready_in_ms(self, queues: Sequence[str]) -> int | None:
        """In how long a receive on one of these may bring something."""
        with self._database.read() as tx:
            return queries.ready_in_ms(tx, queues)
