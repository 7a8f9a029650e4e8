"""The Monitor half of the store: each question is one short read transaction."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from durableq.clock import Clock
from durableq.engines.sql import (
    examination,
    letters,
    monitor,
    moving,
    orphans,
    receiving,
    timekeeping,
    upkeep,
)
from durableq.engines.sql.sqlite import Database, driver_version
from durableq.engines.sql.surroundings import log_bytes
from durableq.health import Finding, KeyCounts, Storage
from durableq.letters import DeadGroup, Move, Recovered
from durableq.message import DeadLetter, HistoryEvent, IdempotencyRecord, Message
from durableq.settings import QueueSettings
from durableq.steady import SteadyClock
from durableq.store import QueueInfo, WorkerInfo


class SQLMonitor:
    """What a person may ask of a file.

    Args:
        database: the file.
        clock: where the time comes from.
    """

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._machine_clock = clock
        self._clock = SteadyClock(clock)

    def queues(self) -> list[QueueInfo]:
        """Every queue, by name."""
        with self._read() as raw:
            return self._clock.shown(monitor.queues(raw))

    def queue(self, name: str) -> QueueInfo:
        """One queue."""
        with self._read() as raw:
            return self._clock.shown(monitor.queue_info(raw, monitor.find_queue(raw, name)))

    def settings(self, queue: str) -> QueueSettings:
        """A queue's settings."""
        with self._read() as raw:
            return monitor.find_queue(raw, queue).settings

    def message(self, message_id: str) -> Message | None:
        """One message."""
        with self._read() as raw:
            return self._clock.shown(monitor.one_message(raw, self._clock, message_id))

    def peek(self, queue: str, limit: int, after_id: str | None = None) -> list[Message]:
        """Messages of a queue in order of id."""
        with self._read() as raw:
            return self._clock.shown(monitor.peek(raw, self._clock, queue, limit, after_id))

    def history(self, message_id: str) -> list[HistoryEvent]:
        """A message's exceptional events."""
        with self._read() as raw:
            return self._clock.shown(monitor.message_history(raw, message_id))

    def dead_letter(self, message_id: str) -> DeadLetter | None:
        """A dead letter with its story."""
        with self._read() as raw:
            return self._clock.shown(monitor.dead_letter(raw, self._clock, message_id))

    def dead_groups(self, queue: str | None = None) -> list[DeadGroup]:
        """The dead letters by what killed them."""
        with self._read() as raw:
            return self._clock.shown(letters.dead_groups(raw, queue))

    def moves(self) -> list[Move]:
        """The moves, newest first."""
        with self._read() as raw:
            return self._clock.shown(moving.moves(raw))

    def move(self, move_id: str) -> Move:
        """One move."""
        with self._read() as raw:
            return self._clock.shown(moving.find(raw, move_id).move)

    def recoveries(self, queue: str, since_ms: int, limit: int) -> list[Recovered]:
        """What recovery processes sent back to this queue."""
        with self._read() as raw:
            since_ms = self._clock.of_wall(since_ms)
            return self._clock.shown(letters.recoveries(raw, queue, since_ms, limit))

    def recall(self, name: str) -> str | None:
        """What is remembered under a name."""
        with self._read() as raw:
            return upkeep.recall(raw, name)

    def record(self, queue: str, key: str) -> IdempotencyRecord | None:
        """What is remembered of a key."""
        with self._read() as raw:
            return self._clock.shown(monitor.record(raw, self._clock, queue, key))

    def records(
        self, queue: str, limit: int, after_key: str | None = None
    ) -> list[IdempotencyRecord]:
        """What is remembered, in order of key."""
        with self._read() as raw:
            return self._clock.shown(monitor.records(raw, self._clock, queue, limit, after_key))

    def workers(self) -> list[WorkerInfo]:
        """The registered workers."""
        with self._read() as raw:
            return self._clock.shown(monitor.workers(raw))

    def held(self, holder: int) -> list[Message]:
        """The messages a worker has leased."""
        with self._read() as raw:
            return self._clock.shown(monitor.held(raw, self._clock, receiving.mark(holder)))

    def key_counts(self) -> KeyCounts:
        """How many idempotency keys are known."""
        with self._read() as raw:
            return monitor.key_counts(raw)

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
        """What belongs to nothing."""
        with self._read() as raw:
            return orphans.find(raw)

    def examine(self, *, deep: bool = False) -> list[Finding]:
        """Look at the file, its surroundings and who uses it."""
        return examination.examine(self._database.location, self._machine_clock, deep=deep)

    def ready_in_ms(self, queues: Sequence[str]) -> int | None:
        """In how long a receive on one of these may bring something."""
        with self._read() as raw:
            return monitor.ready_in_ms(raw, self._clock, queues)

    @contextmanager
    def _read(self) -> Iterator[Any]:
        """Read one state of the file, in its own time."""
        with self._database.read() as raw:
            timekeeping.follow(raw, self._clock)
            yield raw
