"""A worker's pid namespace: in another container its pid is another process's.

The column is added behind the others, in place: the table is not made anew, so its sequence goes
on and no worker is given the mark of an earlier one.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; of the workers that are there, it is not known."""
    op.add_column(
        "durableq_worker",
        sa.Column("pid_namespace", sa.Text, nullable=False, server_default=""),
    )


def downgrade() -> None:
    """Refuse: a queue is restored from a backup, not downgraded."""
    raise NotImplementedError
