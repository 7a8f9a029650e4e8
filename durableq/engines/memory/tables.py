"""Tables: frozen values in dictionaries, so that a shallow copy is a copy."""

from __future__ import annotations

import itertools
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from durableq.model import codec
from durableq.model.endpoint import QueueDocument
from durableq.model.flow import retries
from durableq.model.flow.capacity import Paid
from durableq.model.flow.queue_breaker import FailureRecord, QueueBreaker
from durableq.model.items import ItemKey, ItemTable, ItemWrite
from durableq.model.limits import MAX_HISTORY
from durableq.model.message import (
    FOREVER_MS,
    OVER_BUDGET_MS,
    Draft,
    Envelope,
    Failure,
    HistoryEvent,
    Receipt,
    RecordStatus,
    State,
)
from durableq.model.progress import Progress
from durableq.model.queues import Counters
from durableq.model.schedules import Schedule
from durableq.model.settings import QueueSettings
from durableq.model.slots import ScheduleState
from durableq.store.core import WorkerInfo

#: The order of the events of all messages.
_numbers: Final = itertools.count(1)
#: The state of the limits of a queue before its first receive.
NOTHING_PAID: Final = Paid(0, 0, -retries.IDLE_MS)


class Queue(NamedTuple):
    """A queue; `dead_letter_queue` is None for one that is such a queue itself."""

    settings: QueueSettings
    dead_letter_queue: str | None
    counters: Counters


class Lease(NamedTuple):
    """The lease that one receive gives to all its messages."""

    token: str
    until_ms: int
    #: The worker that received; 0 for a receive outside a worker.
    owner_id: int
    #: The last report of the handler.
    progress: Progress | None = None


class Row(NamedTuple):
    """A message."""

    id: str
    queue: str
    draft: Draft
    sent_at_ms: int
    enqueued_at_ms: int
    state: State
    delayed_until_ms: int
    receive_count: int = 0
    recovery_count: int = 0
    source_queue: str | None = None
    #: None unless it is in flight.
    lease: Lease | None = None
    deferred: bool = False
    #: The failure that moved a dead letter to its queue.
    killed_by: Failure | None = None
    #: When it was due, while it waits for the retry budget; else None.
    due_ms: int | None = None
    expires_at_ms: int = FOREVER_MS
    #: The order of receiving (the lowest first, then the lowest id), and the order in a group.
    rank: int = 0
    sequence: int = 0
    #: The end of its debounce; 0: it has none.
    debounce_until_ms: int = 0
    first_received_at_ms: int = FOREVER_MS
    #: Whether a dead letter is kept as long as if it were still in its queue.
    keeps_age: bool = False

    @property
    def retained_from_ms(self) -> int:
        """From when its retention counts."""
        since_ms = self.sent_at_ms if self.keeps_age else self.enqueued_at_ms
        return max(since_ms, self.delayed_until_ms)

    @property
    def group(self) -> str | None:
        """Its group."""
        return self.draft.flow.group if self.draft.flow else None

    @property
    def envelope(self) -> Envelope:
        """The parts of it that the SQS endpoint alone sees."""
        sent = (self.draft.flow and self.draft.flow.envelope) or Envelope()
        first_ms, place = self.first_received_at_ms, self.sequence or int(self.id)
        return sent._replace(first_received_at_ms=first_ms, sequence=place)

    @property
    def receipt(self) -> Receipt | None:
        """The receipt of its lease."""
        return None if self.lease is None else Receipt(self.queue, self.id, self.lease.token)

    @property
    def guarded_key(self) -> tuple[str, str] | None:
        """Its queue and key, where the key guards something: not in a dead-letter queue."""
        if self.draft.key is None or self.source_queue is not None:
            return None
        return self.queue, self.draft.key

    @property
    def held(self) -> bool:
        """Whether it waits for a person's decision."""
        return self.state is State.DELAYED and self.delayed_until_ms == FOREVER_MS

    @property
    def over_budget(self) -> bool:
        """Whether it is a retry that waits for the retry budget."""
        return self.state is State.DELAYED and self.delayed_until_ms == OVER_BUDGET_MS


class Record(NamedTuple):
    """An idempotency record. While in progress it shares the lease of its owner."""

    status: RecordStatus
    owner: Receipt
    payload_hash: bytes
    created_at_ms: int
    result: str | None = None
    completed_at_ms: int | None = None
    expires_at_ms: int | None = None

    def expired(self, now_ms: int) -> bool:
        """Whether it is a completed record whose time to live has ended."""
        return self.expires_at_ms is not None and self.expires_at_ms <= now_ms


class Value(NamedTuple):
    """A value that one caller computes for all, and the lease to compute the next one."""

    value: str | None
    created_at_ms: int
    expires_at_ms: int
    stale_until_ms: int
    compute_ms: int = 0
    token: bytes | None = None
    lease_until_ms: int = 0
    owner: str = ""


class Attempt(NamedTuple):
    """A receive that may be repeated: its messages, their lease, and until when."""

    ids: tuple[str, ...]
    lease: Lease
    expires_at_ms: int


@dataclass
class Tables:
    """The tables of one store."""

    queues: dict[str, Queue] = field(default_factory=dict)
    #: In order of id: ids rise, and replacing a value does not move it.
    rows: dict[str, Row] = field(default_factory=dict)
    records: dict[tuple[str, str], Record] = field(default_factory=dict)
    history: dict[str, tuple[HistoryEvent, ...]] = field(default_factory=dict)
    #: The place of each of these events in the order of all.
    event_numbers: dict[str, tuple[int, ...]] = field(default_factory=dict)
    workers: dict[int, WorkerInfo] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)
    #: Circuit breakers that have left their first state, by queue.
    breakers: dict[str, QueueBreaker] = field(default_factory=dict)
    #: Messages that failed, by queue and id.
    failures: dict[tuple[str, str], FailureRecord] = field(default_factory=dict)
    values: dict[str, Value] = field(default_factory=dict)
    flow: dict[str, Paid] = field(default_factory=dict)
    #: The rank of the heads that were made last, by queue.
    turns: dict[str, int] = field(default_factory=dict)
    #: Theoretical arrival times, by queue and group.
    group_tats: dict[tuple[str, str], int] = field(default_factory=dict)
    #: By queue and DraftFlow.sent_as: the id of the message, and the end of the window.
    sent: dict[tuple[str, tuple[str, str]], tuple[str, int]] = field(default_factory=dict)
    schedules: dict[str, tuple[Schedule, ScheduleState]] = field(default_factory=dict)
    item_tables: dict[int, ItemTable] = field(default_factory=dict)
    items: dict[ItemKey, ItemWrite] = field(default_factory=dict)
    #: Of all queues, stored or not.
    documents: dict[str, QueueDocument] = field(default_factory=dict)
    #: The times of deletions over SQS.
    deletions: dict[str, int] = field(default_factory=dict)
    #: Receives that may be repeated, by queue and id.
    attempts: dict[tuple[str, str], Attempt] = field(default_factory=dict)

    def copy(self) -> Tables:
        """Return tables that can be changed without changing these."""
        return Tables(*(dict(table) for table in vars(self).values()))

    def add_event(self, event: HistoryEvent) -> None:
        """Add an event to a history, and drop the oldest beyond the limit."""
        name = event.message_id
        numbers = (*self.event_numbers.get(name, ()), next(_numbers))
        self.event_numbers[name] = numbers[-MAX_HISTORY:]
        self.history[name] = (*self.history.get(name, ()), event)[-MAX_HISTORY:]

    def drop_events(self, queues: Collection[str]) -> None:
        """Drop the events in these queues."""
        for name, events in self.history.copy().items():
            numbered = zip(self.event_numbers[name], events, strict=True)
            kept = [(number, event) for number, event in numbered if event.queue not in queues]
            self.event_numbers[name] = tuple(number for number, _ in kept)
            self.history[name] = tuple(event for _, event in kept)

    def in_queue(self, name: str) -> list[Row]:
        """Return the messages of a queue, in order of id."""
        return [row for row in self.rows.values() if row.queue == name]

    def sizes_in(self, name: str) -> list[int]:
        """Return the sizes of the bodies of a queue's messages, in bytes."""
        return [codec.size(row.draft.body) for row in self.in_queue(name)]
