"""The queues that each worker handles.

The column is added last, in place: no table is rebuilt, so the sequences continue. The queues of a
worker that was registered before are unknown (empty).
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def text(name: str) -> sa.Column[str]:
    """Return a column of text, empty in existing rows."""
    return sa.Column(name, sa.Text, nullable=False, server_default="")


def upgrade() -> None:
    """Add the column."""
    op.add_column("durableq_worker", text("queues"))


def downgrade() -> None:
    """Refuse: a queue is restored from a backup, not downgraded."""
    raise NotImplementedError
