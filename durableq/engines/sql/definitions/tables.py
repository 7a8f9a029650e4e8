"""The tables, and why their columns are as they are.

All are named `durableq_…`, so that they can live inside an application's own database file.

SQLite overwrites a row in place when its size does not change; otherwise each step in the life of
a message would rewrite its body. So on the way of a message that succeeds every column keeps its
width: `state` and `receive_count` go from 0 to 1 (both take no bytes), a `receipt` has 16 bytes
from the start, and times and owners take six bytes at any value: a lease deadline counts from
LEASE_EPOCH_MS, an owner from OWNER_BASE, and a time that is not known yet is FOREVER_MS.

SQLite reads a row from its start, and a large body lies on other pages. A later column stands
behind `body`, so columns that later features need are in the table already, with neutral values
(docs/decisions/0023). The two that name a burial came later. They are NULL, which is read without
the body, except in dead letters, whose index has them too (docs/decisions/0038).

Foreign keys are not declared: SQLite enforces them only on connections that ask for it, and an
application's own connections write here too. Every operation resolves its queue inside its own
transaction, and a queue is deleted together with all that refers to it.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    REAL,
    BigInteger,
    CheckConstraint,
    Column,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    UniqueConstraint,
    column,
    literal_column,
)

from durableq.engines.sql.columns import COUNTERS, COUNTS
from durableq.engines.sql.definitions.elements import StrictAny, fits
from durableq.model.limits import BODY_CEILING_BYTES
from durableq.model.message import FOREVER_MS, RecordStatus, State
from durableq.model.settings import LIMIT_SETTINGS, SETTINGS, Kind, QueueSettings

_Whole = BigInteger().with_variant(Integer(), "sqlite")
_Real: Any = Double().with_variant(REAL(), "sqlite")
_Text: Any = Text().with_variant(Text(collation="C"), "postgresql")
# On PostgreSQL no other column is VARCHAR: the driver knows bodies by it (docs/decisions/0047).
_Body: Any = String(collation="C").with_variant(StrictAny(), "sqlite")


def is_state(state: State, column: Any = None) -> Any:
    """Return the condition for a state as literal SQL, which a partial index needs to be used."""
    return (message.c.state if column is None else column) == literal_column(str(int(state)))


def _partial(condition: Any) -> dict[str, Any]:
    """Return the options of an index of the rows that meet a condition."""
    return {"sqlite_where": condition, "postgresql_where": condition}


def _whole(name: str, **options: Any) -> Column[int]:
    return Column(name, _Whole, nullable=False, **options)


def _counter(name: str) -> Column[int]:
    return _whole(name, server_default="0")


def _check(condition: Any, name: str) -> CheckConstraint:
    """Return a check of each row, for SQLite.

    PostgreSQL reads the text of every check again in each statement that writes, which was a
    quarter of a send's function (ExecRelCheck in its execMain.c). There `doctor --deep` looks.
    """
    return CheckConstraint(condition, name=name).ddl_if(dialect="sqlite")


def _setting(name: str) -> Column[Any]:
    default = getattr(QueueSettings(), name)
    is_real = SETTINGS[name].kind in {Kind.RATE, Kind.SHARE}
    kind = _Real if is_real else _Whole
    return Column(name, kind, nullable=False, server_default=f"{default:g}")


metadata = MetaData()
_strict: dict[str, Any] = {"sqlite_strict": True}

queue = Table(
    "durableq_queue",
    metadata,
    Column("id", _Whole, primary_key=True, nullable=False),
    Column("name", _Text, nullable=False),
    Column("dead_letter_queue_id", _Whole),
    _whole("created_at_ms"),
    _whole("visibility_timeout_ms"),
    _whole("delay_ms"),
    _whole("retention_ms"),
    _whole("max_receives"),
    _whole("max_recoveries"),
    _whole("backoff_base_ms"),
    _whole("backoff_max_ms"),
    _whole("idempotency_ttl_ms"),
    _whole("max_body_bytes"),
    _counter("paused"),
    # The settings of limits; 0 is off.
    *(_setting(name) for name in LIMIT_SETTINGS),
    # The bits of those that are on, of model.settings.Limits.
    _counter("limits"),
    UniqueConstraint("name", name="durableq_queue_name"),
    **_strict,
)

# Apart from the settings: each send and completion writes here.
counters = Table(
    "durableq_counters",
    metadata,
    Column("queue_id", _Whole, primary_key=True, nullable=False, autoincrement=False),
    *map(_counter, COUNTERS),
    # As they stand, where a limit needs them.
    _counter("in_flight"),
    _counter("backlog_bytes"),
    # Of limits of receives: the theoretical arrival time of the next message (GCRA), the last
    # delivery, and the retries that all allow, in thousandths. A worker settles and receives in one
    # transaction, which writes this row anyway.
    *map(_counter, ("tat_ns", "delivered_at_ms", "retry_credit")),
    # The rank of the heads of groups that were made last.
    _counter("turn"),
    **_strict,
)

message = Table(
    "durableq_message",
    metadata,
    # AUTOINCREMENT: an id names one message for ever, in history too, so none is given twice.
    Column("id", _Whole, primary_key=True, nullable=False),
    _whole("queue_id"),
    _whole("state"),
    # The order of receiving within a queue: the lowest rank first, then the lowest id.
    _whole("rank"),
    _whole("priority"),
    _whole("deferred"),
    _whole("receive_count"),
    _whole("recovery_count"),
    _whole("lease_until_ms"),
    _whole("delayed_until_ms"),
    _whole("enqueued_at_ms"),
    _whole("sent_at_ms"),
    _whole("first_received_at_ms"),
    # Retention counts from here: the arrival in the queue, or the time at which it became due.
    _whole("retention_from_ms"),
    # The end of `expires_in`, and the bound of a debounced delay.
    *map(_whole, ("expires_at_ms", "debounce_until_ms")),
    Column("receipt", LargeBinary, nullable=False),
    _whole("owner_id"),
    _whole("body_bytes"),
    # Not used yet: 0 is JSON text or bytes, told by the type; 1 is text as it was sent.
    _whole("body_format"),
    # The order in a group.
    _whole("sequence"),
    Column("source_queue_id", _Whole),
    Column("group_id", _Text),
    Column("replace_key", _Text),
    Column("key", _Text),
    Column("payload_hash", LargeBinary),
    # Not used yet: the id of a message that an SQS move task has moved.
    Column("sqs_id", _Text),
    Column("attributes", _Text),
    # Not used yet: AWSTraceHeader and the like, as JSON.
    Column("system_attributes", _Text),
    Column("body", _Body, nullable=False),
    # Of the last burial of a dead letter: with its source queue, its group.
    Column("burial_reason", _Text),
    Column("burial_fingerprint", _Text),
    _check("state IN (0, 1, 2, 3)", "durableq_message_state"),
    _check("length(receipt) = 16", "durableq_message_receipt"),
    _check("(key IS NULL) = (payload_hash IS NULL)", "durableq_message_key_has_hash"),
    _check(fits(column("body"), BODY_CEILING_BYTES), "durableq_message_body_size"),
    sqlite_autoincrement=True,
    **_strict,
)

Index(
    "durableq_message_ready",
    message.c.queue_id,
    message.c.rank,
    message.c.id,
    **_partial(is_state(State.READY)),
)
Index(
    "durableq_message_delayed",
    message.c.queue_id,
    message.c.delayed_until_ms,
    **_partial(is_state(State.DELAYED)),
)
Index(
    "durableq_message_leased",
    message.c.queue_id,
    message.c.lease_until_ms,
    **_partial(is_state(State.IN_FLIGHT)),
)
Index(
    "durableq_message_deferred",
    message.c.queue_id,
    message.c.key,
    **_partial(message.c.deferred == literal_column("1")),
)
# Written when a message dies or comes back, never on the way of one that succeeds.
Index(
    "durableq_message_dead",
    message.c.id,
    **_partial(message.c.source_queue_id.is_not(None)),
)
# The next of each group.
Index(
    "durableq_message_blocked",
    message.c.queue_id,
    message.c.group_id,
    message.c.sequence,
    message.c.id,
    **_partial(is_state(State.BLOCKED)),
)
Index(
    "durableq_message_replace_key",
    message.c.queue_id,
    message.c.replace_key,
    **_partial(message.c.replace_key.is_not(None)),
)
Index(
    "durableq_message_expiry",
    message.c.expires_at_ms,
    **_partial(message.c.expires_at_ms != literal_column(str(FOREVER_MS))),
)
# All that the groups of dead letters count, in their order.
Index(
    "durableq_message_burial",
    message.c.source_queue_id,
    message.c.burial_reason,
    message.c.burial_fingerprint,
    message.c.enqueued_at_ms,
    **_partial(message.c.source_queue_id.is_not(None)),
)

idempotency = Table(
    "durableq_idempotency",
    metadata,
    _whole("queue_id"),
    Column("key", _Text, nullable=False),
    _whole("status"),
    # The owner is a receipt: an in-progress record lives exactly as long as its message's lease.
    _whole("owner_message_id"),
    Column("owner_receipt", LargeBinary, nullable=False),
    Column("payload_hash", LargeBinary, nullable=False),
    Column("result", _Text),
    _whole("created_at_ms"),
    Column("completed_at_ms", _Whole),
    Column("expires_at_ms", _Whole),
    PrimaryKeyConstraint("queue_id", "key", name="durableq_idempotency_key"),
    _check("status IN (0, 1)", "durableq_idempotency_status"),
    sqlite_with_rowid=False,
    **_strict,
)
Index(
    "durableq_idempotency_expiry",
    idempotency.c.expires_at_ms,
    **_partial(idempotency.c.status == literal_column(str(int(RecordStatus.COMPLETED)))),
)

history = Table(
    "durableq_history",
    metadata,
    Column("id", _Whole, primary_key=True, nullable=False),
    _whole("message_id"),
    _whole("queue_id"),
    _whole("at_ms"),
    Column("event", _Text, nullable=False),
    Column("reason", _Text, nullable=False),
    Column("error_type", _Text, nullable=False),
    Column("error_message", _Text, nullable=False),
    Column("traceback", _Text, nullable=False),
    Column("actor", _Text, nullable=False),
    Column("detail", _Text),
    Column("fingerprint", _Text, nullable=False, server_default=""),
    Column("place", _Text, nullable=False, server_default=""),
    **_strict,
)
Index("durableq_history_message", history.c.message_id, history.c.id)
Index("durableq_history_queue", history.c.queue_id, history.c.at_ms)

worker = Table(
    "durableq_worker",
    metadata,
    Column("id", _Whole, primary_key=True, nullable=False),
    Column("name", _Text, nullable=False),
    _whole("pid"),
    _whole("created_ms"),
    Column("boot_id", _Text, nullable=False),
    _whole("started_at_ms"),
    _whole("beat_at_ms"),
    Column("pid_namespace", _Text, nullable=False, server_default=""),
    _counter("restarts"),
    Column("state", _Text, nullable=False, server_default=""),
    _counter("handled"),
    _counter("failed"),
    _counter("in_flight"),
    _counter("oldest_began_ms"),
    # A JSON array of names; empty text where the worker has not told them.
    Column("queues", _Text, nullable=False, server_default=""),
    Column("host_id", _Text, nullable=False, server_default=""),
    _counter("draining"),
    sqlite_autoincrement=True,
    **_strict,
)

redrive_task = Table(
    "durableq_redrive_task",
    metadata,
    # AUTOINCREMENT: the id of a task that was forgotten is not another's.
    Column("id", _Whole, primary_key=True, nullable=False),
    Column("state", _Text, nullable=False),
    Column("wanted", _Text, nullable=False),
    Column("decision", _Text, nullable=False),
    Column("to_queue", _Text),
    Column("actor", _Text, nullable=False),
    # Dead letters whose burial is a later event of the history are not meant.
    _whole("last_event"),
    _whole("cursor"),
    _whole("total"),
    _whole("moved"),
    _whole("skipped"),
    _whole("started_at_ms"),
    _whole("updated_at_ms"),
    # Messages a second, 0 for no limit, and the theoretical arrival time of its next.
    Column("rate", _Real, nullable=False, server_default="0"),
    _counter("tat_ns"),
    sqlite_autoincrement=True,
    **_strict,
)

# The state of the circuit breaker of each queue. Times are in lease time.
flow = Table(
    "durableq_flow",
    metadata,
    Column("queue_id", _Whole, primary_key=True, nullable=False, autoincrement=False),
    # 0 is closed, 1 open, 2 half-open; trips are the times in a row that it opened.
    *map(_counter, ("breaker_phase", "breaker_since_ms", "breaker_until_ms", "breaker_trips")),
    *map(_counter, ("breaker_died", "breaker_judged")),
    # The counter `completed` at the start of the window, or of the probes.
    _counter("breaker_completed"),
    Column("breaker_reason", _Text, nullable=False, server_default=""),
    **_strict,
)

# The messages that failed lately, for the breaker: each counts once.
failure = Table(
    "durableq_failure",
    metadata,
    _whole("queue_id"),
    _whole("message_id"),
    _whole("at_ms"),
    # Receives not counted; the queue's counter `completed` at the last failure.
    _counter("unavailable"),
    _counter("completed"),
    PrimaryKeyConstraint("queue_id", "message_id", name="durableq_failure_message"),
    sqlite_with_rowid=False,
    **_strict,
)

group = Table(
    "durableq_group",
    metadata,
    _whole("queue_id"),
    Column("group_id", _Text, nullable=False),
    # Its messages in the queue that are not blocked, and its dead letters.
    *map(_counter, ("active", "holding", "tat_ns")),
    PrimaryKeyConstraint("queue_id", "group_id", name="durableq_group_id"),
    sqlite_with_rowid=False,
    **_strict,
)
Index(
    "durableq_group_idle",
    group.c.tat_ns,
    **_partial((group.c.active == literal_column("0")) & (group.c.holding == literal_column("0"))),
)

deduplication = Table(
    "durableq_deduplication",
    metadata,
    _whole("queue_id"),
    # The group of a message, as an SQS queue may have it; empty for the whole queue.
    Column("scope", _Text, nullable=False),
    Column("deduplication_id", _Text, nullable=False),
    _whole("message_id"),
    _whole("expires_at_ms"),
    PrimaryKeyConstraint("queue_id", "scope", "deduplication_id", name="durableq_deduplication_id"),
    sqlite_with_rowid=False,
    **_strict,
)
Index("durableq_deduplication_expiry", deduplication.c.expires_at_ms)

# Values that one process computes for all: see `once`.
once = Table(
    "durableq_once",
    metadata,
    Column("key", _Text, nullable=False),
    # JSON; NULL until it has been computed.
    Column("value", _Text),
    _whole("created_at_ms"),
    _whole("expires_at_ms"),
    _whole("stale_until_ms"),
    # The time that the computation took, for the early refresh.
    _whole("compute_ms"),
    # The process that computes it, under a lease.
    Column("owner_token", LargeBinary),
    _whole("owner_until_ms"),
    Column("owner_process", _Text, nullable=False, server_default=""),
    PrimaryKeyConstraint("key", name="durableq_once_key"),
    sqlite_with_rowid=False,
    **_strict,
)
Index("durableq_once_expiry", once.c.stale_until_ms)

# A queue at a time: its running counters, and the numbers of its messages by state.
sample = Table(
    "durableq_sample",
    metadata,
    _whole("queue_id"),
    _whole("at_ms"),
    *map(_whole, (*COUNTERS, *COUNTS)),
    PrimaryKeyConstraint("queue_id", "at_ms", name="durableq_sample_time"),
    sqlite_with_rowid=False,
    **_strict,
)

meta = Table(
    "durableq_meta",
    metadata,
    Column("name", _Text, primary_key=True, nullable=False),
    Column("value", _Text, nullable=False),
    sqlite_with_rowid=False,
    **_strict,
)
