"""Tables of items, for clients of DynamoDB: two tables and an index are made."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

WHOLE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TEXT: Any = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def whole(name: str) -> sa.Column[Any]:
    """Return a column of whole numbers that is never NULL."""
    return sa.Column(name, WHOLE, nullable=False)


def text(name: str, default: str | None = None) -> sa.Column[Any]:
    """Return a column of text that is never NULL."""
    return sa.Column(name, TEXT, nullable=False, server_default=default)


def upgrade() -> None:
    """Make the tables and the index."""
    op.create_table(
        "durableq_item_table",
        sa.Column("id", WHOLE, primary_key=True, nullable=False),
        *map(text, ("account", "region", "name", "definition")),
        text("ttl_attribute", ""),
        whole("created_at_ms"),
        sa.UniqueConstraint("account", "region", "name", name="durableq_item_table_name"),
        sqlite_autoincrement=True,
        sqlite_strict=True,
    )
    op.create_table(
        "durableq_item",
        whole("table_id"),
        *map(text, ("pk", "sk", "item")),
        sa.Column("expires_at_s", WHOLE),
        sa.PrimaryKeyConstraint("table_id", "pk", "sk", name="durableq_item_key"),
        sqlite_strict=True,
    )
    is_set = sa.text("expires_at_s IS NOT NULL")
    op.create_index(
        "durableq_item_expiry",
        "durableq_item",
        ["expires_at_s"],
        sqlite_where=is_set,
        postgresql_where=is_set,
    )


def downgrade() -> None:
    """Refuse: a queue is restored from a backup, not downgraded."""
    raise NotImplementedError
