"""The operations beyond the core: one Protocol per capability, each with its contract tests."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from durableq.model.dead_letters import (
    DeadLetterFilter,
    DeadLetterGroup,
    Recovered,
    RecoveryDecisions,
)
from durableq.model.decisions import Decision, Release
from durableq.model.health import Finding, KeyCounts, MaintenanceReport
from durableq.model.info import Pruned, WorkerInfo, WorkerStats
from durableq.model.message import (
    Completion,
    DeadLetter,
    Draft,
    Failure,
    HistoryEvent,
    IdempotencyRecord,
    Message,
    Outcome,
    Receipt,
)
from durableq.store.control import Control
from durableq.store.endpoint import Endpoint
from durableq.store.inspect import Inspect
from durableq.store.items import Items
from durableq.store.once import Once
from durableq.store.progress import ProgressReports
from durableq.store.redrive import Redrive
from durableq.store.schedules import Schedules

__all__ = [
    "Control",
    "DeadLetters",
    "Endpoint",
    "Fleet",
    "Idempotency",
    "Inspect",
    "Items",
    "Maintenance",
    "Metadata",
    "Once",
    "ProgressReports",
    "Redrive",
    "Schedules",
    "Transaction",
    "Transactions",
]


class Transaction(Protocol):
    """An open transaction that settles some messages.

    After its block, or a statement that ended it, each of its methods raises Conflict.
    """

    def execute(self, statement: Any, parameters: Any = None) -> Any:
        """Run a statement inside it: SQLAlchemy, or SQL text with `:name` parameters.

        Raises:
            Unsupported: the engine has no tables.
        """
        ...

    @property
    def session(self) -> Any:
        """A SQLAlchemy ORM Session inside it, the same at each use, which `settle` flushes.

        It cannot end the transaction, and is closed with it. A flush that fails undoes all of it.

        Raises:
            Unsupported: the engine has no tables.
        """
        ...

    def send(self, queue: str, drafts: Sequence[Draft]) -> list[str]:
        """Send messages that exist only if this transaction commits."""
        ...

    def once_store(self, key: str, token: bytes, value: str, *, ttl_ms: int) -> bool:
        """Store a value as Once.once_store does, if this transaction commits.

        False if the lease is not this one any more: the caller must undo the whole transaction.
        """
        ...

    def settle(
        self,
        completions: Sequence[Completion],
        failures: Sequence[tuple[Receipt, Failure]],
    ) -> None:
        """Settle the messages. Called once, at the end.

        Raises:
            StaleReceipt: one of them is refused; the caller must undo the whole transaction.
        """
        ...


class Transactions(Protocol):
    """Writes that commit together with an acknowledgement or a send."""

    def prepare_transactions(self) -> None:
        """Load what transactions will need, if the application seems to write rows in them.

        A worker calls it before its first message, which would wait for it otherwise.
        """
        ...

    def transaction(
        self, receipts: Sequence[Receipt], *, actor: str = ""
    ) -> AbstractContextManager[Transaction]:
        """Open a transaction that settles these messages; commit at the end, undo on an exception.

        Raises:
            StaleReceipt: at the start or the end; nothing is written.
        """
        ...

    def send(self, queue: str, drafts: Sequence[Draft], *, connection: Any = None) -> list[str]:
        """Store a batch in the caller's own open transaction on the same database.

        Args:
            queue: the target.
            drafts: as for Queueing.send.
            connection: the caller's; None opens a transaction, as Queueing.send does.

        Raises:
            Conflict, Unsupported: the connection cannot carry the batch.
        """
        ...

    def settle_joining(
        self,
        completions: Sequence[Completion],
        failures: Sequence[tuple[Receipt, Failure]],
        *,
        connection: Any,
        actor: str = "",
    ) -> list[Outcome]:
        """Settle as Queueing.settle does, in the caller's own open transaction.

        The receipts of a settlement that is rolled back are as they were.

        Raises:
            Conflict, Unsupported: the connection cannot carry it.
        """
        ...


class Idempotency(Protocol):
    """The idempotency records."""

    def record(self, queue: str, key: str) -> IdempotencyRecord | None:
        """Return the record of a key, unless it has expired."""
        ...

    def records(
        self, queue: str, limit: int, after_key: str | None = None
    ) -> list[IdempotencyRecord]:
        """Return a queue's records in order of key."""
        ...

    def count_records(self, queue: str, limit: int) -> int:
        """Count the records that `records` returns for a queue, at most `limit`.

        Raises:
            UnknownQueue: there is no such queue.
        """
        ...

    def forget(self, queue: str, key: str) -> bool:
        """Drop a completed record, so that the key may succeed again; False if there is none.

        Raises:
            Conflict: the key is in progress.
        """
        ...

    def attach_result(self, receipt: Receipt, key: str, result: str) -> Outcome:
        """Add a result to the record this receipt completed: DONE, or GONE if there is none."""
        ...

    def key_counts(self) -> KeyCounts:
        """Count the idempotency keys of all queues."""
        ...


class DeadLetters(Protocol):
    """Dead letters: their history, and decisions about them."""

    def decide(
        self, decisions: Sequence[tuple[Receipt, Decision | Release]], *, actor: str = ""
    ) -> list[Outcome]:
        """Apply decisions to leased dead letters, with history: DONE, or refused.

        Retry and Requeue move the message to its source queue with a fresh receive_count and
        one more recovery_count. Retry keeps the payload hash of the original, so that a
        duplicate of the original is still recognised after the easier form succeeds.

        Raises:
            Conflict: a receipt is for a message that is not dead.
        """
        ...

    def decide_by_id(
        self, queue: str, ids: Sequence[str], decision: Decision | Release, *, actor: str = ""
    ) -> list[str]:
        """Apply one decision to these dead letters of a queue, held ones too.

        Release makes them ready, so that recovery decides about them, and their retention counts
        from now.

        An interrupted call leaves each of them either decided or as it was, and never leased.

        Returns:
            The ids that were decided; the others are leased, or not there.

        Raises:
            InvalidInput: more than MAX_RECEIVE_BATCH.
        """
        ...

    def lease_dead_letters(
        self,
        queue: str,
        ids: Sequence[str],
        *,
        visibility_ms: int | None = None,
        owner_id: int = 0,
    ) -> list[Message]:
        """Lease these dead letters of a queue, also held and delayed ones, and of a paused queue.

        Args:
            queue: the dead-letter queue.
            ids: at most MAX_RECEIVE_BATCH.
            visibility_ms: as for Queueing.receive.
            owner_id: as for Queueing.receive.

        Returns:
            The dead letters, in order of id; the others are leased, or not there.

        Raises:
            InvalidInput: too many ids.
        """
        ...

    def dead_letter(self, message_id: str) -> DeadLetter | None:
        """Return a message in a dead-letter queue with its history; None if it is not dead."""
        ...

    def dead_letters(
        self,
        wanted: DeadLetterFilter,
        limit: int,
        after_id: str | None = None,
        *,
        newest_first: bool = False,
    ) -> list[DeadLetter]:
        """Return dead letters that match a filter, with their histories, in order of id.

        Args:
            wanted: the filter.
            limit: maximum number of dead letters.
            after_id: the last one of the page before.
            newest_first: in the opposite order, in which `after_id` comes before those returned.

        Raises:
            InvalidInput: `after_id` cannot be the id of a message.
        """
        ...

    def dead_letter_groups(self, queue: str | None = None) -> list[DeadLetterGroup]:
        """Group the dead letters by queue, reason and fingerprint, largest first, then newest.

        Args:
            queue: only those that died here; None means all.

        Raises:
            UnknownQueue: there is no such queue.
        """
        ...

    def history(self, message_id: str) -> list[HistoryEvent]:
        """Return the exceptional events of a message, oldest first; also after it has ended."""
        ...

    def recoveries(self, queue: str, since_ms: int, limit: int) -> list[Recovered]:
        """Return the messages that recovery processes sent back to this queue, newest first.

        Each message occurs once, at the newest time it was sent back.

        Args:
            queue: the queue where they died and to which they were sent back.
            since_ms: wall clock.
            limit: maximum number of messages.
        """
        ...

    def recovery_decisions(self, queue: str, since_ms: int, limit: int) -> RecoveryDecisions:
        """Count the decisions of recovery processes about dead letters of a queue.

        Equal decisions with the same reason are one count. It looks at the newest SEARCHED events
        of the dead-letter queue at most, of persons too.

        Args:
            queue: the queue where the messages died.
            since_ms: wall clock.
            limit: maximum number of counts; the smallest are left out.

        Raises:
            UnknownQueue: there is no such queue.
        """
        ...


class Fleet(Protocol):
    """The registered workers, and their leases."""

    def register(self, worker: WorkerInfo) -> WorkerInfo:
        """Register a worker and return it with its owner id."""
        ...

    def beat(
        self,
        owner_id: int,
        stats: WorkerStats | None = None,
        *,
        queues: Sequence[str] | None = None,
    ) -> bool:
        """Record that a worker lives; False if it is not registered (it was taken for dead).

        Args:
            owner_id: the worker's.
            stats: its state and counts; None leaves the last ones.
            queues: names of the queues it receives from; None leaves the last ones.
        """
        ...

    def drain(self, owner_id: int) -> bool:
        """Ask a worker to finish its messages and end; False if it is not registered.

        Its supervisor reads that within a second, on whatever host it is, and does not replace it.
        """
        ...

    def unregister(self, owner_id: int) -> None:
        """Remove a worker; its leases, if any, are reclaimed as lost."""
        ...

    def workers(self) -> list[WorkerInfo]:
        """Return the registered workers."""
        ...

    def leases_of(self, owner_id: int) -> list[Message]:
        """Return the messages leased by a worker, with their receipts, in order of id.

        Raises:
            InvalidInput: no worker can have this owner id.
        """
        ...

    def reclaim(self, *, owner_id: int | None = None) -> int:
        """Reclaim expired leases of every queue, or all leases of a dead worker.

        Returns:
            The number of leases; of expired ones at most RECLAIM_BATCH per queue.
        """
        ...

    # An engine whose server knows the connections of workers tells more by these. The others leave
    # them: then the processes that can be seen decide, and the ends of leases.

    def ended(self) -> dict[int, bool]:
        """Return the workers whose connection has ended, by owner id.

        Each with whether a supervisor answers for it, which knows its running handlers. A living
        worker may be among them for a moment: it has lost its connection, and takes another.
        """
        return {}

    def answer_for(self, owner_ids: Collection[int]) -> None:
        """Answer, as their supervisor, for these workers of other processes, and no others."""
        return

    def follow(self, owner_id: int | None, on_end: Callable[[], None]) -> None:
        """Call a function, in another thread, when the connection of this worker has ended.

        One worker is followed at a time; None follows none.
        """
        return


class Maintenance(Protocol):
    """Removal of expired rows, and the audit."""

    def prune(self, limit: int = 1000) -> Pruned:
        """Remove expired messages, records and values, and the history of messages that ended
        longer ago than their queue's retention: at most `limit` of each.

        Retention counts from when a message came to its queue, or became due there if that was
        later. A jump of the wall clock expires nothing.
        """
        ...

    def maintain(self, limit: int = 200) -> MaintenanceReport:
        """Run one short slice of maintenance if it is due. Any worker may do it.

        It is due every MAINTENANCE_EVERY_MS, for all processes together; after
        MAINTENANCE_AGAIN_MS if a slice has left something. A slice removes at most `limit` of each
        kind that `prune` removes; it may look at a part of the rows, and continues there the next
        time. It does not wait: while another process writes, it does nothing.
        """
        ...

    def orphans(self) -> list[Finding]:
        """Return the rows that belong to no other row, kind by kind. No operation leaves any."""
        ...


class Metadata(Protocol):
    """Small texts that processes share."""

    def get_metadata(self, name: str) -> str | None:
        """Return the text stored under a name; None if there is none."""
        ...

    def compare_and_set(self, name: str, text: str, *, expected: str | None) -> bool:
        """Store a text under a name if the present one is `expected`.

        Args:
            name: 1 to MAX_METADATA_NAME_CHARS characters.
            text: at most MAX_METADATA_CHARS.
            expected: the present text, None for no text; otherwise nothing is written.

        Returns:
            Whether it was written.

        Raises:
            InvalidInput: a name or a text out of bounds.
        """
        ...
