"""Queues that bury at a receive, and redrive tasks of a whole queue: columns added in place."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

WHOLE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def whole(name: str) -> sa.Column[Any]:
    """Return a column of whole numbers that begins at 0."""
    return sa.Column(name, WHOLE, nullable=False, server_default="0")


def upgrade() -> None:
    """Add the columns."""
    op.add_column("durableq_queue", whole("bury_at"))
    for name in ("last_message", "renews_id"):
        op.add_column("durableq_redrive_task", whole(name))


def downgrade() -> None:
    """Refuse: a queue is restored from a backup, not downgraded."""
    raise NotImplementedError
