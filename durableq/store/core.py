"""The storage contract: the operations that every engine has, and the way to the others.

An engine subclasses `Store`, states its capabilities, and subclasses the Protocol of each from
`durableq.store.capabilities`. `durableq.testing.StoreContract` holds the sentences below as tests.

Rules for all operations:

* One operation, one transaction: all of it happens, or nothing.
* An operation that settles takes receipts and returns one Outcome each, in order. A receipt that is
  no longer valid is refused and changes nothing (STALE: the lease was taken over or returned; GONE:
  the message has ended); the others take effect.
* An unknown queue raises UnknownQueue.
* A wait for another process that takes too long raises Busy; a COMMIT that fails raises
  OutcomeUnknown.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final, Literal, Protocol, overload

from durableq.model.errors import DurableQError, QueueFull, Unsupported
from durableq.model.info import Pruned, QueueInfo, WorkerInfo, WorkerStats
from durableq.model.message import (
    Completion,
    Draft,
    Failure,
    Gather,
    Outcome,
    Ready,
    Receipt,
    Received,
    Served,
)
from durableq.model.queues import Changes
from durableq.model.settings import QueueSettings

if TYPE_CHECKING:
    from durableq.store.capabilities import (
        Control,
        DeadLetters,
        Endpoint,
        Fleet,
        Idempotency,
        Inspect,
        Items,
        Maintenance,
        Metadata,
        Once,
        ProgressReports,
        Redrive,
        Schedules,
        Transactions,
    )

__all__ = [
    "Answer",
    "Call",
    "Capability",
    "Extend",
    "HasFileno",
    "OpenStore",
    "Pruned",
    "QueueInfo",
    "Queueing",
    "Receive",
    "Release",
    "Send",
    "Settle",
    "Store",
    "Watch",
    "WorkerInfo",
    "WorkerStats",
]


class Capability(enum.Enum):
    """A group of operations that an engine may have beyond the core: (name, purpose)."""

    TRANSACTIONS = ("transactions", "settle messages and write your own rows in one transaction")
    IDEMPOTENCY = ("idempotency", "show or change idempotency records")
    DEAD_LETTERS = ("dead letters", "show or decide about dead letters")
    REDRIVE = ("redrive", "run redrive tasks")
    FLEET = ("fleet", "register workers")
    INSPECT = ("inspect", "show queues and messages")
    CONTROL = ("control", "change single messages, or purge or delete queues")
    MAINTENANCE = ("maintenance", "prune or audit")
    METADATA = ("metadata", "keep state that processes share")
    ONCE = ("once", "keep values that one process computes for all")
    PROGRESS = ("progress", "keep the progress of messages in flight")
    SCHEDULES = ("schedules", "send messages at times")
    ENDPOINT = ("endpoint", "answer clients of SQS")
    ITEMS = ("items", "keep tables of items for clients of DynamoDB")

    def __init__(self, label: str, purpose: str) -> None:
        self.label = label
        self.purpose = purpose


class HasFileno(Protocol):
    """An object with a file descriptor to wait for: a socket, a pipe, a process."""

    def fileno(self) -> int:
        """Return its file descriptor."""
        ...


class Watch(Protocol):
    """A wait for writes by any process.

    It belongs to one thread at a time, and does not survive a fork.
    """

    def wait(self, seconds: float, *others: HasFileno) -> bool:
        """Wait until there was a write since the last wait, one of `others` is readable, or the
        time is over; return whether there was a write.

        There may be false alarms, but no write is missed: the rows of a write are readable once
        a wait has returned True for it.
        """
        ...

    def close(self) -> None:
        """Stop watching."""
        ...


@dataclass(frozen=True, slots=True)
class Send:
    """A send, as a call for Queueing.together."""

    queue: str
    drafts: Sequence[Draft]


@dataclass(frozen=True, slots=True)
class Receive:
    """A receive that does not wait, as a call for Queueing.together."""

    queue: str
    limit: int
    visibility_ms: int | None = None
    owner_id: int = 0
    by_group: bool = False
    gather: Gather | None = None
    served: Served | None = None


@dataclass(frozen=True, slots=True)
class Extend:
    """An extension of leases, as a call for Queueing.together."""

    receipts: Sequence[Receipt]
    visibility_ms: int


@dataclass(frozen=True, slots=True)
class Settle:
    """Completions and failures, as a call for Queueing.together."""

    completions: Sequence[Completion] = ()
    failures: Sequence[tuple[Receipt, Failure]] = ()
    actor: str = ""


@dataclass(frozen=True, slots=True)
class Release:
    """A release, as a call for Queueing.together."""

    receipts: Sequence[Receipt]


Call = Send | Receive | Extend | Settle | Release
Answer = list[str] | Received | list[Outcome] | DurableQError


class Queueing(Protocol):
    """The core: the life of a message, in batches."""

    def declare_queue(self, name: str, changes: Changes, *, creates: bool = True) -> QueueInfo:
        """Create a queue and its dead-letter queue if they are missing; change these settings.

        Dead letters go to NAME-dlq, made here as its private dead-letter queue unless there is one,
        or where the change `dead_letter_queue` says; None is the first again. A private one that
        another queue names, or that gets one itself, also None, is ordinary from then on.

        Args:
            name: the queue.
            changes: settings by name.
            creates: whether a missing queue is created.

        Raises:
            InvalidInput: a bad name or setting, or itself as dead-letter queue.
            UnknownQueue: there is no such dead-letter queue; or no such queue, and none is created.
        """
        ...

    def settings(self, queue: str) -> QueueSettings:
        """Return a queue's settings.

        Raises:
            UnknownQueue: there is none.
        """
        ...

    def send(self, queue: str, drafts: Sequence[Draft]) -> list[str]:
        """Store a batch, all or nothing, and return the ids in order.

        If the queue is full, `on_full` decides: the send is refused, waits for room, or sheds the
        messages that do not fit, whose ids are SHED. Inside a transaction, and in `together`, it
        is refused rather than waiting.

        Args:
            queue: the target.
            drafts: at most MAX_SEND_BATCH.

        Raises:
            InvalidBody: one is over the queue's `max_body_bytes`; none is stored.
            Conflict: the target is a private dead-letter queue.
            QueueFull: the batch does not fit into the backlog limits.
            InvalidInput: it would not fit into them if the queue were empty.
            StorageFull: the disk has less free space than `min_free_bytes`.
        """
        ...

    def has_room(self, full: QueueFull) -> bool:
        """Return whether a send that was refused may fit now, or raises another error.

        It does not write, so that many that wait do not keep writers out.

        Args:
            full: the refusal.
        """
        ...

    def receive(
        self,
        queue: str,
        limit: int,
        *,
        visibility_ms: int | None = None,
        owner_id: int = 0,
        wait_ms: int = 0,
        by_group: bool = False,
        gather: Gather | None = None,
        served: Served | None = None,
    ) -> Received:
        """Lease up to `limit` ready messages: highest priority first, then oldest first.

        On the way, due messages become ready, at most PROMOTE_BATCH, and expired leases are
        reclaimed, at most RECLAIM_BATCH, earliest first. Then `admit` decides about each message: a
        duplicate ends here, a conflict goes to the dead-letter queue, and a message whose key is in
        progress waits, uncounted, until that key is settled. A receive sets aside at most
        MAX_SET_ASIDE messages. `more` is True if it stopped at any of these limits, or at its own:
        receive again at once. A paused queue gives no message, but its expired leases are
        reclaimed.

        With `bury_at` "receive" an ended lease leaves no event and no wait, and a message that has
        had `max_receives` goes to the dead-letter queue instead of being delivered.

        Args:
            queue: the source.
            limit: 1 to MAX_RECEIVE.
            visibility_ms: the length of the lease; None means the queue's.
            owner_id: the worker's, from `register`; 0 for none.
            wait_ms: 0 to MAX_WAIT_MS; the longest wait for a message where there is none.
            by_group: lease one ready message, and behind it the next of its group in order, up to
                the first that is delayed, or was received before: more than may be active, as one
                batch. A message without a group, or one that was received before, comes alone.
            gather: lease none while fewer are ready, and not long enough. `count_ready` counts
                them in the transaction that leases: of several receivers, one takes a batch.
            served: the terms of a receive for the SQS endpoint, which gets envelopes. With
                `fill_groups` each message is followed by those behind it in its group, also by
                such as were received before. While any of a batch is in flight, its groups wait.

        Returns:
            The messages and duplicates. With neither, `wait_ms` is the time until a receive may
            bring a message, as `ready_in_ms` returns it, or until `gather` allows it.
        """
        ...

    def extend(self, receipts: Sequence[Receipt], visibility_ms: int) -> list[Outcome]:
        """Let these leases end `visibility_ms` from now: DONE, or refused.

        0 returns the messages, counted: ready at once, each in its place in its group, expired
        (EXPIRED), or dead after `max_receives` (BURIED) unless `bury_at` is "receive".
        """
        ...

    def complete(self, completions: Sequence[Completion]) -> list[Outcome]:
        """End these messages in success: DONE, or refused.

        A keyed message's record is completed with the result in the same transaction, and
        messages deferred behind the key become ready. Repeating a completion that names its key
        returns DONE again.
        """
        ...

    def fail(
        self, failures: Sequence[tuple[Receipt, Failure]], *, actor: str = ""
    ) -> list[Outcome]:
        """Record these failures: RETRY, BURIED, or refused; `after_failure` decides."""
        ...

    def settle(
        self,
        completions: Sequence[Completion],
        failures: Sequence[tuple[Receipt, Failure]],
        *,
        actor: str = "",
    ) -> list[Outcome]:
        """Complete and fail messages in one transaction.

        Returns:
            The outcomes of the completions, then those of the failures.
        """
        ...

    def together(self, calls: Sequence[Call]) -> list[Answer]:
        """Run several operations, in order, in one transaction (group commit).

        A call that raises is undone alone; the others stand. Errors of the transaction itself, such
        as Busy, StorageFull and OutcomeUnknown, are raised and concern all calls.

        Returns:
            What each operation returns, or the DurableQError that it raised.
        """
        ...

    def release(self, receipts: Sequence[Receipt]) -> list[Outcome]:
        """Return these to their queues, ready at once and uncounted: DONE, or refused."""
        ...

    def ready_in_ms(self, queues: Sequence[str]) -> int | None:
        """Return the time until a receive on one of these queues may return a message.

        0: a message is ready or due, or a lease has ended; otherwise the time to the first that
        will be. None: there is no such message. Held dead letters and paused queues do not count.
        """
        ...

    def count_ready(self, queue: str, limit: int) -> Ready:
        """Count the messages that a receive may find ready, at most `limit`.

        Those that are due and those whose lease has ended are counted too.
        """
        ...

    def watch(self) -> Watch:
        """Start watching for writes; the caller closes the watch."""
        ...

    def close(self) -> None:
        """Close this process's connections."""
        ...


class Store(Queueing, Protocol):
    """An engine's store: the core, and a stated set of capabilities."""

    #: The scheme of the engine's URLs, for messages.
    scheme: ClassVar[str]
    #: The groups of operations that this engine has beyond the core.
    capabilities: ClassVar[frozenset[Capability]]

    @overload
    def require(self, capability: Literal[Capability.TRANSACTIONS]) -> Transactions: ...
    @overload
    def require(self, capability: Literal[Capability.IDEMPOTENCY]) -> Idempotency: ...
    @overload
    def require(self, capability: Literal[Capability.DEAD_LETTERS]) -> DeadLetters: ...
    @overload
    def require(self, capability: Literal[Capability.REDRIVE]) -> Redrive: ...
    @overload
    def require(self, capability: Literal[Capability.FLEET]) -> Fleet: ...
    @overload
    def require(self, capability: Literal[Capability.INSPECT]) -> Inspect: ...
    @overload
    def require(self, capability: Literal[Capability.CONTROL]) -> Control: ...
    @overload
    def require(self, capability: Literal[Capability.MAINTENANCE]) -> Maintenance: ...
    @overload
    def require(self, capability: Literal[Capability.METADATA]) -> Metadata: ...
    @overload
    def require(self, capability: Literal[Capability.ONCE]) -> Once: ...
    @overload
    def require(self, capability: Literal[Capability.PROGRESS]) -> ProgressReports: ...
    @overload
    def require(self, capability: Literal[Capability.SCHEDULES]) -> Schedules: ...
    @overload
    def require(self, capability: Literal[Capability.ENDPOINT]) -> Endpoint: ...
    @overload
    def require(self, capability: Literal[Capability.ITEMS]) -> Items: ...
    def require(self, capability: Capability) -> object:
        """Return this store, typed as the capability's Protocol.

        Raises:
            Unsupported: the engine does not have it.
        """
        if capability not in self.capabilities:
            raise Unsupported(
                f"A {self.scheme}:// store cannot {capability.purpose}: it does not have the "
                f"capability {capability.label!r}."
            )
        return self


OpenStore = Callable[[str], Store]

#: The message of every engine for a transaction used in a thread that did not open it.
OTHER_THREAD: Final = (
    "This transaction was opened in another thread, and its statements would run between that "
    "thread's. Use it in the thread that opened it."
)
#: The message of an engine with SQL for a transaction that user code has ended by itself.
ENDED_BY_STATEMENT: Final = (
    "A statement ended this transaction (COMMIT, ROLLBACK, or a conflict that is resolved "
    "by ROLLBACK), so nothing more is written in it and the message is not settled. Leave "
    "its end to the `with` block."
)
