"""PostgreSQL reads no checks of rows any more: a statement that writes took a quarter longer."""

from __future__ import annotations

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

CHECKS = {
    "durableq_message": ("state", "receipt", "key_has_hash", "body_size"),
    "durableq_idempotency": ("status",),
}


def upgrade() -> None:
    """Drop the checks on PostgreSQL; SQLite has them in its programs, and keeps them."""
    if op.get_bind().dialect.name == "sqlite":
        return
    for table, names in CHECKS.items():
        for name in names:
            op.drop_constraint(f"{table}_{name}", table, type_="check")


def downgrade() -> None:
    """Refuse: a queue is restored from a backup, not downgraded."""
    raise NotImplementedError
