"""The contract of an engine, the half that a person asks: nothing here writes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from durableq.model.dead_letters import DeadLetterGroup, Recovered, RedriveTask
from durableq.model.health import Finding, KeyCounts, Storage
from durableq.model.info import QueueInfo, WorkerInfo
from durableq.model.message import DeadLetter, HistoryEvent, IdempotencyRecord, Message
from durableq.model.queues import QueueSettings


class Monitor(Protocol):
    """What a person may ask. Nothing here writes."""

    def queues(self) -> list[QueueInfo]:
        """Every queue, by name."""
        ...

    def queue(self, name: str) -> QueueInfo:
        """One queue.

        Raises:
            UnknownQueue: there is none.
        """
        ...

    def settings(self, queue: str) -> QueueSettings:
        """A queue's settings, for less than `queue`, which counts what is in it.

        Raises:
            UnknownQueue: there is none.
        """
        ...

    def message(self, message_id: str) -> Message | None:
        """One message, wherever it stands; None once it has ended."""
        ...

    def peek(self, queue: str, limit: int, after_id: str | None = None) -> list[Message]:
        """Messages of a queue in order of id, in any state, without receiving them.

        Raises:
            UnknownQueue: there is no such queue.
            InvalidInput: `after_id` cannot be the id of a message.
        """
        ...

    def history(self, message_id: str) -> list[HistoryEvent]:
        """The exceptional events of a message, oldest first; also after it has ended."""
        ...

    def dead_letter(self, message_id: str) -> DeadLetter | None:
        """A message in a dead-letter queue with its story; None if it is not dead."""
        ...

    def dead_letter_groups(self, queue: str | None = None) -> list[DeadLetterGroup]:
        """The dead letters by queue, reason and fingerprint, most numerous first, then newest.

        Args:
            queue: only of those that died here; None means all.

        Raises:
            UnknownQueue: there is none of this name.
        """
        ...

    def moves(self) -> list[RedriveTask]:
        """The moves that run, and the newest that have ended; newest first."""
        ...

    def move(self, task_id: str) -> RedriveTask:
        """One move.

        Raises:
            NotFound: there is none.
        """
        ...

    def recoveries(self, queue: str, since_ms: int, limit: int) -> list[Recovered]:
        """What recovery processes sent back to this queue since then, newest first.

        A message is told once, by the newest time it was sent back.

        Args:
            queue: where the letters had died, and were sent back to.
            since_ms: wall clock.
            limit: how many at most.
        """
        ...

    def get_metadata(self, name: str) -> str | None:
        """The text that is remembered under a name; None if there is none."""
        ...

    def record(self, queue: str, key: str) -> IdempotencyRecord | None:
        """What is remembered of a key; an expired record is not."""
        ...

    def records(
        self, queue: str, limit: int, after_key: str | None = None
    ) -> list[IdempotencyRecord]:
        """What is remembered, in order of key."""
        ...

    def workers(self) -> list[WorkerInfo]:
        """The processes registered as receiving."""
        ...

    def held(self, owner_id: int) -> list[Message]:
        """The messages a worker has leased, with their receipts, in order of id.

        Raises:
            InvalidInput: no worker can have this mark.
        """
        ...

    def key_counts(self) -> KeyCounts:
        """How many idempotency keys are known, of all queues."""
        ...

    def storage(self) -> Storage:
        """Where everything is kept, and how large that is."""
        ...

    def orphans(self) -> list[Finding]:
        """What belongs to nothing, kind by kind: no verb leaves any, and no verb would find it."""
        ...

    def examine(self, *, deep: bool = False) -> list[Finding]:
        """How the storage is: each thing that was looked at, and what to do where it is not well.

        Args:
            deep: compare everything with everything, however long it takes.
        """
        ...

    def ready_in_ms(self, queues: Sequence[str]) -> int | None:
        """In how long a receive on one of these may bring something, as things stand.

        0: one is ready, due, or its lease has ended; else the time to the first that will be.
        None: nothing is in sight. A letter held for a person never is, nor a paused queue's.
        """
        ...
