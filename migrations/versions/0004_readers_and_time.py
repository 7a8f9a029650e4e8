"""The queues that each worker handles.

Columns are added behind the others, in place: no table is made anew, so the sequences go on. A
worker that was registered before is taken for one that has not told its queues.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def text(name: str) -> sa.Column[str]:
    """Return a column of text, empty in the rows that are there."""
    return sa.Column(name, sa.Text, nullable=False, server_default="")


def upgrade() -> None:
    """Add the columns."""
    op.add_column("durableq_worker", text("queues"))


def downgrade() -> None:
    """Refuse: a queue is restored from a backup, not downgraded."""
    raise NotImplementedError
