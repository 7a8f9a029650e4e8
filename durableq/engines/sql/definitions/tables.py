"""The tables, and why their columns are as they are.

All are named `durableq_…`: they may live in an application's own file.
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
    Column,
    Index,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    UniqueConstraint,
    column,
    literal_column,
)

from durableq.engines.sql.columns import COUNTERS, COUNTS
from durableq.engines.sql.definitions.elements import fits
from durableq.engines.sql.definitions.kinds import (
    BODY,
    REAL,
    TEXT,
    WHOLE,
    check,
    counter,
    partial,
    setting,
    whole,
)
from durableq.model.limits import BODY_CEILING_BYTES
from durableq.model.message import FOREVER_MS, RecordStatus, State
from durableq.model.settings import LIMIT_SETTINGS

metadata = MetaData()
_strict: dict[str, Any] = {"sqlite_strict": True}


def is_state(state: State, column: Any = None) -> Any:
    """Return the condition for a state as literal SQL, which a partial index needs to be used."""
    return (message.c.state if column is None else column) == literal_column(str(int(state)))


queue = Table(
    "durableq_queue",
    metadata,
    Column("id", WHOLE, primary_key=True, nullable=False),
    Column("name", TEXT, nullable=False),
    Column("dead_letter_queue_id", WHOLE),
    whole("created_at_ms"),
    whole("visibility_timeout_ms"),
    whole("delay_ms"),
    whole("retention_ms"),
    whole("max_receives"),
    whole("max_recoveries"),
    whole("backoff_base_ms"),
    whole("backoff_max_ms"),
    whole("idempotency_ttl_ms"),
    whole("max_body_bytes"),
    counter("paused"),
    # The settings of limits; 0 is off.
    *(setting(name) for name in LIMIT_SETTINGS if name != "bury_at"),
    # The bits of those that are on, of model.settings.Limits.
    counter("limits"),
    setting("bury_at"),
    UniqueConstraint("name", name="durableq_queue_name"),
    **_strict,
)

# Apart from the settings: each send and completion writes here.
counters = Table(
    "durableq_counters",
    metadata,
    Column("queue_id", WHOLE, primary_key=True, nullable=False, autoincrement=False),
    *map(counter, COUNTERS),
    # As they stand, where a limit needs them.
    counter("in_flight"),
    counter("backlog_bytes"),
    # Of limits of receives: the theoretical arrival time of the next message (GCRA), the last
    # delivery, and the retries that all allow, in thousandths. A worker settles and receives in one
    # transaction, which writes this row anyway.
    *map(counter, ("tat_ns", "delivered_at_ms", "retry_credit")),
    # The rank of the heads of groups that were made last.
    counter("turn"),
    **_strict,
)

message = Table(
    "durableq_message",
    metadata,
    # AUTOINCREMENT: an id names one message for ever, in history too, so none is given twice.
    Column("id", WHOLE, primary_key=True, nullable=False),
    whole("queue_id"),
    whole("state"),
    # The order of receiving within a queue: the lowest rank first, then the lowest id.
    whole("rank"),
    whole("priority"),
    whole("deferred"),
    whole("receive_count"),
    whole("recovery_count"),
    whole("lease_until_ms"),
    whole("delayed_until_ms"),
    whole("enqueued_at_ms"),
    whole("sent_at_ms"),
    whole("first_received_at_ms"),
    # Retention counts from here: the arrival in the queue, or the time at which it became due.
    whole("retention_from_ms"),
    # The end of `expires_in`, and the bound of a debounced delay.
    *map(whole, ("expires_at_ms", "debounce_until_ms")),
    Column("receipt", LargeBinary, nullable=False),
    whole("owner_id"),
    whole("body_bytes"),
    # 0 is JSON text or bytes, told by the type; 1 is a JSON string that stands for another text.
    whole("body_format"),
    # The order in a group.
    whole("sequence"),
    Column("source_queue_id", WHOLE),
    Column("group_id", TEXT),
    Column("replace_key", TEXT),
    Column("key", TEXT),
    Column("payload_hash", LargeBinary),
    # Not used: a message's id over SQS is made of its id here and its recovery_count.
    Column("sqs_id", TEXT),
    Column("attributes", TEXT),
    # Of a message over SQS, JSON: the types of attributes, AWSTraceHeader and the like.
    Column("system_attributes", TEXT),
    Column("body", BODY, nullable=False),
    # Of the last burial of a dead letter: with its source queue, its group.
    Column("burial_reason", TEXT),
    Column("burial_fingerprint", TEXT),
    check("state IN (0, 1, 2, 3)", "durableq_message_state"),
    check("length(receipt) = 16", "durableq_message_receipt"),
    check("(key IS NULL) = (payload_hash IS NULL)", "durableq_message_key_has_hash"),
    check(fits(column("body"), BODY_CEILING_BYTES), "durableq_message_body_size"),
    sqlite_autoincrement=True,
    **_strict,
)

Index(
    "durableq_message_ready",
    message.c.queue_id,
    message.c.rank,
    message.c.id,
    **partial(is_state(State.READY)),
)
Index(
    "durableq_message_delayed",
    message.c.queue_id,
    message.c.delayed_until_ms,
    **partial(is_state(State.DELAYED)),
)
Index(
    "durableq_message_leased",
    message.c.queue_id,
    message.c.lease_until_ms,
    **partial(is_state(State.IN_FLIGHT)),
)
Index(
    "durableq_message_deferred",
    message.c.queue_id,
    message.c.key,
    **partial(message.c.deferred == literal_column("1")),
)
# Written when a message dies or comes back, never on the way of one that succeeds.
Index(
    "durableq_message_dead",
    message.c.id,
    **partial(message.c.source_queue_id.is_not(None)),
)
# The next of each group.
Index(
    "durableq_message_blocked",
    message.c.queue_id,
    message.c.group_id,
    message.c.sequence,
    message.c.id,
    **partial(is_state(State.BLOCKED)),
)
Index(
    "durableq_message_replace_key",
    message.c.queue_id,
    message.c.replace_key,
    **partial(message.c.replace_key.is_not(None)),
)
Index(
    "durableq_message_expiry",
    message.c.expires_at_ms,
    **partial(message.c.expires_at_ms != literal_column(str(FOREVER_MS))),
)
# All that the groups of dead letters count, in their order.
Index(
    "durableq_message_burial",
    message.c.source_queue_id,
    message.c.burial_reason,
    message.c.burial_fingerprint,
    message.c.enqueued_at_ms,
    **partial(message.c.source_queue_id.is_not(None)),
)

idempotency = Table(
    "durableq_idempotency",
    metadata,
    whole("queue_id"),
    Column("key", TEXT, nullable=False),
    whole("status"),
    # The owner is a receipt: an in-progress record lives exactly as long as its message's lease.
    whole("owner_message_id"),
    Column("owner_receipt", LargeBinary, nullable=False),
    Column("payload_hash", LargeBinary, nullable=False),
    Column("result", TEXT),
    whole("created_at_ms"),
    Column("completed_at_ms", WHOLE),
    Column("expires_at_ms", WHOLE),
    PrimaryKeyConstraint("queue_id", "key", name="durableq_idempotency_key"),
    check("status IN (0, 1)", "durableq_idempotency_status"),
    sqlite_with_rowid=False,
    **_strict,
)
Index(
    "durableq_idempotency_expiry",
    idempotency.c.expires_at_ms,
    **partial(idempotency.c.status == literal_column(str(int(RecordStatus.COMPLETED)))),
)

history = Table(
    "durableq_history",
    metadata,
    Column("id", WHOLE, primary_key=True, nullable=False),
    whole("message_id"),
    whole("queue_id"),
    whole("at_ms"),
    Column("event", TEXT, nullable=False),
    Column("reason", TEXT, nullable=False),
    Column("error_type", TEXT, nullable=False),
    Column("error_message", TEXT, nullable=False),
    Column("traceback", TEXT, nullable=False),
    Column("actor", TEXT, nullable=False),
    Column("detail", TEXT),
    Column("fingerprint", TEXT, nullable=False, server_default=""),
    Column("place", TEXT, nullable=False, server_default=""),
    **_strict,
)
Index("durableq_history_message", history.c.message_id, history.c.id)
Index("durableq_history_queue", history.c.queue_id, history.c.at_ms)

worker = Table(
    "durableq_worker",
    metadata,
    Column("id", WHOLE, primary_key=True, nullable=False),
    Column("name", TEXT, nullable=False),
    whole("pid"),
    whole("created_ms"),
    Column("boot_id", TEXT, nullable=False),
    whole("started_at_ms"),
    whole("beat_at_ms"),
    Column("pid_namespace", TEXT, nullable=False, server_default=""),
    counter("restarts"),
    Column("state", TEXT, nullable=False, server_default=""),
    counter("handled"),
    counter("failed"),
    counter("in_flight"),
    counter("oldest_began_ms"),
    # A JSON array of names; empty text where the worker has not told them.
    Column("queues", TEXT, nullable=False, server_default=""),
    Column("host_id", TEXT, nullable=False, server_default=""),
    counter("draining"),
    # A JSON array of the names of its schedules.
    Column("schedules", TEXT, nullable=False, server_default=""),
    sqlite_autoincrement=True,
    **_strict,
)

# The state of the circuit breaker of each queue. Times are in lease time.
flow = Table(
    "durableq_flow",
    metadata,
    Column("queue_id", WHOLE, primary_key=True, nullable=False, autoincrement=False),
    # 0 is closed, 1 open, 2 half-open; trips are the times in a row that it opened.
    *map(counter, ("breaker_phase", "breaker_since_ms", "breaker_until_ms", "breaker_trips")),
    *map(counter, ("breaker_died", "breaker_judged")),
    # The counter `completed` at the start of the window, or of the probes.
    counter("breaker_completed"),
    Column("breaker_reason", TEXT, nullable=False, server_default=""),
    **_strict,
)

# The messages that failed lately, for the breaker: each counts once.
failure = Table(
    "durableq_failure",
    metadata,
    whole("queue_id"),
    whole("message_id"),
    whole("at_ms"),
    # Receives not counted; the queue's counter `completed` at the last failure.
    counter("unavailable"),
    counter("completed"),
    PrimaryKeyConstraint("queue_id", "message_id", name="durableq_failure_message"),
    sqlite_with_rowid=False,
    **_strict,
)

group = Table(
    "durableq_group",
    metadata,
    whole("queue_id"),
    Column("group_id", TEXT, nullable=False),
    # Its messages in the queue that are not blocked, and its dead letters.
    *map(counter, ("active", "holding", "tat_ns")),
    PrimaryKeyConstraint("queue_id", "group_id", name="durableq_group_id"),
    sqlite_with_rowid=False,
    **_strict,
)
Index(
    "durableq_group_idle",
    group.c.tat_ns,
    **partial((group.c.active == literal_column("0")) & (group.c.holding == literal_column("0"))),
)

deduplication = Table(
    "durableq_deduplication",
    metadata,
    whole("queue_id"),
    # The group of a message, where an id is one of its group; empty for the whole queue.
    Column("scope", TEXT, nullable=False),
    Column("deduplication_id", TEXT, nullable=False),
    whole("message_id"),
    whole("expires_at_ms"),
    PrimaryKeyConstraint("queue_id", "scope", "deduplication_id", name="durableq_deduplication_id"),
    sqlite_with_rowid=False,
    **_strict,
)
Index("durableq_deduplication_expiry", deduplication.c.expires_at_ms)

# Values that one process computes for all: see `once`.
once = Table(
    "durableq_once",
    metadata,
    Column("key", TEXT, nullable=False),
    # JSON; NULL until it has been computed.
    Column("value", TEXT),
    whole("created_at_ms"),
    whole("expires_at_ms"),
    whole("stale_until_ms"),
    # The time that the computation took, for the early refresh.
    whole("compute_ms"),
    # The process that computes it, under a lease.
    Column("owner_token", LargeBinary),
    whole("owner_until_ms"),
    Column("owner_process", TEXT, nullable=False, server_default=""),
    PrimaryKeyConstraint("key", name="durableq_once_key"),
    sqlite_with_rowid=False,
    **_strict,
)
Index("durableq_once_expiry", once.c.stale_until_ms)

# The progress of messages, as their handlers report it. A row counts while its receipt is that of
# the message's lease, so nothing that ends a lease writes here; maintenance removes the others.
progress = Table(
    "durableq_progress",
    metadata,
    whole("message_id"),
    Column("receipt", LargeBinary, nullable=False),
    Column("fraction", REAL, nullable=False),
    Column("text", TEXT, nullable=False),
    whole("at_ms"),
    PrimaryKeyConstraint("message_id", "receipt", name="durableq_progress_receipt"),
    sqlite_with_rowid=False,
    **_strict,
)

# Schedules. The times of slots are on the wall clock, not in steady time.
schedule = Table(
    "durableq_schedule",
    metadata,
    # JSON: of model.schedules.Schedule, and the periods whose slots are decided, [[start, end], …].
    *(Column(name, TEXT, nullable=False) for name in ("name", "definition", "periods")),
    # The boot of the last decision, and its distance from steady time to the wall clock.
    Column("boot_id", TEXT, nullable=False, server_default=""),
    *map(counter, ("offset_ms", "paused", "last_ms", "sent", "skipped")),
    *map(whole, ("queue_id", "next_ms")),
    PrimaryKeyConstraint("name", name="durableq_schedule_name"),
    sqlite_with_rowid=False,
    **_strict,
)

# A queue at a time: its running counters, and the numbers of its messages by state.
sample = Table(
    "durableq_sample",
    metadata,
    whole("queue_id"),
    whole("at_ms"),
    *map(whole, (*COUNTERS, *COUNTS)),
    PrimaryKeyConstraint("queue_id", "at_ms", name="durableq_sample_time"),
    sqlite_with_rowid=False,
    **_strict,
)

meta = Table(
    "durableq_meta",
    metadata,
    Column("name", TEXT, primary_key=True, nullable=False),
    Column("value", TEXT, nullable=False),
    sqlite_with_rowid=False,
    **_strict,
)
