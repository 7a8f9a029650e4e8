"""The reads of the store: each question is one short read transaction."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from durableq.engines.sql import (
    dead_letters,
    orphans,
    queries,
    receiving,
    redrive,
    steady_time,
    upkeep,
)
from durableq.engines.sql.transactions import Transaction
from durableq.engines.sqlite.database import Database, driver_version
from durableq.engines.sqlite.location import log_bytes
from durableq.model.dead_letters import DeadLetterGroup, Recovered, RedriveTask
from durableq.model.health import Finding, KeyCounts, Storage
from durableq.model.message import DeadLetter, HistoryEvent, IdempotencyRecord, Message
from durableq.model.queues import QueueSettings
from durableq.runtime.clock import Clock
from durableq.runtime.steady_clock import SteadyClock
from durableq.store.core import QueueInfo, WorkerInfo


class SQLMonitor:
    """The Inspect capability of a file.

    Args:
        database: the file.
        clock: the source of the time.
    """

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = SteadyClock(clock)

    def queues(self) -> list[QueueInfo]:
        """Every queue, by name."""
        with self._read() as tx:
            return self._clock.shown(queries.queues(tx))

    def queue(self, name: str) -> QueueInfo:
        """One queue."""
        with self._read() as tx:
            return self._clock.shown(queries.queue_info(tx, queries.find_queue(tx, name)))

    def settings(self, queue: str) -> QueueSettings:
        """A queue's settings."""
        with self._read() as tx:
            return queries.find_queue(tx, queue).settings

    def message(self, message_id: str) -> Message | None:
        """One message."""
        with self._read() as tx:
            return self._clock.shown(queries.one_message(tx, self._clock, message_id))

    def peek(self, queue: str, limit: int, after_id: str | None = None) -> list[Message]:
        """Messages of a queue in order of id."""
        with self._read() as tx:
            return self._clock.shown(queries.peek(tx, self._clock, queue, limit, after_id))

    def history(self, message_id: str) -> list[HistoryEvent]:
        """A message's exceptional events."""
        with self._read() as tx:
            return self._clock.shown(queries.message_history(tx, message_id))

    def dead_letter(self, message_id: str) -> DeadLetter | None:
        """A dead letter with its story."""
        with self._read() as tx:
            return self._clock.shown(queries.dead_letter(tx, self._clock, message_id))

    def dead_letter_groups(self, queue: str | None = None) -> list[DeadLetterGroup]:
        """The dead letters, grouped by their last failure."""
        with self._read() as tx:
            return self._clock.shown(dead_letters.dead_letter_groups(tx, queue))

    def redrive_tasks(self) -> list[RedriveTask]:
        """The moves, newest first."""
        with self._read() as tx:
            return self._clock.shown(redrive.moves(tx))

    def redrive_task(self, task_id: str) -> RedriveTask:
        """One move."""
        with self._read() as tx:
            return self._clock.shown(redrive.find(tx, task_id).move)

    def recoveries(self, queue: str, since_ms: int, limit: int) -> list[Recovered]:
        """The messages that recovery processes sent back to this queue."""
        with self._read() as tx:
            since_ms = self._clock.of_wall(since_ms)
            return self._clock.shown(dead_letters.recoveries(tx, queue, since_ms, limit))

    def get_metadata(self, name: str) -> str | None:
        """The metadata entry of a name."""
        with self._read() as tx:
            return upkeep.get_metadata(tx, name)

    def record(self, queue: str, key: str) -> IdempotencyRecord | None:
        """The idempotency record of a key."""
        with self._read() as tx:
            return self._clock.shown(queries.record(tx, self._clock, queue, key))

    def records(
        self, queue: str, limit: int, after_key: str | None = None
    ) -> list[IdempotencyRecord]:
        """The idempotency records of a queue, in order of key."""
        with self._read() as tx:
            return self._clock.shown(queries.records(tx, self._clock, queue, limit, after_key))

    def workers(self) -> list[WorkerInfo]:
        """The registered workers."""
        with self._read() as tx:
            return self._clock.shown(queries.workers(tx))

    def leases_of(self, owner_id: int) -> list[Message]:
        """The messages a worker has leased."""
        with self._read() as tx:
            return self._clock.shown(
                queries.leased(tx, self._clock, receiving.owner_prefix_of(owner_id))
            )

    def key_counts(self) -> KeyCounts:
        """How many idempotency keys are known."""
        with self._read() as tx:
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
        with self._read() as tx:
            return orphans.find(tx)

    def ready_in_ms(self, queues: Sequence[str]) -> int | None:
        """In how long a receive on one of these may bring something."""
        with self._read() as tx:
            return queries.ready_in_ms(tx, self._clock, queues)

    @contextmanager
    def _read(self) -> Iterator[Transaction]:
        """Read one state of the file, in its own time."""
        with self._database.read() as tx:
            steady_time.follow(tx, self._clock)
            yield tx
