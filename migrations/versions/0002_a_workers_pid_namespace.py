"""A worker's pid namespace: in another container its pid is another process's.

The column is added last, in place: the table is not rebuilt, so its sequence continues and no
worker gets the id of an earlier one.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; it is unknown (empty) for existing workers."""
    op.add_column(
        "durableq_worker",
        sa.Column("pid_namespace", sa.Text, nullable=False, server_default=""),
    )


def downgrade() -> None:
    """Refuse: a queue is restored from a backup, not downgraded."""
    raise NotImplementedError
