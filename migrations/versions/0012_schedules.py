"""Schedules, and those of each worker: a table is made, a column is added in place."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

WHOLE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TEXT: Any = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def whole(name: str, default: str | None = None) -> sa.Column[Any]:
    """Return a column of whole numbers that is never NULL."""
    return sa.Column(name, WHOLE, nullable=False, server_default=default)


def text(name: str, default: str | None = None) -> sa.Column[Any]:
    """Return a column of text that is never NULL."""
    return sa.Column(name, TEXT, nullable=False, server_default=default)


def upgrade() -> None:
    """Make the table, and add the column."""
    op.create_table(
        "durableq_schedule",
        *map(text, ("name", "definition", "periods")),
        text("boot_id", ""),
        *(whole(name, "0") for name in ("offset_ms", "paused", "last_ms", "sent", "skipped")),
        *map(whole, ("queue_id", "next_ms")),
        sa.PrimaryKeyConstraint("name", name="durableq_schedule_name"),
        sqlite_with_rowid=False,
        sqlite_strict=True,
    )
    op.add_column("durableq_worker", text("schedules", ""))


def downgrade() -> None:
    """Refuse: a queue is restored from a backup, not downgraded."""
    raise NotImplementedError
