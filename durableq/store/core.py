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
from typing import Any, Final, Protocol

from durableq.model.dead_letters import DeadLetterFilter, RedriveTask
from durableq.model.decisions import Decision, Discard, Requeue
from durableq.model.health import MaintenanceReport
from durableq.model.info import Pruned, QueueInfo, WorkerInfo, WorkerStats
from durableq.model.message import Completion, Draft, Failure, Outcome, Receipt, Received
from durableq.store.inspect import Monitor

__all__ = [
    "HasFileno",
    "Monitor",
    "OpenStore",
    "Pruned",
    "QueueInfo",
    "Store",
    "Transaction",
    "Watch",
    "WorkerInfo",
    "WorkerStats",
]


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
    """An open transaction in which some messages are being settled.

    Once its block is over, or a statement has ended it, each of its methods raises Conflict.
    """

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


class Store(Monitor, Protocol):
    """A message's life, batch first."""

    def declare_queue(self, name: str, changes: Mapping[str, int]) -> QueueInfo:
        """Make sure a queue (and its dead-letter queue) exists, and change these settings.

        Raises:
            InvalidInput: a bad name, an unknown setting or a value out of bounds.
        """
        ...

    def delete_queue(self, name: str, *, force: bool = False) -> None:
        """Remove a queue, its dead-letter queue, their records, history and notes.

        A note is a queue's if its name ends with a colon and the queue's name.

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
        owner_id: int = 0,
        ids: Iterable[str] | None = None,
    ) -> Received:
        """Lease up to `limit` ready messages: highest priority first, then oldest first.

        On the way, due messages become ready, at most PROMOTE_BATCH, and expired leases are taken
        back, at most RECLAIM_BATCH, earliest first. Then `admit` decides about each message: a
        duplicate ends here, a conflict goes to the dead-letter queue, and a message whose key is in
        progress waits, uncounted, until that key is settled. A receive works through at most
        MAX_SET_ASIDE messages that it does not deliver. It answers `more` when it stopped at any of
        these limits, or at its own: receive again, at once. A paused queue gives nothing but to a
        person who names ids; its expired leases are taken back.

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
        self, decisions: Sequence[tuple[Receipt, Decision]], *, actor: str = ""
    ) -> list[Outcome]:
        """Apply verdicts to leased dead letters, with history: DONE, or refused.

        Retry and Requeue move the message to its source queue with a fresh receive_count and
        one more recovery_count. Retry keeps the payload hash of the original, so that a
        duplicate of the original is still recognised after the easier form succeeds.

        Raises:
            Conflict: a receipt is for a message that is not dead.
        """
        ...

    def start_redrive(
        self,
        wanted: DeadLetterFilter,
        decision: Requeue | Discard,
        *,
        to_queue: str | None = None,
        actor: str = "",
    ) -> RedriveTask:
        """Begin to decide about many dead letters; `continue_move` does it.

        Meant are the letters that fit and are dead now. The newest MAX_MOVES ended moves are
        remembered, older ones forgotten.

        Args:
            wanted: which letters, held ones too.
            verdict: the same for each.
            to_queue: requeue to this one instead of where each died; its keys guard there, and its
                body, accepted once, is not measured again.
            actor: who decides; in the history of each letter.

        Raises:
            UnknownQueue: one that is named does not exist.
            Conflict: it is a dead-letter queue; or a letter's own queue does not exist any more,
                and no other is named.
            InvalidInput: a delay out of bounds, or a discard to a queue.
        """
        ...

    def continue_redrive(self, task_id: str, limit: int) -> RedriveTask:
        """Decide about the next letters of a move, in order of id; DONE when none was left.

        The place where it stopped is kept in the same transaction: whoever goes on, after a crash
        or at the same time, decides about no letter twice. Letters that died since it was started
        are left, and those that are leased are skipped. A move that has ended stays as it is.

        Args:
            move_id: from `start_move`.
            limit: 1 to MAX_RECEIVE_BATCH letters.

        Raises:
            NotFound: there is no such move.
            UnknownQueue: the queue it goes to was deleted.
        """
        ...

    def cancel_redrive(self, task_id: str) -> RedriveTask:
        """Let a running move end here; what it has moved stays moved.

        Raises:
            NotFound: there is no such move.
        """
        ...

    def decide_by_id(
        self, queue: str, ids: Sequence[str], decision: Decision, *, actor: str = ""
    ) -> list[str]:
        """Apply one verdict to these letters of a dead-letter queue, held ones too.

        Nobody sees them leased in between: whoever is interrupted leaves each decided or as it was.

        Returns:
            The ids that were decided; the others are leased, or not there.

        Raises:
            InvalidInput: more than MAX_RECEIVE_BATCH.
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

    def reclaim(self, *, owner_id: int | None = None) -> int:
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

        Retention counts from when a message came to its queue, or became due there if that was
        later. A jump of the wall clock ends nothing.
        """
        ...

    def maintain(self, limit: int = 200) -> MaintenanceReport:
        """Do one short slice of upkeep if it is due, for whoever comes by: nobody else need do it.

        It is due every TEND_EVERY_MS, for all processes together; sooner, after TEND_AGAIN_MS,
        if a slice has left something. A slice removes at most `limit` of each kind that `prune`
        removes; it may look at a part of what is stored, and goes on there the next time. It
        waits for nobody: where another process is writing, nothing happens.
        """
        ...

    def compare_and_set(self, name: str, text: str, *, expected: str | None) -> bool:
        """Keep a text under a name, for processes that share some state.

        Args:
            name: 1 to MAX_NOTE_NAME_CHARS characters.
            text: at most MAX_NOTE_CHARS.
            instead_of: what must be there now, None for nothing; otherwise nothing is written.

        Returns:
            Whether it was written.

        Raises:
            InvalidInput: a name or a text out of bounds.
        """
        ...

    def register(self, worker: WorkerInfo) -> WorkerInfo:
        """Enter a worker and return it with its holder mark."""
        ...

    def beat(
        self,
        owner_id: int,
        stats: WorkerStats | None = None,
        *,
        queues: Sequence[str] | None = None,
    ) -> bool:
        """Let a worker say that it lives; False if it was taken out: somebody thought it dead.

        Args:
            holder: its mark.
            stats: how it does; None leaves what it told before.
            queues: names of the queues it receives from now; None leaves what it told before.
        """
        ...

    def unregister(self, owner_id: int) -> None:
        """Take a worker out; its leases, if any, are taken back as lost."""
        ...

    def watch(self) -> Watch:
        """Begin to watch for writes; close the watch when done."""
        ...

    def close(self) -> None:
        """Close this process's connections."""
        ...


OpenStore = Callable[[str], Store]
#: Said by every engine that is given a transaction in a thread that did not open it.
OTHER_THREAD: Final = (
    "This transaction was opened in another thread, and its statements would run between that "
    "thread's. Use it in the thread that opened it."
)
