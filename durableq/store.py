"""The contract of an engine: what a queue's storage must do, in the verbs of a message's life.

Whoever writes an engine implements Store and Monitor and inherits
`durableq.testing.StoreContract`, which holds each sentence below as a test. Rules for all verbs:

* One verb, one transaction: all of it happens or none.
* A settling verb takes receipts and answers one Outcome for each, in order. A receipt that is
  no longer good is refused (STALE: somebody else has it or it went back; GONE: it has ended) and
  changes nothing; the others go through.
* An unknown queue raises UnknownQueue.
* Waiting for another process ends in Busy; a COMMIT that fails raises OutcomeUnknown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from durableq.books import Counts, Totals
from durableq.message import (
    Completion,
    DeadLetter,
    Draft,
    Failure,
    HistoryEvent,
    IdempotencyRecord,
    Message,
    Outcome,
    Receipt,
    Received,
)
from durableq.settings import QueueSettings
from durableq.verdict import Verdict


@dataclass(frozen=True, slots=True)
class QueueInfo:
    """A queue as it stands."""

    name: str
    settings: QueueSettings
    dead_letter_queue: str | None
    """None for a dead-letter queue itself."""
    totals: Totals
    counts: Counts
    oldest_ready_ms: int | None
    """Wall-clock time the longest-waiting ready message came to the queue."""


@dataclass(frozen=True, slots=True)
class WorkerInfo:
    """A process that receives. `processes.fate` tells whether it lives."""

    name: str
    pid: int
    created_ms: int
    """When it was started: tells it from a later process with the same pid."""
    boot_id: str = ""
    """The boot of the machine it runs in; empty where that has no name."""
    pid_namespace: str = ""
    """Where its pid is its own: another container has other processes under the same pids."""
    holder: int = 0
    """Given by the store: the mark in this worker's receipts."""
    started_at_ms: int = 0
    """Given by the store: wall-clock time it was registered."""
    beat_at_ms: int = 0
    """Given by the store: wall-clock time it last said that it lives."""


@dataclass(frozen=True, slots=True)
class Pruned:
    """What one prune removed."""

    expired: int
    records: int
    history: int


class HasFileno(Protocol):
    """Whatever the system can wait for: a socket, a pipe, a process."""

    def fileno(self) -> int:
        """Its file descriptor."""
        ...


class Watch(Protocol):
    """Tells of writes, by any process, so that whoever has nothing to do can wait for one.

    It belongs to one thread at a time, and is not carried over a fork.
    """

    def wait(self, seconds: float, *others: HasFileno) -> bool:
        """Wait until somebody has written since the last wait, one of the others is readable, or
        the time is over; return whether somebody has written.

        It may be a false alarm; it is never missed: what a write stored can be read from when
        a wait has returned True for it.
        """
        ...

    def close(self) -> None:
        """Watch no longer."""
        ...


class Transaction(Protocol):
    """An open transaction in which some messages are being settled."""

    def execute(self, statement: Any, parameters: Any = None) -> Any:
        """Run a statement inside it: SQLAlchemy, or SQL text with `:name` parameters.

        Raises:
            Unsupported: the engine holds no tables of yours.
        """
        ...

    def send(self, queue: str, drafts: Sequence[Draft]) -> list[str]:
        """Send messages that exist only if this transaction commits."""
        ...

    def settle(
        self,
        completions: Sequence[Completion],
        failures: Sequence[tuple[Receipt, Failure]],
    ) -> None:
        """Say how the messages end. Called once, at the end.

        Raises:
            StaleReceipt: one of them is refused; the whole transaction must be undone.
        """
        ...


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

    def message(self, message_id: str) -> Message | None:
        """One message, wherever it stands; None once it has ended."""
        ...

    def peek(self, queue: str, limit: int, after_id: str | None = None) -> list[Message]:
        """Messages of a queue in order of id, in any state, without receiving them."""
        ...

    def history(self, message_id: str) -> list[HistoryEvent]:
        """The exceptional events of a message, oldest first; also after it has ended."""
        ...

    def dead_letter(self, message_id: str) -> DeadLetter | None:
        """A message in a dead-letter queue with its story; None if it is not dead."""
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

    def held(self, holder: int) -> list[Message]:
        """The messages a worker has leased, with their receipts, in order of id.

        Raises:
            InvalidInput: no worker can have this mark.
        """
        ...

    def ready_in_ms(self, queues: Sequence[str]) -> int | None:
        """In how long a receive on one of these may bring something, as things stand.

        0: one is ready, due, or its lease has ended; else the time to the first that will be.
        None: nothing is in sight. A letter held for a person never is.
        """
        ...


class Store(Monitor, Protocol):
    """A message's life, batch first."""

    def declare_queue(self, name: str, changes: Mapping[str, int]) -> QueueInfo:
        """Make sure a queue (and its dead-letter queue) exists, and change these settings.

        Raises:
            InvalidInput: a bad name, an unknown setting or a value out of bounds.
        """
        ...

    def delete_queue(self, name: str, *, force: bool = False) -> None:
        """Remove a queue, its dead-letter queue, their records and history.

        Raises:
            Conflict: it is a dead-letter queue; or messages are there and `force` is not given.
        """
        ...

    def purge(self, queue: str) -> int:
        """Remove every message of a queue, leased ones too; return how many."""
        ...

    def send(self, queue: str, drafts: Sequence[Draft], *, connection: Any = None) -> list[str]:
        """Store a batch, all or nothing, and return the ids in order.

        Args:
            queue: where to.
            drafts: at most MAX_SEND_BATCH.
            connection: the caller's own open transaction on the same database, to join.

        Raises:
            InvalidBody: one is over the queue's `max_body_bytes`; none is stored.
            Conflict: it is a dead-letter queue: only failed messages come there.
            Unsupported: the connection cannot carry it.
        """
        ...

    def receive(
        self,
        queue: str,
        limit: int,
        *,
        visibility_ms: int | None = None,
        holder: int = 0,
        ids: Iterable[str] | None = None,
    ) -> Received:
        """Lease up to `limit` ready messages: highest priority first, then oldest first.

        On the way, due messages become ready, expired leases are taken back, and `admit` decides
        about each message: a duplicate ends here, a conflict goes to the dead-letter queue, and
        a message whose key is in progress waits, uncounted, until that key is settled.

        Args:
            queue: where from.
            limit: 1 to MAX_RECEIVE_BATCH.
            visibility_ms: the lease's length; None means the queue's.
            holder: the worker's mark, from `register`.
            ids: lease exactly these, delayed and held ones too: for a person's decision.
        """
        ...

    def extend(self, receipts: Sequence[Receipt], visibility_ms: int) -> list[Outcome]:
        """Let these leases end `visibility_ms` from now: DONE, or refused."""
        ...

    def complete(self, completions: Sequence[Completion]) -> list[Outcome]:
        """End these messages in success: DONE, or refused.

        A keyed message's record is completed with the result in the same transaction, and
        messages deferred behind the key become ready. Repeating a completion that names its key
        answers DONE again.
        """
        ...

    def fail(
        self, failures: Sequence[tuple[Receipt, Failure]], *, actor: str = ""
    ) -> list[Outcome]:
        """Record these failures: RETRY, BURIED, or refused; `after_failure` decides."""
        ...

    def release(self, receipts: Sequence[Receipt]) -> list[Outcome]:
        """Give these back, ready at once and uncounted: DONE, or refused."""
        ...

    def decide(
        self, verdicts: Sequence[tuple[Receipt, Verdict]], *, actor: str = ""
    ) -> list[Outcome]:
        """Apply verdicts to leased dead letters, with history: DONE, or refused.

        Retry and Requeue move the message to its source queue with a fresh receive_count and
        one more recovery_count. Retry keeps the payload hash of the original, so that a
        duplicate of the original is still recognised after the easier form succeeds.

        Raises:
            Conflict: a receipt is for a message that is not dead.
        """
        ...

    def attach_result(self, receipt: Receipt, key: str, result: str) -> Outcome:
        """Add a result to the record this receipt completed: DONE, or GONE if there is none."""
        ...

    def transaction(
        self, receipts: Sequence[Receipt], *, actor: str = ""
    ) -> AbstractContextManager[Transaction]:
        """Open a transaction that holds these messages; commit at the end, undo on an exception.

        Raises:
            StaleReceipt: at the start or the end; nothing is written.
        """
        ...

    def reclaim(self, *, holder: int | None = None) -> int:
        """Take back expired leases of every queue, or all leases of a holder known to be dead.

        Returns:
            How many came back; of expired ones at most RECLAIM_BATCH a queue.
        """
        ...

    def forget(self, queue: str, key: str) -> bool:
        """Drop a completed record, so that the key may succeed again; False if there is none.

        Raises:
            Conflict: the key is in progress.
        """
        ...

    def prune(self, limit: int = 1000) -> Pruned:
        """Remove what time has ended, at most `limit` of each kind: expired messages, expired
        records, and history of messages that ended longer ago than their queue's retention.
        """
        ...

    def register(self, worker: WorkerInfo) -> WorkerInfo:
        """Enter a worker and return it with its holder mark."""
        ...

    def beat(self, holder: int) -> bool:
        """Let a worker say that it lives; False if it was taken out: somebody thought it dead."""
        ...

    def unregister(self, holder: int) -> None:
        """Take a worker out; its leases, if any, are taken back as lost."""
        ...

    def watch(self) -> Watch:
        """Begin to watch for writes; close the watch when done."""
        ...

    def close(self) -> None:
        """Close this process's connections."""
        ...


OpenStore = Callable[[str], Store]
