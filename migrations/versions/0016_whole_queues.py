"""Redrive tasks of a whole queue: which queue, how far, and why one failed."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

WHOLE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TEXT: Any = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
TASK = "durableq_redrive_task"


def upgrade() -> None:
    """Add the columns and the index. `renews_id` was never used: all its values are 0."""
    op.execute(f"ALTER TABLE {TASK} RENAME COLUMN renews_id TO cursor_rank")
    op.add_column(TASK, sa.Column("queue_id", WHOLE))
    op.add_column(TASK, sa.Column("failure", TEXT, nullable=False, server_default=""))
    is_running: Any = sa.text("state = 'running'")
    op.create_index(
        "durableq_redrive_task_running",
        TASK,
        ["queue_id"],
        unique=True,
        sqlite_where=is_running,
        postgresql_where=is_running,
    )


def downgrade() -> None:
    """Refuse: a queue is restored from a backup, not downgraded."""
    raise NotImplementedError
