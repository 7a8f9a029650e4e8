"""The SQS endpoint's tables: documents of queues, deletions, and repeated receives."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Column, Index, LargeBinary, PrimaryKeyConstraint, Table

from durableq.engines.sql.definitions.kinds import TEXT, WHOLE, whole
from durableq.engines.sql.definitions.tables import metadata

_strict: dict[str, Any] = {"sqlite_strict": True}

# Attributes of a queue that are no settings, and tags, as JSON.
queue_document = Table(
    "durableq_queue_document",
    metadata,
    Column("queue_id", WHOLE, primary_key=True, nullable=False, autoincrement=False),
    *(Column(name, TEXT, nullable=False) for name in ("attributes", "tags")),
    *map(whole, ("modified_at_ms", "purged_at_ms", "version")),
    **_strict,
)

# Deletions, for a while: the name must not be used again at once.
deleted_queue = Table(
    "durableq_deleted_queue",
    metadata,
    Column("name", TEXT, nullable=False),
    whole("deleted_at_ms"),
    PrimaryKeyConstraint("name", name="durableq_deleted_queue_name"),
    sqlite_with_rowid=False,
    **_strict,
)

# A receive that a client may repeat under its id: its messages, a JSON array of ids, and their
# lease. It counts while all of them have that lease.
receive_attempt = Table(
    "durableq_receive_attempt",
    metadata,
    whole("queue_id"),
    Column("attempt_id", TEXT, nullable=False),
    Column("receipt", LargeBinary, nullable=False),
    Column("messages", TEXT, nullable=False),
    *map(whole, ("lease_until_ms", "expires_at_ms")),
    PrimaryKeyConstraint("queue_id", "attempt_id", name="durableq_receive_attempt_id"),
    sqlite_with_rowid=False,
    **_strict,
)
Index("durableq_receive_attempt_expiry", receive_attempt.c.expires_at_ms)
