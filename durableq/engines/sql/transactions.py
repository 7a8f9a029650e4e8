"""Open transactions: connection, statements and time; for a write, queues and counters."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Final, NamedTuple, Protocol, TypeVar

from durableq.engines.sql.columns import LEASE_EPOCH_MS, OWNER_BASE
from durableq.engines.sql.dialect import Dialect, RowStatement
from durableq.model.errors import DatabaseUnusable, UnknownQueue
from durableq.model.flow.prepaid import Prepaid
from durableq.model.lifecycle import Bury, Drop, at_expiry
from durableq.model.message import Event
from durableq.model.settings import Limits
from durableq.runtime.clock import Moment, shift

T = TypeVar("T")

#: The random bytes of a receipt. For `bytes` the driver looks for an adapter, which takes 2 µs; for
#: a bytearray it does not.
Token = bytes | bytearray
#: The time of a transaction that no operation of a store runs in.
NO_MOMENT: Final = Moment(0, 0, 0, is_due=False)

_NO_TEXTS: Final = dict.fromkeys(
    ("reason", "error_type", "error_message", "traceback", "fingerprint", "place"), ""
)


class StoredQueue(NamedTuple):
    """A queue, without the settings of its limits. Columns in the order of STORED_QUEUE."""

    id: int
    name: str
    dead_letter_queue_id: int | None
    #: The bits of model.settings.Limits.
    limits: int
    visibility_timeout_ms: int
    delay_ms: int
    retention_ms: int
    max_receives: int
    max_recoveries: int
    backoff_base_ms: int
    backoff_max_ms: int
    idempotency_ttl_ms: int
    max_body_bytes: int
    paused: int
    #: The limits of its dead-letter queue.
    dead_letter_limits: int | None

    @property
    def on_expiry(self) -> int:
        """1: expired messages are dead."""
        return int(bool(self.limits & Limits.DEAD_ON_EXPIRY))

    @property
    def buries_at_receive(self) -> bool:
        """Whether a message dies at the receive that is one too many."""
        return bool(self.limits & Limits.BURY_AT_RECEIVE)

    @property
    def at_expiry(self) -> Bury | Drop:
        """The decision about expired messages."""
        return at_expiry(self, has_dead_letter_queue=self.dead_letter_queue_id is not None)


class Transaction:
    """An open transaction: its connection, the statements, and the time of the operation in it.

    Args:
        raw: the driver's connection.
        dialect: the texts of the statements for its database.
        moment: the time; an operation happens at one moment.
    """

    __slots__ = (
        "execute",
        "has_one_writer",
        "lease_now_ms",
        "list_of",
        "now_ms",
        "offset_ms",
        "raw",
        "sql",
    )

    def __init__(self, raw: Any, dialect: Dialect, moment: Moment = NO_MOMENT) -> None:
        self.raw = raw
        #: The driver's own: `execute(sql.STATEMENT, values)`. It saves the call of `run`, and a
        #: cursor: a session has one for all, so read the rows before the next statement.
        self.execute: Callable[..., Any] = raw.execute
        self.sql = dialect.statements
        #: Makes the value of a parameter of `in_list` from a list.
        self.list_of = dialect.list_of
        self.has_one_writer = dialect.has_one_writer
        self.set_time(moment)

    def set_time(self, moment: Moment) -> None:
        """Set the steady time, the time of leases, and the distance to the wall clock."""
        self.now_ms = moment.now_ms
        self.lease_now_ms = moment.lease_ms + LEASE_EPOCH_MS
        self.offset_ms = moment.offset_ms

    def run(self, text: str, **values: Any) -> Any:
        """Run a statement and return the driver's cursor, which is this statement's own."""
        return self.raw.execute(text, values)

    def run_many(self, statement: RowStatement, rows: Sequence[Mapping[str, Any]]) -> Any:
        """Run a statement once for each row of values and return the driver's cursor."""
        return self.raw.executemany(statement.text, map(statement.pick, rows))

    def listed(self, many: str, one: str, values: list[Any]) -> tuple[str, Any]:
        """Return the form of a statement for a list of this length, and the list's value."""
        return (one, values[0]) if len(values) == 1 else (many, self.list_of(values))

    def moved(self, text: str, **values: Any) -> set[int]:
        """Run a transition and return the ids of the rows that it moved."""
        return {row[0] for row in self.execute(text, values).fetchall()}

    def shown(self, answer: T) -> T:
        """Return an answer with its dates as the wall clock has them."""
        return shift(answer, self.offset_ms)


class WriteTransaction(Transaction):
    """The write transaction of one operation of the store.

    Counters are collected and written once, at the end of the operation.

    Args:
        raw: the driver's connection.
        dialect: the texts of the statements for its database.
        rng: numbers in [0, 1) for the backoff's jitter.
        owner_outside: the owner of leases outside a registered worker, as stored.
        free_bytes: returns the free space of the file system; None: it is not known.
    """

    __slots__ = ("counts", "free_bytes", "known", "limited", "owner_outside", "revision", "rng")

    def __init__(
        self,
        raw: Any,
        dialect: Dialect,
        rng: Callable[[], float],
        owner_outside: int = OWNER_BASE,
        free_bytes: Callable[[], int] | None = None,
    ) -> None:
        super().__init__(raw, dialect)
        self.rng = rng
        self.free_bytes = free_bytes
        self.owner_outside = owner_outside
        #: Numbers to be added, by queue id and the statement that adds to the counter.
        self.counts: dict[tuple[int, str], int] = {}
        #: What this transaction has read, above all its queues by name and by id.
        self.known: dict[Any, Any] = {}
        #: The queues that had no limits but a rate and `max_in_flight` at their last receive, of
        #: earlier transactions too, by name, with what this connection has paid for ahead: the next
        #: receive reads their state together with the queue, unless that is enough for it. None: it
        #: had a `max_in_flight` alone, one that is compared with the leases. Empty after a
        #: transaction that failed, which may have paid.
        self.limited: dict[str, Prepaid | None] = {}
        #: The revision of the tables, if the operation has read it together with a queue. The
        #: transaction compares it before COMMIT; if it is None, it reads it first.
        self.revision: str | None = None

    def check_revision(self) -> None:
        """Compare the revision of the tables, in an engine's own transactions.

        Raises:
            NewerDatabase, OlderDatabase: they were migrated while they were open.
        """

    def queue(self, name: str) -> StoredQueue:
        """Return a queue by name.

        Raises:
            UnknownQueue: there is none.
        """
        found = self.find_queue(name)
        if found is None:
            raise UnknownQueue(name)
        return found

    def find_queue(self, name: str) -> StoredQueue | None:
        """Return a queue by name, or None."""
        found: StoredQueue | None = self.known.get(name)
        if found is None:
            row = self.execute(self.sql.QUEUE, (name,)).fetchone()
            if row is None:
                return None
            *columns, self.revision = row
            found = self.known[name] = StoredQueue(*columns)
        return found

    def queue_by_id(self, queue_id: int) -> StoredQueue:
        """Return the queue of a message."""
        found: StoredQueue | None = self.known.get(queue_id)
        if found is None:
            row = self.run(self.sql.QUEUE_BY_ID, queue_id=queue_id).fetchone()
            found = self.known[queue_id] = StoredQueue(*row)
        return found

    def limits_of(self, queue_id: int) -> int:
        """Return the bits of a queue's limits that are on."""
        key = "limits", queue_id
        found: int | None = self.known.get(key)
        if found is None:
            found = self.known[key] = self.queue_by_id(queue_id).limits
        return found

    def count(self, queue_id: int, counter: str, number: int = 1) -> None:
        """Add to a queue's running counter, given by its statement: `tx.sql.EXPIRED`."""
        if number:
            of = queue_id, counter
            self.counts[of] = self.counts.get(of, 0) + number

    def write_counters(self) -> None:
        """Write the counters collected so far, each once."""
        for (queue_id, counter), number in self.counts.items():
            self.execute(counter, (number, queue_id))
        self.counts.clear()

    def record(
        self,
        message_id: int,
        queue_id: int,
        event: Event,
        *,
        actor: str = "",
        detail: Mapping[str, Any] | None = None,
        **texts: str,
    ) -> None:
        """Write one event of a message's history, and drop the oldest beyond the limit."""
        values = {
            "message_id": message_id,
            "queue_id": queue_id,
            "at_ms": self.now_ms,
            "event": event.value,
            "actor": actor,
            "detail": json.dumps(detail) if detail else None,
            **_NO_TEXTS,
            **texts,
        }
        self.execute(self.sql.RECORD_EVENT, values)
        self.execute(self.sql.TRIM_HISTORY, {"of": message_id})


def row_id(message_id: str) -> int:
    """Return the row id of a message's id; 0, which no row has, if it is not one.

    Negative ones are not free: the history has the events of a queue under them.
    """
    try:
        number = int(message_id)
    except ValueError:
        return 0
    return number if 0 < number < 1 << 63 and str(number) == message_id else 0


class AllOrNothing:
    """Undoes one operation inside a longer transaction if it raises; the transaction goes on.

    It is no generator: one that Ctrl-C leaves suspended ends later, in another transaction.

    Args:
        tx: the transaction.
    """

    __slots__ = ("_counts", "_tx")

    def __init__(self, tx: WriteTransaction) -> None:
        self._tx = tx
        self._counts: dict[tuple[int, str], int] = {}

    def __enter__(self) -> None:
        self._counts = self._tx.counts.copy()
        self._tx.raw.execute("SAVEPOINT durableq_operation")

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        raw = self._tx.raw
        if error is not None:
            if not raw.in_transaction:  # a full disk undoes all of it at once
                return
            raw.execute("ROLLBACK TO durableq_operation")
            self._tx.counts = self._counts
            self._tx.known.clear()
            self._tx.limited.clear()
        raw.execute("RELEASE durableq_operation")


class RevisionCheck(NamedTuple):
    """The check, in each write transaction, that the tables were not migrated meanwhile."""

    #: The query for the revision of the tables, and its answer while they are ours.
    query: str
    expected: str
    #: Makes the error for any other answer, from the driver's connection.
    refusal: Callable[[Any], DatabaseUnusable]

    def passes(self, raw: Any) -> bool:
        """Return whether the tables are still ours, as a query of a connection sees them."""
        return bool(raw.execute(self.query).fetchone() == (self.expected,))


class Database(Protocol):
    """An engine's database, as shared code opens transactions on it."""

    @property
    def boot_id(self) -> str:
        """The boot of the machine whose clock tells steady time."""

    def read(self) -> AbstractContextManager[Transaction]:
        """Open a read transaction."""

    def write(self, *, patient: bool = True) -> AbstractContextManager[WriteTransaction]:
        """Open a write transaction; unless `patient`, raise Busy instead of waiting."""

    def run(self, operation: Callable[..., T], *arguments: Any) -> T:
        """Run an operation in a write transaction, which those of other threads may share."""

    def join(self, connection: Any) -> AbstractContextManager[WriteTransaction]:
        """Take part in a caller's open transaction on the same database."""


class Operations:
    """A part of an engine's store: the operations of one capability, each one transaction.

    Args:
        database: opens the transactions.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
