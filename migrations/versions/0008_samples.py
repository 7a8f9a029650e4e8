"""Samples of queues over a day, for charts. A table is made; no other is touched."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

WHOLE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
COUNTERS = (
    *("sent", "moved_in", "moved_out", "completed", "duplicates", "discarded", "expired", "purged"),
    *("cancelled", "replaced", "shed", "deduplicated"),
)
COUNTS = ("ready", "delayed", "in_flight", "held", "blocked")


def whole(name: str) -> sa.Column[Any]:
    """Return a column of whole numbers that is never NULL."""
    return sa.Column(name, WHOLE, nullable=False)


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "durableq_sample",
        *map(whole, ("queue_id", "at_ms", *COUNTERS, *COUNTS)),
        sa.PrimaryKeyConstraint("queue_id", "at_ms", name="durableq_sample_time"),
        sqlite_with_rowid=False,
        sqlite_strict=True,
    )


def downgrade() -> None:
    """Refuse: a queue is restored from a backup, not downgraded."""
    raise NotImplementedError
