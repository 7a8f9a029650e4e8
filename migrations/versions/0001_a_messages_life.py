"""A message's life: queues, messages, idempotency records, history, workers.

Frozen: released files look like this. durableq/engines/sql/tables.py documents the columns and
their widths.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.types import UserDefinedType

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

WHOLE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

DEAD_LETTER_VIEW = """\
CREATE VIEW durableq_dead_letter AS
SELECT m.id, source.name AS queue, m.key, died.reason,
       datetime(m.enqueued_at_ms / 1000, 'unixepoch') AS died_at,
       failure.error_type, failure.error_message, failure.actor,
       m.recovery_count, m.body
FROM durableq_message AS m
JOIN durableq_queue AS source ON source.id = m.source_queue_id
LEFT JOIN durableq_history AS died ON died.id =
    (SELECT max(id) FROM durableq_history WHERE message_id = m.id AND event = 'buried')
LEFT JOIN durableq_history AS failure ON failure.id =
    (SELECT max(id) FROM durableq_history
     WHERE message_id = m.id AND event IN ('failed', 'lease_expired'))"""


class AnyType(UserDefinedType[Any]):
    """SQLite's ANY."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        """Return the type's name in a STRICT table."""
        return "ANY"


def whole(name: str, **options: Any) -> sa.Column[int]:
    """Return a column of whole numbers."""
    return sa.Column(name, WHOLE, nullable=False, **options)


def text(name: str, **options: Any) -> sa.Column[str]:
    """Return a column of text."""
    return sa.Column(name, sa.Text, nullable=False, **options)


def upgrade() -> None:
    """Make the tables, their indexes and the view."""
    create_queue()
    create_message()
    create_idempotency()
    create_history()
    create_worker_and_meta()
    op.execute(DEAD_LETTER_VIEW)


def downgrade() -> None:
    """Refuse: a queue is restored from a backup, not downgraded."""
    raise NotImplementedError


def create_queue() -> None:
    """Queues: settings, and running totals."""
    settings = (
        "created_at_ms visibility_timeout_ms delay_ms retention_ms max_receives max_recoveries "
        "backoff_base_ms backoff_max_ms idempotency_ttl_ms max_body_bytes"
    )
    counters = "sent moved_in moved_out completed duplicates discarded expired purged"
    op.create_table(
        "durableq_queue",
        sa.Column("id", WHOLE, primary_key=True, nullable=False),
        text("name"),
        sa.Column("dead_letter_queue_id", WHOLE),
        *(whole(name) for name in settings.split()),
        *(whole(name, server_default="0") for name in counters.split()),
        sa.UniqueConstraint("name", name="durableq_queue_name"),
        sqlite_strict=True,
    )


def create_message() -> None:
    """Messages, and one partial index for each state."""
    numbers = (
        "queue_id state priority deferred receive_count recovery_count "
        "lease_until_ms delayed_until_ms enqueued_at_ms sent_at_ms"
    )
    op.create_table(
        "durableq_message",
        sa.Column("id", WHOLE, primary_key=True, nullable=False),
        *(whole(name) for name in numbers.split()),
        sa.Column("receipt", sa.LargeBinary, nullable=False),
        sa.Column("source_queue_id", WHOLE),
        sa.Column("key", sa.Text),
        sa.Column("payload_hash", sa.LargeBinary),
        sa.Column("attributes", sa.Text),
        sa.Column("body", sa.LargeBinary().with_variant(AnyType(), "sqlite"), nullable=False),
        sa.CheckConstraint("state IN (0, 1, 2)", name="durableq_message_state"),
        sa.CheckConstraint("length(receipt) = 16", name="durableq_message_receipt"),
        sa.CheckConstraint(
            "(key IS NULL) = (payload_hash IS NULL)", name="durableq_message_key_has_hash"
        ),
        # Release 0.1 wrote octet_length(body), which needs SQLite 3.43; its files keep that.
        sa.CheckConstraint(
            "length(CAST(body AS BLOB)) <= 67108864", name="durableq_message_body_size"
        ),
        sqlite_autoincrement=True,
        sqlite_strict=True,
    )
    ready: list[Any] = ["queue_id", sa.text("priority DESC"), "id"]
    index("ready", ready, "state = 0")
    index("delayed", ["queue_id", "delayed_until_ms"], "state = 2")
    index("leased", ["queue_id", "lease_until_ms"], "state = 1")
    index("deferred", ["queue_id", "key"], '"deferred" = 1')


def index(name: str, columns: list[Any], where: str) -> None:
    """Make a partial index on messages."""
    op.create_index(
        f"durableq_message_{name}", "durableq_message", columns, sqlite_where=sa.text(where)
    )


def create_idempotency() -> None:
    """Idempotency records: the owner of a key, or the result of its first success."""
    op.create_table(
        "durableq_idempotency",
        whole("queue_id"),
        text("key"),
        whole("status"),
        whole("owner_message_id"),
        sa.Column("owner_receipt", sa.LargeBinary, nullable=False),
        sa.Column("payload_hash", sa.LargeBinary, nullable=False),
        sa.Column("result", sa.Text),
        whole("created_at_ms"),
        sa.Column("completed_at_ms", WHOLE),
        sa.Column("expires_at_ms", WHOLE),
        sa.PrimaryKeyConstraint("queue_id", "key", name="durableq_idempotency_key"),
        sa.CheckConstraint("status IN (0, 1)", name="durableq_idempotency_status"),
        sqlite_with_rowid=False,
        sqlite_strict=True,
    )
    op.create_index(
        "durableq_idempotency_expiry",
        "durableq_idempotency",
        ["expires_at_ms"],
        sqlite_where=sa.text("status = 1"),
    )


def create_history() -> None:
    """Exceptional events: failures, expired leases, burials, verdicts."""
    op.create_table(
        "durableq_history",
        sa.Column("id", WHOLE, primary_key=True, nullable=False),
        whole("message_id"),
        whole("queue_id"),
        whole("at_ms"),
        *map(text, ["event", "reason", "error_type", "error_message", "traceback", "actor"]),
        sa.Column("detail", sa.Text),
        sqlite_strict=True,
    )
    op.create_index("durableq_history_message", "durableq_history", ["message_id", "id"])
    op.create_index("durableq_history_queue", "durableq_history", ["queue_id", "at_ms"])


def create_worker_and_meta() -> None:
    """Workers, and facts about the whole file."""
    op.create_table(
        "durableq_worker",
        sa.Column("id", WHOLE, primary_key=True, nullable=False),
        text("name"),
        whole("pid"),
        whole("created_ms"),
        text("boot_id"),
        whole("started_at_ms"),
        whole("beat_at_ms"),
        sqlite_autoincrement=True,
        sqlite_strict=True,
    )
    op.create_table(
        "durableq_meta",
        text("name", primary_key=True),
        text("value"),
        sqlite_with_rowid=False,
        sqlite_strict=True,
    )
