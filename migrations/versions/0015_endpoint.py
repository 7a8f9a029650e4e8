"""Tables of the SQS endpoint: documents of queues, deletions, and receives that are repeated."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

WHOLE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TEXT: Any = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def whole(name: str) -> sa.Column[Any]:
    """Return a column of whole numbers that is never NULL."""
    return sa.Column(name, WHOLE, nullable=False)


def text(name: str) -> sa.Column[Any]:
    """Return a column of text that is never NULL."""
    return sa.Column(name, TEXT, nullable=False)


def upgrade() -> None:
    """Make the tables and the index."""
    op.create_table(
        "durableq_queue_document",
        sa.Column("queue_id", WHOLE, primary_key=True, nullable=False, autoincrement=False),
        *map(text, ("attributes", "tags")),
        *map(whole, ("modified_at_ms", "purged_at_ms", "version")),
        sqlite_strict=True,
    )
    op.create_table(
        "durableq_deleted_queue",
        text("name"),
        whole("deleted_at_ms"),
        sa.PrimaryKeyConstraint("name", name="durableq_deleted_queue_name"),
        sqlite_with_rowid=False,
        sqlite_strict=True,
    )
    op.create_table(
        "durableq_receive_attempt",
        whole("queue_id"),
        text("attempt_id"),
        sa.Column("receipt", sa.LargeBinary, nullable=False),
        text("messages"),
        *map(whole, ("lease_until_ms", "expires_at_ms")),
        sa.PrimaryKeyConstraint("queue_id", "attempt_id", name="durableq_receive_attempt_id"),
        sqlite_with_rowid=False,
        sqlite_strict=True,
    )
    op.create_index(
        "durableq_receive_attempt_expiry", "durableq_receive_attempt", ["expires_at_ms"]
    )


def downgrade() -> None:
    """Refuse: a queue is restored from a backup, not downgraded."""
    raise NotImplementedError
